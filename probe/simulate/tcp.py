"""TCP ends and connections: handshake, data, FIN and RST (RFC 9293, timestamps of RFC 7323)."""

import struct
from collections.abc import Callable
from enum import Enum, auto
from random import Random
from typing import Final

from probe.simulate.events import Timeline
from probe.simulate.flow import Flow
from probe.simulate.headers import Packet, Segment
from probe.simulate.path import Path
from probe.simulate.tcp_receiver import Receiver
from probe.simulate.tcp_sender import SackBlocks, Sender
from probe.simulate.truth import ACK, FIN, PSH, RST, SYN

_MSS_IPV4: Final = 1360
_MSS_IPV6: Final = 1340
_TIMESTAMP_OPTION_BYTES: Final = 12
_WINDOW_SHIFT: Final = 7
_WINDOW: Final = 1024  # in units of 2^7 bytes: 128 KiB
_SYN_WINDOW: Final = 64_240
_DELAYED_ACK_US: Final = 40_000
_HANDSHAKE_TIMEOUT_US: Final = 1_000_000  # doubled each time, RFC 6298 2.1
_SYN_ATTEMPTS: Final = 4
_SYN_ACK_ATTEMPTS: Final = 5
_MASK: Final = 0xFFFF_FFFF


class ServerAttitude(Enum):
    """What the far end does with a SYN."""

    ACCEPT = auto()
    REFUSE = auto()
    IGNORE = auto()


class _State(Enum):
    CLOSED = auto()
    SYN_SENT = auto()
    SYN_RECEIVED = auto()
    ESTABLISHED = auto()
    RESET = auto()


def _nothing() -> None:
    """Do nothing: for ends that nobody listens to."""


def _ignore_bytes(_delivered: int) -> None:
    """Do nothing with the number of bytes delivered."""


