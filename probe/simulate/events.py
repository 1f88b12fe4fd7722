"""The simulated clock: events in the order of their time, ties in the order of their making."""

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any


class Timeline:
    """A discrete-event clock. Times are integer microseconds since the simulation's start."""

    def __init__(self) -> None:
        self.now = 0
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()

    def at(self, time_us: int, action: Callable[..., None], *arguments: object) -> None:
        """Call `action(*arguments)` at `time_us`, which must not lie in the past."""
        heapq.heappush(self._events, (time_us, next(self._order), action, arguments))

    def after(self, delay_us: int, action: Callable[..., None], *arguments: object) -> None:
        """Call `action(*arguments)` in `delay_us` microseconds."""
        self.at(self.now + delay_us, action, *arguments)

    def run(self, until_us: int) -> None:
        """Carry out every event earlier than `until_us`; later ones stay for the next call."""
        events = self._events
        while events and events[0][0] < until_us:
            self.now, _, action, arguments = heapq.heappop(events)
            action(*arguments)
        self.now = until_us
