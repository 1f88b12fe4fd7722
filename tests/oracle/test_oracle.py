"""What `qoe-probe replay` says of real captures equals what tshark says of them.

The truth files hold tshark's view of captures that other people made. Where the two differ, the
table `DIFFERENCES` says why; a difference that is not in the table fails, and so does an entry of
the table that no longer differs.
"""

import pytest

from tests.oracle.captures import captures, replay_of, truth_of
from tests.oracle.differences import DAMAGED_FILES, DIFFERENCES, Difference
from tests.oracle.figures import figures
from tests.support import needs_shared

AGREES = Difference(0, "")


@needs_shared
@pytest.mark.parametrize("name", captures())
def test_every_figure_of_a_capture_equals_tsharks(name: str) -> None:
    result = replay_of(name)
    if damage := DAMAGED_FILES.get(name):
        assert (result.code, damage in result.error) == (1, True)
    else:
        assert (result.code, result.error) == (0, "")
    allowed = DIFFERENCES.get(name, {})
    for figure in figures(result.rows, truth_of(name)):
        expected = allowed.get(figure.name, AGREES)
        assert len(figure.off) == expected.count, (figure.name, expected.why, figure.off)


@needs_shared
def test_the_table_names_only_captures_and_figures_that_exist() -> None:
    name = captures()[0]
    known = {figure.name for figure in figures(replay_of(name).rows, truth_of(name))}
    named = {figure for differences in DIFFERENCES.values() for figure in differences}
    assert named <= known
    assert set(DIFFERENCES) | set(DAMAGED_FILES) <= set(captures())


@needs_shared
def test_nearly_every_figure_agrees_and_the_comparison_is_not_empty() -> None:
    """Guards against a comparison that compares nothing."""
    compared = [f for name in captures() for f in figures(replay_of(name).rows, truth_of(name))]
    for kind in {figure.name for figure in compared}:
        figures_of_kind = [figure for figure in compared if figure.name == kind]
        total = sum(figure.compared for figure in figures_of_kind)
        off = sum(len(figure.off) for figure in figures_of_kind)
        assert total > 0 and off <= total / 10, (kind, off, total)
