"""GTP-U messages that carry no packet (TS 29.281): echoes of a path, end markers of a tunnel."""

import struct
from collections.abc import Sequence
from typing import Final

from probe.simulate.control.connection import Gateway, Stay
from probe.simulate.control.frames import Framer
from probe.simulate.control.signalling import (
    Answer,
    Exchange,
    Greeting,
    Kind,
    Outcome,
    Transaction,
)
from probe.simulate.gtpu import GTPU_PORT
from probe.simulate.network import Cell

_ECHO_REQUEST, _ECHO_RESPONSE, _END_MARKER = 1, 2, 254
_RECOVERY: Final = b"\x0e\x00"  # always 0, TS 29.281 8.2


class Tunnels:
    """The paths between base stations and gateways; they take part in no exchange."""

    procedures: Final[dict[Kind, str]] = {}
    unanswered: Final[frozenset[Kind]] = frozenset()

    def __init__(
        self, name: str, cells: Sequence[Cell], gateways: Sequence[Gateway], framer: Framer
    ) -> None:
        self.name = name
        self._nodes = sorted({cell.node_address for cell in cells})
        self._gateways = gateways
        self._framer = framer
        self._sequence = 0

    def end_marker(self, stay: Stay) -> bytes:
        """Return the last message to the node that a device has left (TS 29.281 7.3.2)."""
        message = struct.pack("!BBHI", 0x30, _END_MARKER, 0, stay.teid_down)
        return self._frame(stay.gateway_address, stay.node_address, False, message)

    def greetings(self) -> Sequence[Greeting]:
        return [self._echo(node, way) for way in self._gateways for node in self._nodes]

    def restart(self, gateway: Gateway, _now_us: int) -> Sequence[Greeting]:
        return [self._echo(node, gateway) for node in self._nodes]

    def request(self, _exchange: Exchange, _transaction: Transaction) -> Sequence[bytes]:
        return []

    def answer(self, _exchange: Exchange, _transaction: Transaction, _outcome: Outcome) -> Answer:
        return Answer([])

    def _echo(self, node: str, gateway: Gateway) -> Greeting:
        self._sequence = (self._sequence + 1) & 0xFFFF
        tail = struct.pack("!HBB", self._sequence, 0, 0)
        asked = struct.pack("!BBHI", 0x32, _ECHO_REQUEST, 4, 0) + tail
        answered = struct.pack("!BBHI", 0x32, _ECHO_RESPONSE, 6, 0) + tail + _RECOVERY
        request = self._frame(gateway.address, node, False, asked)
        answer = self._frame(node, gateway.address, True, answered)
        return Greeting("echo", [request], [answer])

    def _frame(self, source: str, destination: str, up: bool, message: bytes) -> bytes:
        ends = (source, GTPU_PORT), (destination, GTPU_PORT)
        return self._framer.udp(*ends, up, message)
