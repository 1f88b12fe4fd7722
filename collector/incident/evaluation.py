"""Goes through the windows of the store in the order of packet time and keeps the incidents.

The clock is the data's: a window is complete once packets `settle` later have been stored, or once
nothing has come for `settle` of real time, as at the end of a replay. Each window is looked at
once; what arrives for it later counts in the store and no longer here. Data older than the last
window looked at opens nothing.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from collector.errors import CollectorError
from collector.identity.state import StateDatabase
from collector.incident import book, measure
from collector.incident.incident import Incident, Patience, continued, opened
from collector.incident.judgement import Kind, Thresholds, Verdict, judge, kinds_of
from collector.incident.measure import Extent, Questions
from collector.incident.window import CellWindow
from collector.metrics import Metrics
from collector.qoe import Models

_LOOK_BACK_S: Final = 86_400  # of packet time: how far an evaluation reaches after a long pause
_EVALUATION_TIMEOUT_S: Final = 120.0

_log = logging.getLogger(__name__)

Key = tuple[str, str, Kind]  # cell and capture point, one of them empty
OpenIncidents = dict[Key, Incident]


@dataclass(frozen=True)
class Rules:
    """How incidents are made. Times in seconds."""

    width_s: int  # of a window
    settle_s: int  # how late records may come
    thresholds: Thresholds
    patience: Patience
    preferred: tuple[str, ...] = ()  # capture points that speak for a cell before busier ones


class Evaluator:
    """Evaluates on demand and, by `run`, again and again."""

    def __init__(
        self,
        store: Questions,
        models: Models,
        database: StateDatabase,
        metrics: Metrics,
        *,
        rules: Rules,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._models = models
        self._database = database
        self._metrics = metrics
        self._rules = rules
        self._clock = clock
        self._lock = asyncio.Lock()

    async def run(self, every_s: float) -> None:
        """Evaluate every `every_s` seconds until cancelled; a failure is counted and logged."""
        while True:
            try:
                await self.evaluate()
            except (CollectorError, TimeoutError) as error:
                self._metrics.evaluation_failures.inc()
                _log.warning("incidents: %s", error or "the evaluation took too long")
            except Exception:  # a fault here must not stop the taking of batches
                self._metrics.evaluation_failures.inc()
                _log.exception("incidents: the evaluation failed")
            await asyncio.sleep(every_s)

    async def evaluate(self) -> int:
        """Look at every complete window since the last time; return how many there were."""
        async with asyncio.timeout(_EVALUATION_TIMEOUT_S), self._lock:
            span = await self._due()
            if span is None:
                return 0
            return await self._evaluate(*span)

    async def _due(self) -> tuple[int, int] | None:
        """Return the span of whole windows to look at, None if there is none."""
        extent = await measure.extent(self._store)
        if extent is None:
            return None
        width = self._rules.width_s
        until = self._complete_until(extent) // width * width
        done = await self._database.read(book.evaluated_until)
        first = extent.first // width * width
        since = max(first if done is None else done, until - _LOOK_BACK_S // width * width)
        return (since, until) if since < until else None

    def _complete_until(self, extent: Extent) -> int:
        if extent.received_at + self._rules.settle_s <= self._clock():
            # Nothing more will come for the minute of the last record, so its window is whole.
            return extent.last + self._rules.width_s
        return extent.last - self._rules.settle_s

    async def _evaluate(self, since: int, until: int) -> int:
        width = self._rules.width_s
        by_start = await self._windows(measure.Span(since, until, width))
        known = await self._database.read(book.open_incidents)
        open_ones: OpenIncidents = {
            (one.cell_id, one.capture_point, one.kind): one for one in known
        }
        changed: dict[str, Incident] = {}
        for start in range(since, until, width):
            for incident in self._after(open_ones, by_start.get(start, []), start):
                changed[incident.id] = incident
        await self._database.run(partial(book.save, changed=changed.values(), until=until))
        self._metrics.open_incidents.set(len(open_ones))
        return (until - since) // width

    async def _windows(self, span: measure.Span) -> dict[int, list[CellWindow]]:
        preferred = self._rules.preferred
        found = await measure.windows(self._store, self._models, span, preferred)
        judged = sorted({name for name, _ in self._rules.thresholds.shares})
        for start, of_taps in (await measure.share_windows(self._store, span, judged)).items():
            found.setdefault(start, []).extend(of_taps)
        return found

    def _after(
        self, open_ones: OpenIncidents, windows: Sequence[CellWindow], start: int
    ) -> Iterable[Incident]:
        """Yield the incidents that the windows at `start` change, and keep `open_ones` in step."""
        by_place = {(window.cell_id, window.capture_point): window for window in windows}
        fresh = ((*place, kind) for place, window in by_place.items() for kind in kinds_of(window))
        for key in dict.fromkeys((*open_ones, *fresh)):
            window = by_place.get(key[:2])
            incident = self._step(open_ones.pop(key, None), key[2], window, start)
            if incident is None:
                continue
            if incident.closed_at is None:
                open_ones[key] = incident
            yield incident

    def _step(
        self, incident: Incident | None, kind: Kind, window: CellWindow | None, start: int
    ) -> Incident | None:
        rules = self._rules
        verdict = judge(window, kind, rules.thresholds) if window else Verdict.UNKNOWN
        if incident is not None:
            return continued(incident, verdict, window, start + rules.width_s, rules.patience)
        if window is None or verdict is not Verdict.BAD:
            return None
        place = window.cell_id or f"at {window.capture_point}"
        return opened(_id(place, kind, start), kind, window, rules.width_s)


def _id(place: str, kind: Kind, start: int) -> str:
    """Return the id, the same whenever the same data is evaluated afresh."""
    return hashlib.sha256(f"{place} {kind} {start}".encode()).hexdigest()[:16]
