"""How much of the collector's memory batches may hold at once; what is more is asked to wait."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from collector.identity.problem import unavailable


class Admission:
    """A budget of bytes, as sent, for batches between their first byte and their answer.

    It never queues: a probe has a spool on disk, which is a better queue than this memory.
    """

    def __init__(self, budget: int, gauge: Gauge) -> None:
        self._free = budget
        self._gauge = gauge

    @contextmanager
    def admitted(self, size: int) -> Iterator[None]:
        """Hold `size` bytes of the budget; a 503 with Retry-After if that much is not free."""
        if size > self._free:
            raise unavailable("too many batches at once, send this one again later")
        self._free -= size
        self._gauge.inc(size)
        try:
            yield
        finally:
            self._free += size
            self._gauge.dec(size)
