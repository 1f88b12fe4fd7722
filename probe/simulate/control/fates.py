"""What becomes of procedures: cards of decks, so that each fault comes up regularly."""

from collections.abc import Sequence
from enum import Enum, auto
from random import Random
from typing import Final, Generic, TypeVar

Card = TypeVar("Card")


class AttachFate(Enum):
    """What becomes of a session's beginning."""

    GOOD = auto()
    REPEATED = auto()  # the first answer is lost on its way to the tap
    UNANSWERED = auto()
    REFUSED = auto()  # no resources
    WRONG_APN = auto()
    RADIO_REFUSED = auto()  # the base station has no room


class MoveFate(Enum):
    """What becomes of a handover."""

    GOOD = auto()
    REPEATED = auto()
    REFUSED = auto()


_ATTACHES: Final = (
    *(AttachFate.GOOD for _ in range(34)),
    AttachFate.REPEATED,
    AttachFate.REPEATED,
    AttachFate.UNANSWERED,
    AttachFate.REFUSED,
    AttachFate.WRONG_APN,
    AttachFate.RADIO_REFUSED,
)
_MOVES: Final = (
    *(MoveFate.GOOD for _ in range(17)),
    MoveFate.REPEATED,
    MoveFate.REPEATED,
    MoveFate.REFUSED,
)
# Answers that are lost before one comes; None: none comes.
_ACCOUNTINGS: Final[tuple[int | None, ...]] = (*(0 for _ in range(27)), 1, 1, None)


class _Deck(Generic[Card]):
    def __init__(self, cards: Sequence[Card], random: Random) -> None:
        self._all = cards
        self._random = random
        self._left: list[Card] = []

    def draw(self) -> Card:
        if not self._left:
            self._left = list(self._all)
            self._random.shuffle(self._left)
        return self._left.pop()


class Fates:
    """A deck for each kind of procedure."""

    def __init__(self, random: Random) -> None:
        self._attaches = _Deck(_ATTACHES, random)
        self._moves = _Deck(_MOVES, random)
        self._accountings = _Deck(_ACCOUNTINGS, random)

    def of_attach(self) -> AttachFate:
        return self._attaches.draw()

    def of_move(self) -> MoveFate:
        return self._moves.draw()

    def of_accounting(self) -> int | None:
        """Return how many answers are lost, None for all."""
        return self._accountings.draw()
