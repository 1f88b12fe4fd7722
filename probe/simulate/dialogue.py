"""Who says what, in turn, over a TCP connection."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial

from probe.simulate.events import Timeline
from probe.simulate.tcp import Endpoint


@dataclass(frozen=True)
class Turn:
    """One end says `data`, `wait_us` after the turn before has arrived."""

    from_client: bool
    data: bytes
    wait_us: int


class Ending(Enum):
    """How a dialogue ends once all is said; a reset comes in the middle of the last turn."""

    CLIENT_CLOSES = auto()
    SERVER_CLOSES = auto()
    SERVER_RESETS = auto()


class Dialogue:
    """Plays `turns` between two ends, then the ending."""

    def __init__(
        self,
        timeline: Timeline,
        client: Endpoint,
        server: Endpoint,
        turns: Sequence[Turn],
        ending: Ending,
    ) -> None:
        self._timeline = timeline
        self._client = client
        self._server = server
        self._turns = iter(turns)
        self._left = len(turns)
        self._ending = ending
        self._current: Turn | None = None
        self._awaited = {True: 0, False: 0}  # stream offset at the end of the turn, by speaker
        client.established = self._next_turn
        client.peer_finished = client.close
        server.peer_finished = server.close
        server.delivered = partial(self._delivered, True)
        client.delivered = partial(self._delivered, False)

    def _next_turn(self) -> None:
        self._current = None
        turn = next(self._turns, None)
        if turn is None:
            self._end()
        else:
            self._timeline.after(turn.wait_us, self._speak, turn)

    def _speak(self, turn: Turn) -> None:
        self._left -= 1
        self._current = turn
        self._awaited[turn.from_client] += len(turn.data)
        (self._client if turn.from_client else self._server).write(turn.data)

    def _delivered(self, from_client: bool, offset: int) -> None:
        turn = self._current
        if turn is None or turn.from_client != from_client:
            return
        missing = self._awaited[from_client] - offset
        if self._ending is Ending.SERVER_RESETS and not self._left and not from_client:
            if missing <= len(turn.data) // 2:
                self._current = None
                self._server.abort()
        elif missing <= 0:
            self._next_turn()

    def _end(self) -> None:
        (self._server if self._ending is Ending.SERVER_CLOSES else self._client).close()
