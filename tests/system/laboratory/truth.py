"""The relay's log, and what it says of each flow: round trips and losses by side.

The log knows what a tap cannot: which packets were dropped, where, and what an end did with those
that reached it. `visible` counts are the part of it that shows at the tap at all; no probe there
can know more.
"""

import bisect
import pickle
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

FIN, SYN, RST, ACK = 1, 2, 4, 16
_HALF = 1 << 31
_LONGEST_SEGMENT = 65535
_ENDS = {"up": "server", "down": "client"}
"""Where each direction leads."""


class FlowKey(NamedTuple):
    """A five-tuple as the record names it. `protocol` is tcp, udp, icmp or a number."""

    protocol: str
    client_ip: str
    client_port: int
    server_ip: str
    server_port: int


class Line(NamedTuple):
    """One packet (or a link's duplicate of one) on its way. Times are ns since 1970, or None.

    `fate` is delivered; lost (by the dice or by number), blackholed, queue_full or stopped (by a
    middlebox), on `side`; refused, by the end's kernel; in_flight, when the laboratory ended.
    """

    protocol: str
    client_ip: str
    client_port: int
    server_ip: str
    server_port: int
    direction: str
    number: int
    """From 1, of the flow's packets in this direction; a duplicate has its original's."""
    arrived_ns: int
    tap_ns: int | None
    delivered_ns: int | None
    mirrored: bool
    fate: str
    side: str | None
    origin: str
    """`end`, or `middlebox`."""
    copied_on: str | None
    """The side whose link made this duplicate; None for an original."""
    sequence: int
    acknowledgment: int
    flags: int
    payload_bytes: int
    length: int
    """Bytes of the IP packet."""

    @property
    def flow(self) -> FlowKey:
        """Return the packet's flow."""
        return FlowKey(*self[:5])

    @property
    def passed_tap(self) -> bool:
        """Tell whether the packet crossed the tap; a duplicate made behind it did not."""
        return self.tap_ns is not None and self.copied_on != _ENDS[self.direction]

    @property
    def dropped(self) -> bool:
        """Tell whether the packet was dropped on its way, wherever."""
        return self.fate in {"lost", "blackholed", "queue_full", "stopped"}

    @property
    def dropped_before_tap(self) -> bool:
        """Tell whether the tap never saw the packet because it was dropped."""
        return self.dropped and self.tap_ns is None

    @property
    def dropped_after_tap(self) -> bool:
        """Tell whether the packet passed the tap and was dropped then."""
        return self.dropped and self.passed_tap


@dataclass(frozen=True)
class RttTruth:
    """Round trips between the tap and one end, in us: medians over `answers` exchanges.

    An exchange is an acknowledgment by the end that passes the tap, and the first in-order segment
    that it newly covers (a SYN and a FIN count). `path` is what the links took, there and back;
    `full` adds the time between the end's getting the one and sending the other: processing and
    delayed acknowledgment. Without any exchange `path` is the median delay of all packets there
    plus that of all back, and `full` is None.
    """

    path: float | None
    full: float | None
    answering: float | None
    answers: int


@dataclass(frozen=True)
class LossTruth:
    """What became of one direction's segments: packets with payload or FIN that an end sent.

    `visible_before`: the tap saw later bytes pass before the lost ones did; several losses of the
    same bytes make one hole. `visible_after`: the tap saw the same bytes again. `needless`: the tap
    saw a segment again of which an earlier copy reached the end, or was about to.
    """

    segments: int = 0
    before: int = 0
    after: int = 0
    visible_before: int = 0
    visible_after: int = 0
    needless: int = 0
    overtaken_before: int = 0
    overtaken_after: int = 0
    copied_before: int = 0
    copied_after: int = 0


@dataclass(frozen=True)
class FlowTruth:
    """One flow. Losses by direction, round trips by side."""

    key: FlowKey
    rtt: dict[str, RttTruth]
    loss: dict[str, LossTruth]


