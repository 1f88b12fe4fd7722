"""Links between a session's ends and the tap: delay, rate, loss, and never a change of order."""

from dataclasses import dataclass
from random import Random


@dataclass(eq=False, slots=True)
class Queue:
    """What waits before a transmitter; several links may share one."""

    longest_us: int | None = None  # a packet that would wait longer is dropped; None: no bound
    idle_from_us: int = 0


@dataclass(frozen=True)
class LinkQuality:
    """What a link does to packets. One way; a round trip takes two links."""

    delay_us: int
    loss: float  # probability that a packet is lost
    rate_bps: int
    jitter_us: int = 0  # added to the delay, evenly distributed from 0
    queue: Queue | None = None  # shared with other links; None: the link's own


class Link:
    """One direction of one link: first in, first out."""

    def __init__(self, random: Random, quality: LinkQuality) -> None:
        self._random = random
        self._quality = quality
        self._queue = Queue()
        self._last_arrival_us = 0

    def change(self, quality: LinkQuality) -> None:
        """Go on with `quality`; what is under way stays so, and in order."""
        self._quality = quality

    def carry(self, now_us: int, size: int) -> int | None:
        """Return when a packet of `size` bytes sent now arrives, None if it is lost."""
        quality, random = self._quality, self._random.random
        queue = quality.queue or self._queue
        begun = max(now_us, queue.idle_from_us)
        if queue.longest_us is not None and begun - now_us > queue.longest_us:
            return None
        sent = begun + size * 8_000_000 // quality.rate_bps
        queue.idle_from_us = sent
        if random() < quality.loss:
            return None
        arrival = sent + quality.delay_us + int(random() * quality.jitter_us)
        self._last_arrival_us = max(arrival, self._last_arrival_us)
        return self._last_arrival_us
