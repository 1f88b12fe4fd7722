"""Windows from the store: questions for the sums, for who failed, and for what QoE is made of."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from collector.incident.window import CellWindow
from collector.qoe import Measured, Models, Score, combine, score

_WINDOW: Final = "toUInt32(intDiv(toUnixTimestamp(s.time), {width:UInt32}) * {width:UInt32})"
_KEYS: Final = f"s.cell_id AS cell_id, {_WINDOW} AS start, s.capture_point AS capture_point"
_RANGE: Final = (
    "toStartOfHour(s.time) >= toStartOfHour(toDateTime({since:UInt32}, 'UTC'))"
    " AND s.time >= toDateTime({since:UInt32}, 'UTC')"
    " AND s.time < toDateTime({until:UInt32}, 'UTC') AND s.cell_id != ''"
)
_SUMS: Final = f"""
SELECT {_KEYS}, sum(s.sessions) AS sessions,
    sum(s.attempts) AS attempts, sum(s.failures) AS failures,
    uniqMerge(s.subscribers) AS subscribers, sumMap(s.causes) AS causes
FROM cell_minute AS s WHERE {_RANGE} GROUP BY cell_id, start, capture_point
ORDER BY start, cell_id, sessions, capture_point
"""
_FAILING: Final = f"""
SELECT {_KEYS}, uniqMerge(s.subscribers) AS failing
FROM failure_minute AS s WHERE {_RANGE} GROUP BY cell_id, start, capture_point
"""
_MEASURED: Final = f"""
SELECT {_KEYS}, s.service_class AS service_class,
    sumMap(s.rtt_client_histogram) AS histogram,
    sum(s.client_lost_packets) AS lost_packets, sum(s.client_loss_base_packets) AS base_packets,
    if(uniqMerge(s.subscribers) > 0, uniqMerge(s.subscribers), sum(s.sessions)) AS clusters
FROM cell_minute AS s WHERE {_RANGE} GROUP BY cell_id, start, capture_point, service_class
"""
_EXTENT: Final = """
SELECT toUInt32(min(s.time)) AS first, toUInt32(max(s.time)) AS last,
    toUInt32(max(s.received_at)) AS received_at, count() AS rows
FROM cell_minute AS s WHERE s.cell_id != ''
"""


class Questions(Protocol):
    """What incidents need of the store."""

    async def fetch(self, sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]: ...


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
    store: Questions, models: Models, since: int, until: int, width: int
) -> dict[int, list[CellWindow]]:
    """Return the cells' windows with any session in [since, until), by their start."""
    bounds = {"since": since, "until": until, "width": width}
    sums = await store.fetch(_SUMS, bounds)
    failing = {_key(row): int(row["failing"]) for row in await store.fetch(_FAILING, bounds)}
    scores = _scores(models, await store.fetch(_MEASURED, bounds))
    found: dict[int, dict[str, CellWindow]] = {}
    for row in sums:
        key = _key(row)
        window = _window(row, failing.get(key, 0), scores.get(key))
        # Two taps may see the same sessions, so capture points are not added up: the rows come in
        # the order of sessions, and the busiest one speaks for the cell.
        found.setdefault(window.start, {})[window.cell_id] = window
    return {start: list(by_cell.values()) for start, by_cell in found.items()}


Key = tuple[str, int, str]  # cell_id, start of the window, capture_point


def _key(row: Mapping[str, Any]) -> Key:
    return row["cell_id"], row["start"], row["capture_point"]


def _scores(models: Models, rows: Iterable[Mapping[str, Any]]) -> dict[Key, Score]:
    by_class: dict[Key, list[Score]] = {}
    for row in rows:
        measured = Measured(
            row["histogram"],
            int(row["lost_packets"]),
            int(row["base_packets"]),
            int(row["clusters"]),
        )
        of_class = score(models, row["service_class"], measured)
        by_class.setdefault(_key(row), []).append(of_class)
    return {key: combine(models, scores) for key, scores in by_class.items()}


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