@dataclass(frozen=True)
class Log:
    """All that the relay did, in order of arrival."""

    lines: list[Line]
    refused: int = 0
    """Packets beyond the plan's `max_packets`, dropped without a line."""
    _by_flow: dict[FlowKey, list[Line]] = field(default_factory=dict)

    def of(
        self, client_ip: str | None = None, server_ip: str | None = None, port: int | None = None
    ) -> list[Line]:
        """Return the lines of these addresses and this server port."""
        return [
            line
            for line in self.lines
            if client_ip in {None, line.client_ip}
            and server_ip in {None, line.server_ip}
            and port in {None, line.server_port}
        ]

    def flows(self) -> dict[FlowKey, list[Line]]:
        """Return the lines of each flow."""
        if not self._by_flow:
            for line in self.lines:
                self._by_flow.setdefault(line.flow, []).append(line)
        return self._by_flow

    def truth(self) -> dict[FlowKey, FlowTruth]:
        """Return the truth about each TCP flow."""
        return {
            key: flow_truth(key, lines)
            for key, lines in self.flows().items()
            if key.protocol == "tcp"
        }


def write_log(path: Path, lines: list[tuple[object, ...]], refused: int) -> None:
    """Keep the log for the process that started the relay."""
    with path.open("wb") as file:
        pickle.dump((refused, lines), file, protocol=5)


def read_log(path: Path) -> Log:
    """Return what `write_log` wrote."""
    with path.open("rb") as file:
        refused, lines = pickle.load(file)
    return Log([Line._make(line) for line in lines], refused)


def flow_truth(key: FlowKey, lines: list[Line]) -> FlowTruth:
    """Return the truth about one TCP flow from its lines in order of arrival."""
    rtt = {"client": _rtt(lines, "client"), "server": _rtt(lines, "server")}
    loss = {name: _loss([line for line in lines if line.direction == name]) for name in _ENDS}
    return FlowTruth(key, rtt, loss)


# ------------------------------------------------------------------------------------ round trips


class _Exchange(NamedTuple):
    """One segment toward an end and the acknowledgment that came of it."""

    segment: Line
    answer: Line

    @property
    def answering_ns(self) -> int:
        """Return the end's own time."""
        return self.answer.arrived_ns - self.segment.delivered_ns

    @property
    def full_ns(self) -> int:
        """Return the round trip from the tap to the end and back."""
        return self.answer.tap_ns - self.segment.tap_ns


def _rtt(lines: list[Line], end: str) -> RttTruth:
    toward = [line for line in lines if _ENDS[line.direction] == end and line.origin == "end"]
    back = [line for line in lines if _ENDS[line.direction] != end and line.origin == "end"]
    exchanges = list(_exchanges(toward, back))
    if not exchanges:
        there = [line.delivered_ns - line.tap_ns for line in toward if line.delivered_ns]
        here = [line.tap_ns - line.arrived_ns for line in back if line.tap_ns]
        known = there and here
        path = statistics.median(there) + statistics.median(here) if known else None
        return RttTruth(None if path is None else path / 1000, None, None, 0)
    path = statistics.median(x.full_ns - x.answering_ns for x in exchanges)
    full = statistics.median(x.full_ns for x in exchanges)
    answering = statistics.median(x.answering_ns for x in exchanges)
    return RttTruth(path / 1000, full / 1000, answering / 1000, len(exchanges))


def _length(line: Line) -> int:
    """Return how much of the sequence space the segment takes."""
    return line.payload_bytes + bool(line.flags & SYN) + bool(line.flags & FIN)


def _exchanges(toward: list[Line], back: list[Line]) -> Iterator[_Exchange]:
    place = _Sequence(toward)
    in_order = list(_in_order(toward, place))
    starts = [place.of(line.sequence) for line in in_order]
    covered = 0
    for line in back:
        if not line.flags & ACK or line.copied_on:
            continue
        upto = bisect.bisect_left(starts, place.of(line.acknowledgment))
        if upto > covered and line.arrived_ns > in_order[covered].delivered_ns:
            if line.tap_ns:
                yield _Exchange(in_order[covered], line)
            covered = upto


def _in_order(toward: list[Line], place: "_Sequence") -> Iterator[Line]:
    """Yield the segments that were the next that the end expected when they reached it."""
    delivered = [line for line in toward if line.delivered_ns and _length(line)]
    expected = 0
    waiting: dict[int, int] = {}
    for line in sorted(delivered, key=lambda line: line.delivered_ns):
        start = place.of(line.sequence)
        waiting[start] = max(waiting.get(start, 0), start + _length(line))
        if start == expected:
            yield line
        while expected in waiting:
            expected = waiting.pop(expected)


class _Sequence:
    """Sequence numbers as offsets from the first that was sent, past wrap-around."""

    def __init__(self, lines: list[Line]) -> None:
        self._base = lines[0].sequence if lines else 0

    def of(self, number: int) -> int:
        """Return the offset; right for flows under 2 GiB."""
        return (number - self._base + _HALF) % (2 * _HALF) - _HALF