class Endpoint:
    """One end of a connection. `up` is the direction in which it sends."""

    def __init__(
        self, timeline: Timeline, path: Path, flow: Flow, up: bool, random: Random
    ) -> None:
        self.peer: Endpoint
        self.established: Callable[[], None] = _nothing
        self.delivered: Callable[[int], None] = _ignore_bytes  # payload bytes in order so far
        self.peer_finished: Callable[[], None] = _nothing
        self.attitude = ServerAttitude.ACCEPT
        self._timeline = timeline
        self._path = path
        self._flow = flow
        self._up = up
        self._state = _State.CLOSED
        self._initial_sequence = random.getrandbits(32)
        self._timestamp_base = random.getrandbits(31)
        self._segment_size = _segment_size(flow)
        self._sender = Sender(timeline, self._emit, self._segment_size)
        self._receiver = Receiver()
        self._fin_offset: int | None = None  # the peer's FIN, not yet in order
        self._ack_timer_armed = False

    # --------------------------------------------------------------------- what an end is told

    def connect(self) -> None:
        """Send a SYN, and again until it is answered or `_SYN_ATTEMPTS` have been made."""
        self._state = _State.SYN_SENT
        self._send_syn(1)

    def write(self, data: bytes) -> None:
        """Send `data`."""
        self._sender.write(data)

    def close(self) -> None:
        """Send a FIN after everything written."""
        self._sender.finish()

    def abort(self) -> None:
        """Send a RST and forget the connection."""
        if self._state is not _State.RESET:
            self._send_reset(self._wire(self._sender.next_offset), self._acknowledgment())
            self._forget()

    # ---------------------------------------------------------------------- what arrives

    def receive(self, packet: Packet) -> None:
        """Take a segment of the peer."""
        assert isinstance(packet, Segment)
        if packet.flags & RST:
            self._forget()
        elif self._state is _State.RESET:
            self._send_reset(packet.acknowledgment, 0)
        elif packet.flags & SYN:
            self._receive_syn(packet)
        else:
            self._receive_established(packet)

    def _receive_syn(self, segment: Segment) -> None:
        self._receiver.timestamp_to_echo = _timestamp(segment)
        if segment.flags & ACK:
            self._receive_syn_ack()
        elif self.attitude is ServerAttitude.REFUSE:
            self._send_reset(0, self._acknowledgment())
        elif self._state is _State.CLOSED and self.attitude is ServerAttitude.ACCEPT:
            self._state = _State.SYN_RECEIVED
            self._send_syn_ack(1)

    def _receive_syn_ack(self) -> None:
        first = self._state is _State.SYN_SENT
        self._state = _State.ESTABLISHED
        self._send_ack()
        if first:
            self.established()

    def _receive_established(self, segment: Segment) -> None:
        if self._state is _State.SYN_RECEIVED:
            self._state = _State.ESTABLISHED
            self.established()
        if segment.payload or segment.flags & FIN:
            self._receive_data(segment)
        acknowledged = (segment.acknowledgment - self._initial_sequence - 1) & _MASK
        self._sender.acknowledged(acknowledged, self._sack_blocks(segment))

    def _receive_data(self, segment: Segment) -> None:
        before = self._receiver.next_offset
        fin = bool(segment.flags & FIN)
        length = len(segment.payload) + fin
        urgent = self._receiver.take(segment.offset, length, _timestamp(segment))
        if fin:
            self._fin_offset = segment.offset + len(segment.payload)
        if urgent or fin:
            self._send_ack()
        else:
            self._arm_ack_timer()
        if self._receiver.next_offset > before:
            self.delivered(self._receiver.next_offset)
            self._note_finished()

    def _note_finished(self) -> None:
        if self._fin_offset is not None and self._receiver.next_offset > self._fin_offset:
            self._fin_offset = None
            self.peer_finished()

    def _forget(self) -> None:
        self._state = _State.RESET
        self._sender.stop()

    # ------------------------------------------------------------------------------ what is sent

    def _send_syn(self, attempt: int) -> None:
        if self._state is not _State.SYN_SENT or attempt > _SYN_ATTEMPTS:
            return
        self._send(SYN, -1, b"", self._syn_options(), window=_SYN_WINDOW)
        wait = _HANDSHAKE_TIMEOUT_US << (attempt - 1)
        self._timeline.after(wait, self._send_syn, attempt + 1)

    def _send_syn_ack(self, attempt: int) -> None:
        if self._state is not _State.SYN_RECEIVED or attempt > _SYN_ACK_ATTEMPTS:
            return
        self._send(SYN | ACK, -1, b"", self._syn_options(), window=_SYN_WINDOW)
        wait = _HANDSHAKE_TIMEOUT_US << (attempt - 1)
        self._timeline.after(wait, self._send_syn_ack, attempt + 1)

    def _send_ack(self) -> None:
        blocks = self._receiver.acknowledging()
        options = self._timestamp_option() + self._sack_option(blocks)
        self._send(ACK, self._sender.next_offset, b"", options)

    def _arm_ack_timer(self) -> None:
        if not self._ack_timer_armed:
            self._ack_timer_armed = True
            self._timeline.after(_DELAYED_ACK_US, self._ack_timer_fired)

    def _ack_timer_fired(self) -> None:
        self._ack_timer_armed = False
        if self._receiver.owes_acknowledgment and self._state is _State.ESTABLISHED:
            self._send_ack()

    def _emit(self, offset: int, payload: bytes, fin: bool) -> None:
        """Send a segment for the sender; what it carries acknowledges, too."""
        self._receiver.acknowledging()
        last = len(payload) < self._segment_size
        flags = ACK | (FIN if fin else 0) | (PSH if payload and last else 0)
        self._send(flags, offset, payload, self._timestamp_option())

    def _send(
        self, flags: int, offset: int, payload: bytes, options: bytes, window: int = _WINDOW
    ) -> None:
        segment = Segment(
            flow=self._flow,
            up=self._up,
            flags=flags,
            sequence=self._wire(offset),
            acknowledgment=self._acknowledgment() if flags & ACK else 0,
            window=window,
            options=options,
            payload=payload,
            offset=offset,
        )
        self._path.send(segment, self.peer.receive)

    def _send_reset(self, sequence: int, acknowledgment: int) -> None:
        segment = Segment(
            flow=self._flow,
            up=self._up,
            flags=RST | (ACK if acknowledgment else 0),
            sequence=sequence,
            acknowledgment=acknowledgment,
            window=0,
            options=b"",
            payload=b"",
            offset=0,
        )
        self._path.send(segment, self.peer.receive)

    # ---------------------------------------------------------------------- numbers and options

    def _wire(self, offset: int) -> int:
        return (self._initial_sequence + 1 + offset) & _MASK

    def _acknowledgment(self) -> int:
        return self.peer._wire(self._receiver.next_offset)

    def _timestamp_option(self) -> bytes:
        value = (self._timestamp_base + self._timeline.now // 1000) & _MASK
        return _TIMESTAMP.pack(1, 1, 8, 10, value, self._receiver.timestamp_to_echo)

    def _syn_options(self) -> bytes:
        mss = self._segment_size + _TIMESTAMP_OPTION_BYTES
        maximum_and_sack = struct.pack("!BBHBB", 2, 4, mss, 4, 2)
        timestamp = self._timestamp_option()[2:]
        return maximum_and_sack + timestamp + bytes((1, 3, 3, _WINDOW_SHIFT))

    def _sack_option(self, blocks: SackBlocks) -> bytes:
        if not blocks:
            return b""
        edges = [self.peer._wire(edge) for block in blocks for edge in block]
        return struct.pack(f"!BBBB{len(edges)}I", 1, 1, 5, 2 + 4 * len(edges), *edges)

    def _sack_blocks(self, segment: Segment) -> SackBlocks:
        if len(segment.options) == _TIMESTAMP_OPTION_BYTES:
            return ()
        edges_bytes = segment.options[_TIMESTAMP_OPTION_BYTES + 4 :]
        edges = [
            (edge - self._initial_sequence - 1) & _MASK
            for (edge,) in struct.iter_unpack("!I", edges_bytes)
        ]
        return tuple(zip(edges[::2], edges[1::2], strict=True))


_TIMESTAMP: Final = struct.Struct("!BBBBII")


def _timestamp(segment: Segment) -> int:
    """Return TSval, which stands at the same place in all options made here, SYN's excepted."""
    start = 8 if segment.flags & SYN else 4
    return int.from_bytes(segment.options[start : start + 4], "big")


def _segment_size(flow: Flow) -> int:
    maximum = _MSS_IPV4 if len(flow.client_address) == 4 else _MSS_IPV6
    return maximum - _TIMESTAMP_OPTION_BYTES


def connect_ends(
    timeline: Timeline, path: Path, flow: Flow, attitude: ServerAttitude, random: Random
) -> tuple[Endpoint, Endpoint]:
    """Return (client, server) ends of a connection that is not open yet."""
    client = Endpoint(timeline, path, flow, True, random)
    server = Endpoint(timeline, path, flow, False, random)
    client.peer, server.peer = server, client
    server.attitude = attitude
    return client, server
