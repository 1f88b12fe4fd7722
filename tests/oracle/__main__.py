"""Print how our figures of the reference captures compare with tshark's."""

import shutil
import sys
from collections import Counter, defaultdict

from tests.oracle.captures import captures, replay_of, truth_of
from tests.oracle.differences import DIFFERENCES
from tests.oracle.figure import Figure
from tests.oracle.figures import figures


def main() -> int:
    names = captures()
    if not names:
        print("no reference captures on this machine", file=sys.stderr)
        return 1
    if shutil.which("tshark") is None:
        print("tshark is not installed; `make system-tools` installs it", file=sys.stderr)
        return 1
    found = [(name, f) for name in names for f in figures(replay_of(name).rows, truth_of(name))]
    print("\n".join(figures_table(found)))
    print()
    print("\n".join(differences_table(found)))
    return int(any(unexplained(name, figure) for name, figure in found))


def unexplained(name: str, figure: Figure) -> int:
    known = DIFFERENCES.get(name, {}).get(figure.name)
    return len(figure.off) - (known.count if known else 0)


def figures_table(found: list[tuple[str, Figure]]) -> list[str]:
    lines = ["| figure | captures | compared | agree | differ, with a reason | unexplained |"]
    lines.append("|---|---|---|---|---|---|")
    kinds: dict[str, list[tuple[str, Figure]]] = defaultdict(list)
    for name, figure in found:
        kinds[figure.name].append((name, figure))
    for kind, rows in kinds.items():
        held = [figure for _, figure in rows if figure.compared]
        compared, off = sum(f.compared for f in held), sum(len(f.off) for _, f in rows)
        wrong = sum(unexplained(name, figure) for name, figure in rows)
        cells = [kind, len(held), compared, compared - off, off - wrong, wrong]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return lines


def differences_table(found: list[tuple[str, Figure]]) -> list[str]:
    lines = ["| figure | differ | captures | why |", "|---|---|---|---|"]
    counts: Counter[tuple[str, str]] = Counter()
    where: Counter[tuple[str, str]] = Counter()
    for name, figure in found:
        if known := DIFFERENCES.get(name, {}).get(figure.name):
            counts[figure.name, known.why] += known.count
            where[figure.name, known.why] += 1
    for (figure_name, why), count in sorted(counts.items()):
        lines.append(f"| {figure_name} | {count} | {where[figure_name, why]} | {why} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
