"""Exchanges of the control plane: what is asked, on which interfaces, and what becomes of it.

An exchange is one step of a procedure, whatever the interface: each tapped interface that takes
part says it in its own protocol, at the same time, so that all views show the same traffic.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Protocol

from probe.simulate.control.connection import Connection, Gateway, State
from probe.simulate.events import Timeline
from probe.simulate.network import Cell
from probe.simulate.tap import Tap

Row = dict[str, Any]

REPEAT_US: Final = 1_000_000  # between a request and its repetition
ATTEMPTS: Final = 3  # N3-REQUESTS of TS 29.274 7.6


class Kind(Enum):
    """The steps of procedures."""

    INITIAL = auto()  # the device's first message, no answer
    CREATE = auto()  # the core makes a session
    CONTEXT = auto()  # the node learns of a device that has no session yet (5G)
    SETUP = auto()  # the node gives the session a radio bearer
    ACTIVATE = auto()  # the core learns the node's end of the tunnel
    STARTED = auto()  # accounting begins
    SWITCH = auto()  # the target of a handover asks for the path
    MOVE = auto()  # the core turns the tunnel to the target
    MOVED = auto()  # accounting learns of another cell
    STOPPED = auto()  # accounting ends
    RELEASE_WANTED = auto()  # the node finds a device inactive, no answer
    SUSPEND = auto()  # the core forgets the node's end of the tunnel
    RELEASE = auto()  # the node forgets the device
    RETURN = auto()  # the first message of a device that was idle, no answer
    RESUME = auto()  # the core learns the node's end again
    DELETE = auto()  # the session ends


class Outcome(Enum):
    """How a request is answered."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN_APN = "unknown_apn"


@dataclass(eq=False, slots=True)
class Transaction:
    """One request on one interface, as the truth tells of it. Times in microseconds."""

    interface: str
    procedure: str
    start_us: int
    subscriber: str | None = None
    cell_id: str | None = None
    apn: str | None = None
    attachment: int | None = None
    sequence: int = 0
    transmissions: int = 1
    end_us: int | None = None
    result: str = "pending"  # when the capture ends
    cause: int | None = None  # in the protocol's own numbers

    def row(self, start_ns: int) -> Row:
        """Return the labels, times in ns since the Unix epoch."""
        end = None if self.end_us is None else start_ns + 1000 * self.end_us
        return {
            "interface": self.interface,
            "procedure": self.procedure,
            "start_time": start_ns + 1000 * self.start_us,
            "end_time": end,
            "response_us": None if self.end_us is None else self.end_us - self.start_us,
            "result": self.result,
            "cause": self.cause,
            "transmissions": self.transmissions,
            "subscriber": self.subscriber,
            "attachment": self.attachment,
            "cell_id": self.cell_id,
            "apn": self.apn,
        }


@dataclass(eq=False, slots=True)
class Exchange:
    """A step of a procedure of one session."""

    kind: Kind
    connection: Connection
    cell: Cell  # where the device is; of a move, the target
    teid_down: int  # the node's end that is told of
    node_ue_id: int  # of the device at that node
    now_us: int
    transactions: dict[str, Transaction] = field(default_factory=dict)

    @property
    def is_orphan(self) -> bool:
        """Whether the session has ended, by a restart, in the middle of the exchange."""
        gone = self.connection.state is State.GONE
        return gone and self.kind not in (*_ENDING, *_ACCOUNTING)


_ENDING: Final = (Kind.DELETE, Kind.RELEASE)
_ACCOUNTING: Final = (Kind.STARTED, Kind.MOVED, Kind.STOPPED)


@dataclass(frozen=True)
class Answer:
    """Frames of an answer and the cause that they give."""

    frames: Sequence[bytes]
    cause: int | None = None


@dataclass(frozen=True)
class Greeting:
    """A request and answer between nodes, about no session."""

    procedure: str
    request: Sequence[bytes]
    answer: Sequence[bytes]
    cause: int | None = None


class Interface(Protocol):
    """A tapped interface of the control plane."""

    @property
    def name(self) -> str:
        """As in the truth file."""

    @property
    def procedures(self) -> Mapping[Kind, str]:
        """The steps that it takes part in, by its own names."""

    @property
    def unanswered(self) -> Collection[Kind]:
        """Those steps that have no answer."""

    def request(self, exchange: Exchange, transaction: Transaction) -> Sequence[bytes]:
        """Return the frames of a request; a repetition is asked for again."""

    def answer(self, exchange: Exchange, transaction: Transaction, outcome: Outcome) -> Answer:
        """Return the frames of the answer."""

    def greetings(self) -> Sequence[Greeting]:
        """Return what the nodes say to each other at the start."""

    def restart(self, gateway: Gateway, now_us: int) -> Sequence[Greeting]:
        """Return what is said once `gateway` has restarted and forgotten everything."""


