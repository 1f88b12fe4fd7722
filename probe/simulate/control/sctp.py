"""SCTP between a base station and the core (RFC 9260): one association each, nothing is lost."""

import struct
from typing import Final

from scapy.layers.sctp import crc32c

from probe.simulate.control.frames import Framer

_PROTOCOL: Final = 132  # IANA
_DATA, _INIT, _INIT_ACK, _SACK, _COOKIE_ECHO, _COOKIE_ACK = 0, 1, 2, 3, 10, 11
_WHOLE_MESSAGE: Final = 0x03  # first and last piece, RFC 9260 3.3.1
_WINDOW: Final = 131_072
_STREAMS: Final = 2
_STATE_COOKIE: Final = 7
_ACK_EVERY: Final = 2  # RFC 9260 6.2


class Association:
    """The numbers of one association; `up` is from the base station."""

    def __init__(
        self, framer: Framer, node: str, core: str, *, port: int, protocol: int, number: int
    ) -> None:
        self._framer = framer
        self._addresses = {True: (node, core), False: (core, node)}
        self._port = port
        self._protocol = protocol  # payload protocol identifier
        # A packet carries the tag that its receiver chose.
        self._tags = {True: 0x4000_0000 | number, False: 0x2000_0000 | number}
        self._first = {True: 1000 * number + 1, False: 1000 * number + 501}
        self._next = dict(self._first)
        self._stream_next = {(up, stream): 0 for up in (True, False) for stream in range(_STREAMS)}
        self._unacknowledged = {True: 0, False: 0}

    def open(self) -> tuple[list[bytes], list[bytes]]:
        """Return the frames of the four-way handshake, by who sends: node, core (RFC 9260 5.1)."""
        cookie = bytes(range(32))
        parameter = struct.pack("!HH", _STATE_COOKIE, 4 + len(cookie)) + cookie
        node = [
            self._packet(True, _chunk(_INIT, 0, self._numbers(True)), tag=0),
            self._packet(True, _chunk(_COOKIE_ECHO, 0, cookie)),
        ]
        core = [
            self._packet(False, _chunk(_INIT_ACK, 0, self._numbers(False) + parameter)),
            self._packet(False, _chunk(_COOKIE_ACK, 0, b"")),
        ]
        return node, core

    def send(self, up: bool, message: bytes, stream: int = 1) -> list[bytes]:
        """Return the frames of a message: itself, and each second time the receiver's SACK."""
        number, place = self._next[up], self._stream_next[up, stream]
        self._next[up] = (number + 1) & 0xFFFF_FFFF
        self._stream_next[up, stream] = (place + 1) & 0xFFFF
        head = struct.pack("!IHHI", number, stream, place, self._protocol)
        frames = [self._packet(up, _chunk(_DATA, _WHOLE_MESSAGE, head + message))]
        self._unacknowledged[up] += 1
        if self._unacknowledged[up] == _ACK_EVERY:
            self._unacknowledged[up] = 0
            sack = struct.pack("!IIHH", number, _WINDOW, 0, 0)
            frames.append(self._packet(not up, _chunk(_SACK, 0, sack)))
        return frames

    def _numbers(self, up: bool) -> bytes:
        """Return what INIT and INIT ACK say of their sender (RFC 9260 3.3.2)."""
        own_tag = self._tags[not up]
        return struct.pack("!IIHHI", own_tag, _WINDOW, _STREAMS, _STREAMS, self._first[up])

    def _packet(self, up: bool, chunk: bytes, tag: int | None = None) -> bytes:
        verification = self._tags[up] if tag is None else tag
        head = struct.pack("!HHI", self._port, self._port, verification)
        checksum = struct.pack("!I", crc32c(head + bytes(4) + chunk))
        source, destination = self._addresses[up]
        return self._framer.ip(source, destination, up, _PROTOCOL, head + checksum + chunk)


def _chunk(kind: int, flags: int, value: bytes) -> bytes:
    """Return a chunk, filled up to whole words (RFC 9260 3.2)."""
    length = 4 + len(value)
    return struct.pack("!BBH", kind, flags, length) + value + bytes(-length % 4)
