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
        labels = {label for pair in self.counts for label in pair}
        return sum(map(self.f1, labels)) / len(labels)

    def rows(self) -> list[tuple[str, int, float, str]]:
        """Return for each class: times expected, F1, and what it was taken for instead."""
        rows = []
        for label in sorted({label for pair in self.counts for label in pair}):
            of_label = {said: n for (truth, said), n in self.counts.items() if truth == label}
            wrong = [f"{said} {n}" for said, n in sorted(of_label.items()) if said != label]
            rows.append((label, sum(of_label.values()), self.f1(label), ", ".join(wrong)))
        return rows
