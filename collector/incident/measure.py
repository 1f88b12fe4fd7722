"""Windows from the store: one question for the sums, one for who failed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from collector.incident.window import CellWindow, Score

_WINDOW: Final = "toUInt32(intDiv(toUnixTimestamp(s.time), {width:UInt32}) * {width:UInt32})"
_RANGE: Final = (
    "toStartOfHour(s.time) >= toStartOfHour(toDateTime({since:UInt32}, 'UTC'))"
    " AND s.time >= toDateTime({since:UInt32}, 'UTC')"
    " AND s.time < toDateTime({until:UInt32}, 'UTC') AND s.cell_id != ''"
)
_SUMS: Final = f"""
SELECT s.cell_id AS cell_id, {_WINDOW} AS start,
    sum(s.attempts) AS attempts, sum(s.failures) AS failures,
    uniqMerge(s.subscribers) AS subscribers, sumMap(s.causes) AS causes
FROM cell_minute AS s WHERE {_RANGE} GROUP BY cell_id, start ORDER BY start, cell_id
"""
_FAILING: Final = f"""
SELECT s.cell_id AS cell_id, {_WINDOW} AS start, uniqMerge(s.subscribers) AS failing
FROM failure_minute AS s WHERE {_RANGE} GROUP BY cell_id, start
"""
_EXTENT: Final = """
SELECT toUInt32(min(s.time)) AS first, toUInt32(max(s.time)) AS last,
    toUInt32(max(s.received_at)) AS received_at, count() AS rows
FROM cell_minute AS s WHERE s.cell_id != ''
"""


class Questions(Protocol):
    """What incidents need of the store."""

    async def fetch(self, sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]: ...


class Scores(Protocol):
    """What incidents need of QoE: the score of each (cell_id, window start) with enough samples."""

    async def cells(self, since: int, until: int, width: int) -> dict[tuple[str, int], Score]: ...


@dataclass(frozen=True)
class Extent:
    """First and last minute of packet time in the store, and when its newest rows came (Unix s)."""

    first: int
    last: int
    received_at: int


async def extent(store: Questions) -> Extent | None:
    """Return what time the cells' data spans, None without any."""
    (row,) = await store.fetch(_EXTENT, {})
    if not row["rows"]:
        return None
    return Extent(row["first"], row["last"], row["received_at"])


async def windows(
    store: Questions, scores: Scores, since: int, until: int, width: int
) -> dict[int, list[CellWindow]]:
    """Return the cells' windows with any session in [since, until), by their start."""
    bounds = {"since": since, "until": until, "width": width}
    sums = await store.fetch(_SUMS, bounds)
    failing = {
        (row["cell_id"], row["start"]): int(row["failing"])
        for row in await store.fetch(_FAILING, bounds)
    }
    scored = await scores.cells(since, until, width)
    found: dict[int, list[CellWindow]] = {}
    for row in sums:
        key = (row["cell_id"], row["start"])
        window = _window(row, failing.get(key, 0), scored.get(key))
        found.setdefault(window.start, []).append(window)
    return found


def _window(row: Mapping[str, Any], failing: int, qoe: Score | None) -> CellWindow:
    return CellWindow(
        cell_id=row["cell_id"],
        start=row["start"],
        attempts=int(row["attempts"]),
        failures=int(row["failures"]),
        subscribers=int(row["subscribers"]),
        failing_subscribers=failing,
        causes={cause: int(count) for cause, count in row["causes"].items()},
        qoe=qoe,
    )