# ----------------------------------------------------------------------------------------- losses


@dataclass(frozen=True)
class _Span:
    start: int
    end: int
    line: Line


class _Passages:
    """The data segments that passed the tap, to be asked for bytes."""

    def __init__(self, spans: Iterable[_Span]) -> None:
        in_time = sorted(spans, key=lambda span: span.line.tap_ns)
        self._times = [span.line.tap_ns for span in in_time]
        self._highest = [0]
        for span in in_time:
            self._highest.append(max(self._highest[-1], span.end))
        self._by_start = sorted(in_time, key=lambda span: span.start)
        self._starts = [span.start for span in self._by_start]

    def of(self, byte: int) -> list[_Span]:
        """Return the passages that carried the byte, in order of time."""
        low = bisect.bisect_left(self._starts, byte - _LONGEST_SEGMENT)
        high = bisect.bisect_right(self._starts, byte)
        found = [span for span in self._by_start[low:high] if span.end > byte]
        return sorted(found, key=lambda span: span.line.tap_ns)

    def highest_before(self, time_ns: int) -> int:
        """Return the end of what had passed by then."""
        return self._highest[bisect.bisect_left(self._times, time_ns)]


def _loss(lines: list[Line]) -> LossTruth:
    place = _Sequence(lines)
    spans = [
        _Span(place.of(line.sequence), place.of(line.sequence) + _length(line), line)
        for line in lines
        if _length(line) and not line.flags & SYN and line.origin == "end"
    ]
    sent = [span for span in spans if not span.line.copied_on]
    passages = _Passages(span for span in spans if span.line.passed_tap)
    before = [span for span in sent if span.line.dropped_before_tap]
    after = [span for span in sent if span.line.dropped_after_tap]
    fillers = (_filler(span, passages) for span in before)
    again = (passages.of(span.start)[-1].line is not span.line for span in after)
    at_tap = sorted((s.line for s in sent if s.line.tap_ns), key=lambda line: line.tap_ns)
    at_end = sorted((s.line for s in sent if s.line.delivered_ns), key=lambda ln: ln.delivered_ns)
    rank = {id(line): number for number, line in enumerate(at_tap)}
    copies = [(span.line.copied_on, _ENDS[span.line.direction]) for span in spans]
    return LossTruth(
        segments=len(sent),
        before=len(before),
        after=len(after),
        visible_before=len({id(filler) for filler in fillers if filler}),
        visible_after=sum(again),
        needless=_needless(sent, spans),
        overtaken_before=_overtaken(line.number for line in at_tap),
        overtaken_after=_overtaken(rank[id(line)] for line in at_end),
        copied_before=sum(side is not None and side != end for side, end in copies),
        copied_after=sum(side == end for side, end in copies),
    )


def _filler(lost: _Span, passages: _Passages) -> Line | None:
    """Return the passage by which the tap knows of a loss before it: it filled the hole."""
    carried = passages.of(lost.start)
    if not carried or carried[0].line.arrived_ns < lost.line.arrived_ns:
        return None  # never sent again; or only a repetition was lost
    first = carried[0].line
    return first if passages.highest_before(first.tap_ns) > lost.start else None


def _overtaken(numbers: Iterable[int]) -> int:
    """Return how many come behind a greater number."""
    count, greatest = 0, -1
    for number in numbers:
        count += number < greatest
        greatest = max(greatest, number)
    return count


def _needless(sent: list[_Span], spans: list[_Span]) -> int:
    """Return how many segments passed the tap though each of their bytes came by an earlier one."""
    first: dict[tuple[int, int], int] = {}
    for span in spans:
        if span.line.delivered_ns:
            extent = (span.start, span.end)
            first[extent] = min(first.get(extent, span.line.number), span.line.number)
    extents = sorted(first)
    return sum(span.line.passed_tap and _came_earlier(span, first, extents) for span in sent)


def _came_earlier(
    span: _Span, first: dict[tuple[int, int], int], extents: list[tuple[int, int]]
) -> bool:
    """Tell whether what was sent before the span, and was delivered some time, covers it.

    `first` has, for each extent that was delivered, the number of the first packet to bring it.
    """
    reached = span.start
    for start, end in extents[bisect.bisect_left(extents, (span.start - _LONGEST_SEGMENT, 0)) :]:
        if start > reached or reached >= span.end:
            break
        if end > reached and first[start, end] < span.line.number:
            reached = end
    return reached >= span.end
