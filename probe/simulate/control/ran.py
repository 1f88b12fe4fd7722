"""What S1AP and NGAP share: the interface between base stations and the core, over SCTP."""

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from probe.simulate.control.aper import INITIATING, REJECT, SUCCESSFUL, Bits, Element, message
from probe.simulate.control.connection import Connection
from probe.simulate.control.frames import Framer
from probe.simulate.control.sctp import Association
from probe.simulate.control.signalling import (
    Answer,
    Exchange,
    Greeting,
    Kind,
    Outcome,
    Transaction,
)
from probe.simulate.flow import packed
from probe.simulate.network import Cell

# Causes, TS 36.413 9.2.1.3 and TS 38.413 9.3.1.2: group and number.
Cause = tuple[int, int]
RADIO, NAS = 0, 2
USER_INACTIVITY: Final[Cause] = (RADIO, 20)
NO_RADIO_RESOURCES: Final[Cause] = (RADIO, 25)
NORMAL: Final[Cause] = (NAS, 0)
MO_SIGNALLING, MO_DATA = 3, 4  # why a device asks for a connection
# The steps that both call by the same name.
PROCEDURES: Final = {
    Kind.INITIAL: "initial_ue_message",
    Kind.RETURN: "initial_ue_message",
    Kind.SWITCH: "path_switch",
    Kind.RELEASE_WANTED: "ue_context_release_request",
    Kind.RELEASE: "ue_context_release",
}
_FROM_NODE: Final = frozenset(
    {Kind.INITIAL, Kind.RETURN, Kind.SWITCH, Kind.RELEASE_WANTED}
)  # the others' requests come from the core
_SETUP_STREAM: Final = 0


class RanInterface(ABC):
    """Base stations and an MME or AMF: one association each."""

    name: str
    procedures: ClassVar[dict[Kind, str]]
    unanswered: ClassVar = frozenset({Kind.INITIAL, Kind.RETURN, Kind.RELEASE_WANTED})
    core_address: str
    port: int
    protocol: int  # payload protocol identifier, IANA

    def __init__(self, cells: Sequence[Cell], framer: Framer) -> None:
        self._cells: dict[str, list[Cell]] = {}
        for cell in cells:
            self._cells.setdefault(cell.node_address, []).append(cell)
        self._associations = {
            node: Association(
                framer,
                node,
                self.core_address,
                port=self.port,
                protocol=self.protocol,
                number=number,
            )
            for number, node in enumerate(self._cells, start=1)
        }

    def request(self, exchange: Exchange, transaction: Transaction) -> Sequence[bytes]:
        if transaction.transmissions > 1:
            return []  # SCTP delivers: what repeats itself lies behind the core
        association = self._associations[exchange.cell.node_address]
        return association.send(exchange.kind in _FROM_NODE, self._ask(exchange))

    def answer(self, exchange: Exchange, transaction: Transaction, outcome: Outcome) -> Answer:
        answer, cause = self._reply(exchange, outcome)
        association = self._associations[exchange.cell.node_address]
        return Answer(association.send(exchange.kind not in _FROM_NODE, answer), cause)

    def greetings(self) -> Sequence[Greeting]:
        """Open each node's association, and have the node announce itself."""
        return [
            greeting
            for node, cells in self._cells.items()
            for greeting in self._announce(self._associations[node], cells)
        ]

    def _announce(self, association: Association, cells: Sequence[Cell]) -> list[Greeting]:
        from_node, from_core = association.open()
        opened = [
            Greeting("sctp_association", [asked], [answered])
            for asked, answered in zip(from_node, from_core, strict=True)
        ]
        asks, says = self._node_setup(cells)
        setup = message(INITIATING, self._setup_procedure, REJECT, asks)
        done = message(SUCCESSFUL, self._setup_procedure, REJECT, says)
        request = association.send(True, setup, _SETUP_STREAM)
        answer = association.send(False, done, _SETUP_STREAM)
        return [*opened, Greeting(self._setup_name, request, answer)]

    def restart(self, _gateway: object, _now_us: int) -> Sequence[Greeting]:
        """A gateway's restart is not told to base stations."""
        return []

    _setup_name: str
    _setup_procedure: int

    @abstractmethod
    def _ask(self, exchange: Exchange) -> bytes:
        """Return the request of an exchange."""

    @abstractmethod
    def _reply(self, exchange: Exchange, outcome: Outcome) -> tuple[bytes, int | None]:
        """Return the answer, and its cause if it is a refusal."""

    @abstractmethod
    def _node_setup(self, cells: Sequence[Cell]) -> tuple[list[Element], list[Element]]:
        """Return the elements by which a node with `cells` announces itself, and the answer's."""


@dataclass(frozen=True)
class DeviceIds:
    """What core and node call a device on their interface: elements and highest numbers."""

    core_element: int
    core_most: int
    node_element: int
    node_most: int

    def both(self, exchange: Exchange, criticality: int) -> list[Element]:
        return [
            (self.core_element, criticality, self.core(exchange)),
            (self.node_element, criticality, self.node(exchange)),
        ]

    def core(self, exchange: Exchange) -> bytes:
        return bytes(self._put_core(Bits(), exchange))

    def node(self, exchange: Exchange) -> bytes:
        return bytes(self._put_node(Bits(), exchange))

    def pair(self, exchange: Exchange) -> bytes:
        """Both in one element (TS 36.413 9.2.3.18, TS 38.413 9.2.2.5)."""
        return bytes(self._put_node(self._put_core(Bits().put(0, 2).put(0, 2), exchange), exchange))

    def _put_core(self, bits: Bits, exchange: Exchange) -> Bits:
        return bits.constrained(exchange.connection.keys.core_ue_id, 0, self.core_most)

    def _put_node(self, bits: Bits, exchange: Exchange) -> Bits:
        return bits.constrained(exchange.node_ue_id, 0, self.node_most)


def put_end(bits: Bits, address: str, teid: int) -> Bits:
    """Append a tunnel's end: an IPv4 transport layer address and a TEID."""
    bits.extensible(32, 1, 160).append(packed(address))
    return bits.append(struct.pack("!I", teid))


def put_key(bits: Bits, connection: Connection) -> Bits:
    """Append a key that protects nothing."""
    key = struct.pack("!I", connection.keys.tmsi) * 8
    return bits.fixed_bits(int.from_bytes(key, "big"), 256)
