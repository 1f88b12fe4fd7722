"""What S1AP and NGAP share: the interface between base stations and the core, over SCTP."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Final

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
from probe.simulate.network import Cell

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
        message, cause = self._reply(exchange, outcome)
        association = self._associations[exchange.cell.node_address]
        return Answer(association.send(exchange.kind not in _FROM_NODE, message), cause)

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
        setup, done = self._node_setup(cells)
        request = association.send(True, setup, _SETUP_STREAM)
        answer = association.send(False, done, _SETUP_STREAM)
        return [*opened, Greeting(self._setup_name, request, answer)]

    def restart(self, _gateway: object, _now_us: int) -> Sequence[Greeting]:
        """A gateway's restart is not told to base stations."""
        return []

    _setup_name: str

    @abstractmethod
    def _ask(self, exchange: Exchange) -> bytes:
        """Return the request of an exchange."""

    @abstractmethod
    def _reply(self, exchange: Exchange, outcome: Outcome) -> tuple[bytes, int | None]:
        """Return the answer, and its cause if it is a refusal."""

    @abstractmethod
    def _node_setup(self, cells: Sequence[Cell]) -> tuple[bytes, bytes]:
        """Return how a node with `cells` announces itself, and the answer."""
