"""Session records in the form that they have in JSON."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from collector.query.cursor import Cursor
from collector.query.plan import Ask, conditions
from collector.query.times import Span
from collector.store import Store
from probe.record.codec import time_to_text
from probe.record.enums import RecordFlag
from probe.record.schema import COLUMNS, Column, Meaning

Row = dict[str, Any]
Key = tuple[int, int, int, str, int, int]

# Newest first. A capture that is replayed gives the same sessions in another batch. What one batch
# holds twice is told apart by the last columns, so that pages see it in one order.
_ORDER: Final = (
    "s.start_time", "s.session_id", "s.interval_index", "s.probe_id", "s.epoch", "s.sequence",
)  # fmt: skip
_WITHIN: Final = ("s.end_time", "s.capture_point", "s.record_kind", "s.bytes_up", "s.bytes_down")


@dataclass(frozen=True)
class Position:
    """Where a walk through records goes on."""

    key: Key  # of the last record told, in the order of `_ORDER`
    told: int  # records with this very key that were told


async def records(store: Store, ask: Ask, after: Position | None, limit: int) -> list[Row]:
    """Return raw rows, newest first, that come after the record at `after`."""
    query = conditions(ask, None)
    skipped = 0
    if after is not None:
        start, session, interval, probe, epoch, sequence = after.key
        bound = (
            f"fromUnixTimestamp64Nano({query.bind(start, 'Int64')}, 'UTC')",
            query.bind(session, "UInt64"),
            query.bind(interval, "UInt32"),
            query.bind(probe, "String"),
            query.bind(epoch, "UInt64"),
            query.bind(sequence, "UInt64"),
        )
        query.where.append(f"({', '.join(_ORDER)}) <= ({', '.join(bound)})")
        skipped = after.told
    columns = ", ".join(_selected(column) for column in COLUMNS)
    sql = (
        f"SELECT {columns}, s.probe_id AS probe_id, s.service AS service,"
        " s.service_class AS service_class, s.epoch AS epoch, s.sequence AS sequence,"
        " toUnixTimestamp64Nano(s.received_at) AS received_at"
        f" FROM sessions AS s WHERE {' AND '.join(query.where)}"
        f" ORDER BY {', '.join(f'{name} DESC' for name in (*_ORDER, *_WITHIN))}"
        f" LIMIT {limit:d} OFFSET {skipped:d}"
    )
    return await store.fetch(sql, query.parameters)


def position(rows: list[Row], after: Position | None) -> Position:
    """Return where the walk goes on once `rows`, not empty, that came `after` are told."""
    keys = [_key(row) for row in rows]
    last = keys[-1]
    before = after.told if after is not None and after.key == last else 0
    return Position(last, before + keys.count(last))


def _key(row: Row) -> Key:
    return (
        row["start_time"], row["session_id"], row["interval_index"],
        row["probe_id"], row["epoch"], row["sequence"],
    )  # fmt: skip


def cursor_after(position: Position, mark: str, span: Span) -> Cursor:
    """Return the cursor that holds `position`."""
    return Cursor(
        mark=mark,
        start=span.start,
        end=span.end,
        probe_id=position.key[3],
        position=[*position.key[:3], *position.key[4:], position.told],
    )


def position_in(cursor: Cursor) -> Position:
    """Return the position that `cursor_after` put into `cursor`."""
    start, session, interval, epoch, sequence, told = cursor.position
    return Position((start, session, interval, cursor.probe_id, epoch, sequence), told)


def told(row: Row) -> Row:
    """Return a raw row as a record in JSON, with what the collector added."""
    record: Row = {"probe_id": row["probe_id"]}
    for column in COLUMNS:
        value = row[column.name]
        record[column.name] = None if value is None else _SHOW[column.meaning](value)
    record["service"] = row["service"] or None
    record["service_class"] = row["service_class"]
    record["received_at"] = time_to_text(row["received_at"])
    return record


def _selected(column: Column) -> str:
    form = _SELECT.get(column.meaning, "{}")
    return f"{form.format(f's.{column.name}')} AS {column.name}"


# Bytes come as hex digits and times as ns: what the driver would make of them loses something.
_SELECT: Final = {
    Meaning.TIME_NS: "toUnixTimestamp64Nano({})",
    Meaning.PSEUDONYM: "lower(hex({}))",
    Meaning.IP: "hex({})",
}


def _histogram(value: dict[int, int]) -> dict[str, int] | None:
    return {str(bucket): count for bucket, count in value.items()} or None


def _same(value: Any) -> Any:
    return value


_SHOW: Final[dict[Meaning, Callable[[Any], Any]]] = {
    Meaning.COUNT: _same,
    Meaning.VALUE: _same,
    Meaning.TEXT: lambda value: value or None,
    Meaning.TIME_NS: time_to_text,
    Meaning.SESSION_ID: lambda value: f"{value:016x}",
    Meaning.PSEUDONYM: lambda value: value or None,
    Meaning.IP: lambda value: str(ipaddress.ip_address(bytes.fromhex(value))),
    Meaning.HISTOGRAM: _histogram,
    Meaning.CODES: lambda value: value.split(",") if value else [],
    Meaning.BOOLEAN: bool,
    Meaning.FLAGS: lambda value: [str(f.name).lower() for f in RecordFlag if value & f],
}
