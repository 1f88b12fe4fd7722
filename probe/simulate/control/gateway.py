"""What GTPv2-C and PFCP share: a node of the core asks gateways over UDP, and they answer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from probe.simulate.control.connection import Gateway
from probe.simulate.control.frames import Framer
from probe.simulate.control.signalling import Answer, Exchange, Kind, Outcome, Transaction


class GatewayInterface(ABC):
    """An MME or SMF and its gateways."""

    unanswered: ClassVar[frozenset[Kind]] = frozenset()
    core_address: str
    port: int
    causes: ClassVar[Mapping[Outcome, int]]
    last_sequence: int  # behind it numbers begin at 1 again

    def __init__(self, gateways: Sequence[Gateway], framer: Framer) -> None:
        self._gateways = gateways
        self._framer = framer
        self._sequence = 0

    def request(self, exchange: Exchange, transaction: Transaction) -> Sequence[bytes]:
        if not transaction.sequence:
            transaction.sequence = self._next_sequence()
        message = self._ask(exchange, transaction.sequence)
        return [self._to_gateway(exchange.connection.gateway, message)]

    def answer(self, exchange: Exchange, transaction: Transaction, outcome: Outcome) -> Answer:
        message = self._reply(exchange, transaction.sequence, outcome)
        frame = self._to_core(exchange.connection.gateway, message)
        return Answer([frame], self.causes[outcome])

    def _next_sequence(self) -> int:
        self._sequence = self._sequence % self.last_sequence + 1
        return self._sequence

    def _to_gateway(self, gateway: Gateway, message: bytes) -> bytes:
        ends = (self.core_address, self.port), (gateway.control_address, self.port)
        return self._framer.udp(*ends, True, message)

    def _to_core(self, gateway: Gateway, message: bytes) -> bytes:
        ends = (gateway.control_address, self.port), (self.core_address, self.port)
        return self._framer.udp(*ends, False, message)

    @abstractmethod
    def _ask(self, exchange: Exchange, sequence: int) -> bytes:
        """Return the request of an exchange."""

    @abstractmethod
    def _reply(self, exchange: Exchange, sequence: int, outcome: Outcome) -> bytes:
        """Return the answer."""
