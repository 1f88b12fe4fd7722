"""Session records in the form that they have in JSON."""

import ipaddress
from collections.abc import Callable
from typing import Any, Final

from collector.query.plan import Ask, conditions
from collector.store import Store
from probe.record.codec import time_to_text
from probe.record.enums import RecordFlag
from probe.record.schema import COLUMNS, Column, Meaning

Row = dict[str, Any]
Position = tuple[int, int, int]  # start_time, session_id, interval_index of the last record told

_ADDED: Final = ("probe_id", "service", "service_class", "received_at")


async def records(store: Store, ask: Ask, after: Position | None, limit: int) -> list[Row]:
    """Return raw rows, newest first, that come after the record at `after`."""
    query = conditions(ask, None)
    order = "s.start_time", "s.session_id", "s.interval_index"
    if after is not None:
        time = f"fromUnixTimestamp64Nano({query.bind(after[0], 'Int64')}, 'UTC')"
        session, interval = query.bind(after[1], "UInt64"), query.bind(after[2], "UInt32")
        query.where.append(f"({', '.join(order)}) < ({time}, {session}, {interval})")
    columns = ", ".join(_selected(column) for column in COLUMNS)
    sql = (
        f"SELECT {columns}, s.probe_id AS probe_id, s.service AS service,"
        " s.service_class AS service_class,"
        " toUnixTimestamp64Nano(s.received_at) AS received_at"
        f" FROM sessions AS s WHERE {' AND '.join(query.where)}"
        f" ORDER BY {', '.join(f'{name} DESC' for name in order)} LIMIT {limit:d}"
    )
    return await store.fetch(sql, query.parameters)


def position(row: Row) -> Position:
    """Return where a raw row stands in the order of records."""
    return row["start_time"], row["session_id"], row["interval_index"]


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
