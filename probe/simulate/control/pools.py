"""Identifiers that are given out again once they are free, what was freed last first."""


class Pool:
    """Whole numbers from `first` on."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._next = first
        self._free: list[int] = []

    def take(self) -> int:
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next - 1

    def give(self, number: int) -> None:
        self._free.append(number)

    def reset(self) -> None:
        """Begin again, as a node does that restarts."""
        self._next, self._free = self._first, []