class Signalling:
    """Carries exchanges past the tap and keeps the list of transactions."""

    def __init__(self, timeline: Timeline, tap: Tap, interfaces: Sequence[Interface]) -> None:
        self.transactions: list[Transaction] = []
        self._timeline = timeline
        self._tap = tap
        self._interfaces = interfaces

    # ------------------------------------------------------------------------------- exchanges

    def tell(self, kind: Kind, connection: Connection) -> None:
        """Send a message that has no answer."""
        self.open(kind, connection)

    def open(
        self,
        kind: Kind,
        connection: Connection,
        target: Cell | None = None,
        teid_down: int | None = None,
        node_ue_id: int | None = None,
    ) -> Exchange:
        """Send a request on each interface that takes part."""
        exchange = Exchange(
            kind,
            connection,
            target or connection.cell,
            connection.teid_down if teid_down is None else teid_down,
            connection.keys.node_ue_id if node_ue_id is None else node_ue_id,
            self._timeline.now,
        )
        for interface in self._interfaces:
            if kind in interface.procedures:
                self._request(interface, exchange)
        return exchange

    def _request(self, interface: Interface, exchange: Exchange) -> None:
        connection = exchange.connection
        transaction = Transaction(
            interface.name,
            interface.procedures[exchange.kind],
            self._timeline.now,
            f"imsi:{connection.identity.imsi}",
            exchange.cell.cell_id,
            connection.apn,
            connection.number,
        )
        if exchange.kind in interface.unanswered:
            transaction.result = "told"
        exchange.transactions[interface.name] = transaction
        self.transactions.append(transaction)
        self._write(interface.request(exchange, transaction))

    def repeat(self, exchange: Exchange) -> None:
        """Send the request again."""
        for interface, transaction in self._open(exchange):
            transaction.transmissions += 1
            self._write(interface.request(exchange, transaction))

    def answer(self, exchange: Exchange, outcome: Outcome = Outcome.ACCEPTED) -> None:
        """Send the answer."""
        for interface, transaction in self._open(exchange):
            answer = interface.answer(exchange, transaction, outcome)
            transaction.end_us, transaction.cause = self._timeline.now, answer.cause
            transaction.result = "accepted" if outcome is Outcome.ACCEPTED else "refused"
            self._write(answer.frames)

    def give_up(self, exchange: Exchange) -> None:
        """Wait for the answer no longer."""
        for _, transaction in self._open(exchange):
            transaction.result = "unanswered"

    def _open(self, exchange: Exchange) -> list[tuple[Interface, Transaction]]:
        return [
            (interface, exchange.transactions[interface.name])
            for interface in self._interfaces
            if interface.name in exchange.transactions and exchange.kind not in interface.unanswered
        ]

    # --------------------------------------------------------------------- courses of exchanges

    def ask(
        self,
        exchange: Exchange,
        latency_us: int,
        done: Callable[[], None],
        outcome: Outcome = Outcome.ACCEPTED,
        *,
        lost_answers: int = 0,
    ) -> None:
        """Have an open exchange answered in `latency_us`, after `lost_answers` repetitions."""
        for attempt in range(lost_answers):
            self._timeline.after((attempt + 1) * REPEAT_US, self.repeat, exchange)
        wait = lost_answers * REPEAT_US + latency_us
        self._timeline.after(wait, self._answer_and, exchange, outcome, done)

    def _answer_and(self, exchange: Exchange, outcome: Outcome, done: Callable[[], None]) -> None:
        if exchange.is_orphan:
            self.give_up(exchange)
            return
        self.answer(exchange, outcome)
        done()

    def ask_in_vain(self, exchange: Exchange, done: Callable[[], None]) -> None:
        """Repeat an open exchange until it is given up."""
        for attempt in range(1, ATTEMPTS):
            self._timeline.after(attempt * REPEAT_US, self.repeat, exchange)
        self._timeline.after(ATTEMPTS * REPEAT_US, self._give_up_and, exchange, done)

    def _give_up_and(self, exchange: Exchange, done: Callable[[], None]) -> None:
        self.give_up(exchange)
        done()

    # ---------------------------------------------------------------------- nodes among themselves

    def greet(self) -> None:
        """Let the nodes find each other."""
        for interface in self._interfaces:
            self._exchange_greetings(interface, interface.greetings())

    def restart(self, gateway: Gateway) -> None:
        """Let the others know that `gateway` has restarted."""
        for interface in self._interfaces:
            greetings = interface.restart(gateway, self._timeline.now)
            self._exchange_greetings(interface, greetings)

    def _exchange_greetings(self, interface: Interface, greetings: Sequence[Greeting]) -> None:
        for number, greeting in enumerate(greetings):
            wait = 200 * number
            self._timeline.after(wait, self._greet, interface.name, greeting)

    def _greet(self, interface: str, greeting: Greeting) -> None:
        transaction = Transaction(interface, greeting.procedure, self._timeline.now)
        self.transactions.append(transaction)
        self._write(greeting.request)
        self._timeline.after(800, self._greet_back, transaction, greeting)

    def _greet_back(self, transaction: Transaction, greeting: Greeting) -> None:
        self._write(greeting.answer)
        transaction.end_us, transaction.cause = self._timeline.now, greeting.cause
        transaction.result = "accepted"

    def _write(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            self._tap.write(self._timeline.now, frame)
