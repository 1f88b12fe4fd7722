"""QUIC as UDP volumes: long headers of RFC 9000 around random bytes, nothing to decrypt."""

import struct
from random import Random
from typing import Final

from probe.simulate.events import Timeline
from probe.simulate.flow import Flow
from probe.simulate.headers import Datagram, Packet
from probe.simulate.path import Path, Receive

_VERSION_1: Final = 1
_INITIAL, _HANDSHAKE = 0, 2  # long packet types, RFC 9000 17.2
_DATAGRAM_BYTES: Final = 1200
_SERVER_FLIGHT: Final = 3  # datagrams, within the anti-amplification limit of RFC 9000 8.1
_WINDOW: Final = 20  # datagrams
_ACK_EVERY: Final = 2
_PROBE_US: Final = 600_000  # what was lost is made up for after this silence


class QuicTransfer:
    """A handshake, one request, and a response of some size."""

    def __init__(
        self,
        timeline: Timeline,
        path: Path,
        flow: Flow,
        *,
        response_bytes: int,
        random: Random,
        noise: bytes,
    ) -> None:
        self._timeline = timeline
        self._path = path
        self._flow = flow
        self._random = random
        self._noise = noise
        self._client_id = random.randbytes(8)
        self._server_id = random.randbytes(8)
        self._to_send = max(response_bytes // _DATAGRAM_BYTES, 1)
        self._flight_received = 0
        self._received = 0
        self._last_progress_us = 0

    def start(self) -> None:
        """Send the client's Initial."""
        self._send(True, self._long(_INITIAL, self._server_id, self._client_id), self._greet)

    def _greet(self, _initial: Packet) -> None:
        kinds = (_INITIAL, *(_HANDSHAKE for _ in range(_SERVER_FLIGHT - 1)))
        for kind in kinds:
            header = self._long(kind, self._client_id, self._server_id)
            self._send(False, header, self._take_greeting)

    def _take_greeting(self, _packet: Packet) -> None:
        self._flight_received += 1
        if self._flight_received == 1:
            finished = self._long(_HANDSHAKE, self._server_id, self._client_id)
            self._send(True, finished, self._ignore)
            self._send(True, self._short(self._server_id, 300), self._respond)

    def _respond(self, _request: Packet) -> None:
        self._release(_WINDOW)
        self._timeline.after(_PROBE_US, self._probe)

    def _release(self, datagrams: int) -> None:
        self._last_progress_us = self._timeline.now
        for _ in range(min(datagrams, self._to_send)):
            self._to_send -= 1
            self._send(False, self._short(self._client_id, _DATAGRAM_BYTES), self._take_data)

    def _take_data(self, _packet: Packet) -> None:
        self._received += 1
        if self._received % _ACK_EVERY == 0:
            self._send(True, self._short(self._server_id, 34), self._take_ack)

    def _take_ack(self, _packet: Packet) -> None:
        self._release(_ACK_EVERY)

    def _probe(self) -> None:
        if not self._to_send:
            return
        if self._timeline.now - self._last_progress_us >= _PROBE_US:
            self._release(_WINDOW // 2)
        self._timeline.after(_PROBE_US, self._probe)

    def _ignore(self, _packet: Packet) -> None:
        """Take a packet that needs no answer."""

    def _send(self, up: bool, payload: bytes, receive: Receive) -> None:
        self._path.send(Datagram(self._flow, up, payload), receive)

    def _long(self, kind: int, destination: bytes, source: bytes) -> bytes:
        """Return a datagram of one long-header packet, its packet number of two bytes."""
        first = 0xC0 | kind << 4 | 1
        ids = _with_length(destination) + _with_length(source)
        token = b"\x00" if kind == _INITIAL else b""
        head = struct.pack("!BI", first, _VERSION_1) + ids + token
        rest = _DATAGRAM_BYTES - len(head) - 2
        return head + struct.pack("!H", 0x4000 | rest) + self._random_bytes(rest)

    def _short(self, destination: bytes, size: int) -> bytes:
        return b"\x41" + destination + self._random_bytes(size - 1 - len(destination))

    def _random_bytes(self, length: int) -> bytes:
        start = self._random.randrange(len(self._noise) - length)
        return self._noise[start : start + length]


def _with_length(identifier: bytes) -> bytes:
    return bytes((len(identifier),)) + identifier
