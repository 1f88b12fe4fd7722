"""What a batch holds beside records: its head, ledger, links and paths, as rows of JSON.

Their content is not part of the record contract, so it is kept as sent, as JSON text; what the
collector asks about is taken out of it where it has the expected form.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from collector.store.arrow import LAST_TIME_NS, StoredBatch
from collector.store.links import OPEN_NS
from probe.record.codec import time_to_text

MAX_COUNTERS: Final = 256  # of one interface in one batch
MAX_WORD: Final = 128  # characters of a name that becomes a dictionary value
_INTERFACE_KEYS: Final = ("interface", "name")

Row = dict[str, Any]


def small_rows(entries: Sequence[StoredBatch]) -> dict[str, list[Row]]:
    """Return the rows for each small table, `batches` last: its row says that all else is in."""
    return {
        "ledger": [row for entry in entries for row in _ledger_rows(entry)],
        "links": [row for entry in entries for row in _link_rows(entry)],
        "paths": [
            {**_key(entry), "entry": _json(path)} for entry in entries for path in entry.batch.paths
        ],
        "batches": [_batch_row(entry) for entry in entries],
    }


def to_lines(rows: list[Row]) -> bytes:
    """Return `rows` as JSON, one a line."""
    return "\n".join(_json(row) for row in rows).encode()


def _key(entry: StoredBatch) -> Row:
    return {
        "probe_id": entry.batch.probe_id,
        "epoch": entry.batch.epoch,
        "sequence": entry.batch.sequence,
        "received_at": _time(entry.received_at),
    }


def _batch_row(entry: StoredBatch) -> Row:
    batch = entry.batch
    return {
        **_key(entry),
        "created_at": _time(batch.created_at),
        "schema_version": min(batch.schema_version, (1 << 32) - 1),
        "rows": batch.rows,
        "health": _json(batch.health),
        "gaps": _json(batch.gaps),
    }


def _time(time_ns: int) -> str:
    """Return ns since the epoch in the form that the engine reads."""
    return time_to_text(min(time_ns, LAST_TIME_NS)).rstrip("Z")


def _ledger_rows(entry: StoredBatch) -> Iterator[Row]:
    for ledger in entry.batch.ledger:
        key = _key(entry) | {"interface": _interface(ledger)}
        for counter, reason, packets in list(_counters(ledger))[:MAX_COUNTERS]:
            yield key | {"counter": counter, "reason": reason, "packets": packets}


def _interface(ledger: Mapping[str, Any]) -> str:
    for name in _INTERFACE_KEYS:
        if isinstance(ledger.get(name), str):
            return str(ledger[name])[:MAX_WORD]
    return ""


def _counters(ledger: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield (counter, reason, packets); a counter that is a map is split by its keys."""
    for counter, value in ledger.items():
        if isinstance(value, dict):
            yield from (
                (counter[:MAX_WORD], str(reason)[:MAX_WORD], packets)
                for reason, packets in value.items()
                if _is_count(packets)
            )
        elif _is_count(value):
            yield counter[:MAX_WORD], "", value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _link_rows(entry: StoredBatch) -> Iterator[Row]:
    for link in entry.batch.links:
        yield {
            **_key(entry),
            "from_id": _pseudonym(link.get("from")),
            "to_id": _pseudonym(link.get("to")),
            "since_ns": _moment(link.get("since"), 0),
            "until_ns": _moment(link.get("until"), OPEN_NS),
            "entry": _json(link),
        }


def _pseudonym(value: object) -> str:
    """Return a subscriber's pseudonym as 32 hex digits, empty if `value` is none."""
    if isinstance(value, bytes) and len(value) == 16:
        return value.hex()
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32}", value):
        return value
    return ""


def _moment(value: object, unknown: int) -> int:
    """Return ns since the Unix epoch, `unknown` if `value` is no such number."""
    return min(int(str(value)), OPEN_NS) if _is_count(value) else unknown


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, default=_plain)


def _plain(value: object) -> object:
    """Give what msgpack has and JSON has not: bytes become hex digits."""
    return value.hex() if isinstance(value, bytes) else str(value)
