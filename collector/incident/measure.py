"""Windows from the store: questions for the sums, for who failed, and for what QoE is made of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from collector.incident.judgement import SHARE_KINDS
from collector.incident.window import CellWindow
from collector.qoe import Measured, Models, Score, combine, score

_WINDOW: Final = "toUInt32(intDiv(toUnixTimestamp(s.time), {width:UInt32}) * {width:UInt32})"
_KEYS: Final = f"s.cell_id AS cell_id, {_WINDOW} AS start, s.capture_point AS capture_point"
_TIMES: Final = (
    "toStartOfHour(s.time) >= toStartOfHour(toDateTime({since:UInt32}, 'UTC'))"
    " AND s.time >= toDateTime({since:UInt32}, 'UTC')"
    " AND s.time < toDateTime({until:UInt32}, 'UTC')"
)
_RANGE: Final = f"{_TIMES} AND s.cell_id != ''"
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
_SHARES: Final = f"""
SELECT s.capture_point AS capture_point, {_WINDOW} AS start,
    sum(s.attributable_bytes) AS base, sum(s.subscriber_bytes) AS subscriber,
    sum(s.cell_bytes) AS cell, sum(s.ran_node_bytes) AS ran_node
FROM cell_minute AS s WHERE {_TIMES} AND s.capture_point IN {{capture_points:Array(String)}}
GROUP BY capture_point, start HAVING base > 0 ORDER BY start, capture_point
"""
_EXTENT: Final = """
SELECT toUInt32(min(s.time)) AS first, toUInt32(max(s.time)) AS last,
    toUInt32(max(s.received_at)) AS received_at, count() AS rows
FROM cell_minute AS s
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


@dataclass(frozen=True)
class Span:
    """Windows of `width` seconds in [since, until), Unix seconds."""

    since: int
    until: int
    width: int

    def bound(self) -> dict[str, Any]:
        return {"since": self.since, "until": self.until, "width": self.width}


async def windows(
    store: Questions, models: Models, span: Span, preferred: Sequence[str] = ()
) -> dict[int, list[CellWindow]]:
    """Return the cells' windows with any session in `span`, by their start.

    Of the capture points that see a cell the first of `preferred` speaks for it, else the busiest.
    """
    bounds = span.bound()
    sums = await store.fetch(_SUMS, bounds)
    failing = {_key(row): int(row["failing"]) for row in await store.fetch(_FAILING, bounds)}
    scores = _scores(models, await store.fetch(_MEASURED, bounds))
    found: dict[int, dict[str, CellWindow]] = {}
    for row in _by_preference(sums, preferred):
        key = _key(row)
        window = _window(row, failing.get(key, 0), scores.get(key))
        # Two taps may see the same sessions, so capture points are not added up: the rows come in
        # the order of preference and sessions, and the last one speaks for the cell.
        found.setdefault(window.start, {})[window.cell_id] = window
    return {start: list(by_cell.values()) for start, by_cell in found.items()}


def _by_preference(
    rows: Iterable[Mapping[str, Any]], preferred: Sequence[str]
) -> list[Mapping[str, Any]]:
    """Return `rows` with the preferred capture points last, the most preferred at the end."""
    rank = {name: number for number, name in enumerate(reversed(preferred))}
    return sorted(rows, key=lambda row: rank.get(row["capture_point"], -1))


async def share_windows(
    store: Questions, span: Span, capture_points: Iterable[str]
) -> dict[int, list[CellWindow]]:
    """Return the windows of capture points with any bytes in `span`, by their start."""
    bounds = {**span.bound(), "capture_points": list(capture_points)}
    found: dict[int, list[CellWindow]] = {}
    for row in await store.fetch(_SHARES, bounds) if bounds["capture_points"] else ():
        found.setdefault(row["start"], []).append(_share_window(row))
    return found


def _share_window(row: Mapping[str, Any]) -> CellWindow:
    base = int(row["base"])
    return CellWindow(
        cell_id="",
        start=row["start"],
        attempts=0,
        failures=0,
        subscribers=0,
        failing_subscribers=0,
        capture_point=row["capture_point"],
        attributable_bytes=base,
        shares={kind: int(row[kind.removesuffix("_share")]) / base for kind in SHARE_KINDS},
    )


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
