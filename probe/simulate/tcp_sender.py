"""The sending half of a TCP end: window, retransmission, loss recovery.

Slow start and congestion avoidance (RFC 5681), recovery by selective acknowledgment in the manner
of RFC 6675, retransmission time-out of RFC 6298. Segments keep their bounds when they are sent
again. Offsets count bytes of the stream from 0; a FIN takes the offset after the last byte.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from probe.simulate.events import Timeline

_INITIAL_WINDOW: Final = 10  # segments, RFC 6928
_MAX_WINDOW: Final = 48  # segments: what the peer's buffer takes
_MIN_RTO_US: Final = 250_000
_INITIAL_RTO_US: Final = 1_000_000
_MAX_TIMEOUTS: Final = 8  # in a row, then the sender gives up
_DUPLICATES_FOR_LOSS: Final = 3


@dataclass(slots=True)
class _Sent:
    """A segment in flight."""

    offset: int
    payload: bytes
    fin: bool
    sent_us: int
    transmissions: int = 1
    selectively_acknowledged: bool = False
    lost: bool = False

    @property
    def end(self) -> int:
        return self.offset + len(self.payload) + self.fin


SackBlocks = tuple[tuple[int, int], ...]


class Sender:
    """Takes a byte stream and hands `emit(offset, payload, fin)` the segments to send now."""

    def __init__(
        self, timeline: Timeline, emit: Callable[[int, bytes, bool], None], segment_size: int
    ) -> None:
        self._timeline = timeline
        self._emit = emit
        self._segment_size = segment_size
        self._pending: deque[bytes] = deque()
        self._fin_wanted = False
        self._fin_sent = False
        self._flight: deque[_Sent] = deque()
        self._window = float(_INITIAL_WINDOW)
        self._threshold = float(_MAX_WINDOW)
        self._recovery_end = 0
        self._has_gaps = (
            False  # whether anything in flight may be lost or have arrived out of order
        )
        self._smoothed_rtt_us = 0.0
        self._rtt_variation_us = 0.0
        self._timeouts = 0
        self._deadline_us: int | None = None
        self._armed_for_us: int | None = None
        self._stopped = False
        self.next_offset = 0

    def write(self, data: bytes) -> None:
        """Append `data` to the stream."""
        size = self._segment_size
        self._pending.extend(data[start : start + size] for start in range(0, len(data), size))
        self._fill_window()

    def finish(self) -> None:
        """Send a FIN after what was written."""
        self._fin_wanted = True
        self._fill_window()

    def stop(self) -> None:
        """Send nothing more, not even again."""
        self._stopped = True
        self._pending.clear()
        self._flight.clear()

    def acknowledged(self, offset: int, blocks: SackBlocks) -> None:
        """Take an acknowledgment of all before `offset`, and of the selective `blocks`."""
        if self._stopped:
            return
        newly = self._drop_acknowledged(offset)
        self._mark_blocks(blocks)
        if newly:
            self._timeouts = 0
            self._grow_window(newly)
            self._restart_timer()
        if self._has_gaps:
            self._detect_loss()
            self._retransmit_lost()
        self._fill_window()

    # ------------------------------------------------------------------------- acknowledgments

    def _drop_acknowledged(self, offset: int) -> int:
        dropped = 0
        while self._flight and self._flight[0].end <= offset:
            segment = self._flight.popleft()
            dropped += 1
            if segment.transmissions == 1:
                self._take_rtt(self._timeline.now - segment.sent_us)
        return dropped

    def _take_rtt(self, rtt_us: int) -> None:
        """RFC 6298 2."""
        if not self._smoothed_rtt_us:
            self._smoothed_rtt_us, self._rtt_variation_us = float(rtt_us), rtt_us / 2
            return
        self._rtt_variation_us += (abs(self._smoothed_rtt_us - rtt_us) - self._rtt_variation_us) / 4
        self._smoothed_rtt_us += (rtt_us - self._smoothed_rtt_us) / 8

    def _mark_blocks(self, blocks: SackBlocks) -> None:
        if not blocks:
            self._has_gaps = self._has_gaps and bool(self._flight)
            return
        self._has_gaps = True
        for segment in self._flight:
            if any(start <= segment.offset and segment.end <= end for start, end in blocks):
                segment.selectively_acknowledged = True

    def _grow_window(self, newly: int) -> None:
        if self._flight and self._flight[0].offset < self._recovery_end:
            return
        growth = newly if self._window < self._threshold else newly / self._window
        self._window = min(self._window + growth, _MAX_WINDOW)

    # ------------------------------------------------------------------------ loss and recovery

    def _detect_loss(self) -> None:
        """A segment is lost when three later ones have arrived."""
        later = 0
        for segment in reversed(self._flight):
            if segment.selectively_acknowledged:
                later += 1
            elif later >= _DUPLICATES_FOR_LOSS and segment.transmissions == 1:
                self._mark_lost(segment)

    def _mark_lost(self, segment: _Sent) -> None:
        if segment.lost:
            return
        segment.lost = True
        if segment.offset >= self._recovery_end:
            self._recovery_end = self.next_offset
            self._threshold = max(self._window / 2, 2.0)
            self._window = self._threshold

    def _retransmit_lost(self) -> None:
        in_flight = self._in_flight()
        for segment in self._flight:
            if in_flight >= self._window:
                return
            if segment.lost:
                self._send_again(segment)
                in_flight += 1

    def _in_flight(self) -> int:
        if not self._has_gaps:
            return len(self._flight)
        return sum(not (s.lost or s.selectively_acknowledged) for s in self._flight)

    def _send_again(self, segment: _Sent) -> None:
        segment.lost = False
        segment.transmissions += 1
        segment.sent_us = self._timeline.now
        self._emit(segment.offset, segment.payload, segment.fin)

    # ------------------------------------------------------------------------------ new segments

    def _fill_window(self) -> None:
        room = int(self._window) - self._in_flight()
        while room > 0 and self._pending and not self._stopped:
            self._send_new(self._pending.popleft(), fin=False)
            room -= 1
        if self._fin_wanted and not self._fin_sent and not self._pending and not self._stopped:
            self._fin_sent = True
            self._send_new(b"", fin=True)

    def _send_new(self, payload: bytes, fin: bool) -> None:
        segment = _Sent(self.next_offset, payload, fin, self._timeline.now)
        self._flight.append(segment)
        self.next_offset = segment.end
        if self._deadline_us is None:
            self._restart_timer()
        self._emit(segment.offset, payload, fin)

    # ---------------------------------------------------------------------------------- time-out

    def _restart_timer(self) -> None:
        self._deadline_us = self._timeline.now + self._timeout_us() if self._flight else None
        self._arm()

    def _arm(self) -> None:
        """Have an event at or before the deadline: moving it with every packet would cost more."""
        deadline, armed = self._deadline_us, self._armed_for_us
        if deadline is not None and (armed is None or deadline < armed):
            self._armed_for_us = deadline
            self._timeline.at(deadline, self._timer_fired, deadline)

    def _timeout_us(self) -> int:
        measured = self._smoothed_rtt_us + 4 * self._rtt_variation_us
        base = max(int(measured), _MIN_RTO_US) if measured else _INITIAL_RTO_US
        return base << self._timeouts

    def _timer_fired(self, armed_for_us: int) -> None:
        if armed_for_us != self._armed_for_us:
            return  # an earlier event has taken its place
        self._armed_for_us = None
        if self._deadline_us is None or self._stopped:
            return
        if self._timeline.now < self._deadline_us:
            self._arm()
        else:
            self._time_out()

    def _time_out(self) -> None:
        self._timeouts += 1
        if self._timeouts > _MAX_TIMEOUTS:
            self.stop()
            return
        self._threshold, self._window = max(self._window / 2, 2.0), 1.0
        self._recovery_end = self.next_offset
        self._has_gaps = True
        for segment in self._flight:
            segment.lost = not segment.selectively_acknowledged
        self._send_again(self._flight[0])
        self._restart_timer()
