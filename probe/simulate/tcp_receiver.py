"""The receiving half of a TCP end: reassembly, selective and delayed acknowledgments."""

from typing import Final

from probe.simulate.tcp_sender import SackBlocks

_QUICK_ACKNOWLEDGMENTS: Final = 16  # at the start of a connection, as Linux does
_MAX_BLOCKS: Final = 3  # beside a timestamp option, RFC 2018 3


class Receiver:
    """Knows what has arrived. Offsets count bytes of the peer's stream from 0, its FIN as one."""

    def __init__(self) -> None:
        self.next_offset = 0
        self.timestamp_to_echo = 0
        self._held: list[tuple[int, int]] = []  # after a hole, newest first
        self._unacknowledged = 0
        self._quick = _QUICK_ACKNOWLEDGMENTS
        self._last_acknowledged = 0

    def take(self, offset: int, length: int, timestamp: int) -> bool:
        """Take a segment of `length` sequence numbers; say if it must be acknowledged at once."""
        if offset <= self._last_acknowledged:
            self.timestamp_to_echo = timestamp  # RFC 7323 4.3
        if offset != self.next_offset:
            self._hold(offset, offset + length)
            return True
        filled_hole = bool(self._held)
        self.next_offset += length
        self._join_held()
        self._unacknowledged += 1
        return filled_hole or self._unacknowledged >= 2 or self._spend_quick()

    def acknowledging(self) -> SackBlocks:
        """Note that everything so far is acknowledged now; return the blocks to say so with."""
        self._unacknowledged = 0
        self._last_acknowledged = self.next_offset
        return tuple(self._held[:_MAX_BLOCKS])

    @property
    def owes_acknowledgment(self) -> bool:
        return self._unacknowledged > 0

    def _spend_quick(self) -> bool:
        self._quick -= 1
        return self._quick >= 0

    def _hold(self, start: int, end: int) -> None:
        if start < self.next_offset:
            return  # a duplicate of what has been delivered
        touching = [block for block in self._held if block[0] <= end and start <= block[1]]
        apart = [block for block in self._held if block not in touching]
        merged = (min([start, *(b[0] for b in touching)]), max([end, *(b[1] for b in touching)]))
        self._held = [merged, *apart]

    def _join_held(self) -> None:
        for block in sorted(self._held):
            if block[0] <= self.next_offset:
                self.next_offset = max(self.next_offset, block[1])
        self._held = [block for block in self._held if block[0] > self.next_offset]
