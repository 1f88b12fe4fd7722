"""What was expected against what was found, and one figure for it."""

from collections import Counter
from collections.abc import Iterable


class Confusion:
    """Counts of (expected, found)."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.counts = Counter(pairs)

    def f1(self, label: str) -> float:
        """Return the harmonic mean of precision and recall of a class; 0 without a hit."""
        hits = self.counts[label, label]
        expected = sum(count for (truth, _), count in self.counts.items() if truth == label)
        found = sum(count for (_, said), count in self.counts.items() if said == label)
        return 2 * hits / (expected + found) if hits else 0.0

    def macro_f1(self) -> float:
        """Return the mean of all classes' F1, each class counting alike.

        A class that was found and never expected counts too, with 0: a wrong word costs twice.
        """
        labels = self.labels()
        return sum(map(self.f1, labels)) / len(labels)

    def labels(self) -> list[str]:
        """Return all classes that were expected or found, in order."""
        return sorted({label for pair in self.counts for label in pair})

    def table(self) -> list[str]:
        """Return the matrix as lines of text: a row for what was expected, a column for what was
        found, both numbered alike; a dot for 0."""
        numbered = list(enumerate(self.labels(), 1))
        columns = "".join(f"{number:>3}" for number, _ in numbered)
        lines = [f"{'expected':>3} {'found':>24} {columns}     F1"]
        for number, expected in numbered:
            cells = [self.counts[expected, found] or "." for _, found in numbered]
            row = "".join(f"{cell:>3}" for cell in cells)
            lines.append(f"{number:>3} {expected:<29} {row}  {self.f1(expected):.3f}")
        return lines
