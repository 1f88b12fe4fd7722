"""What `qoe-probe replay` says of real captures equals what tshark says of them.

The truth files hold tshark's view of captures that other people made. Where the two differ, the
table `DIFFERENCES` says why; a difference that is not in the table fails, and so does an entry of
the table that no longer differs.
"""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.oracle.captures import captures, replay_of, streams_of, truth_of
from tests.oracle.differences import DAMAGED_FILES, DIFFERENCES, Difference
from tests.oracle.figures import figures
from tests.oracle.tshark import details_of
from tests.support import needs_shared


@pytest.fixture(autouse=True)
def tshark(tool: Callable[[str], str]) -> None:
    """Ask for tshark once; without it there is nothing to compare with."""
    tool("tshark")


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
    """Guards against a comparison that compares nothing. Copies of a mirror, which tshark takes for
    retransmissions, are most of what differs there: the figures of each kind must agree somewhere.
    """
    total, off = Counter[str](), Counter[str]()
    for name in captures():
        for figure in figures(replay_of(name).rows, truth_of(name)):
            total[figure.name] += figure.compared
            off[figure.name] += len(figure.off)
    assert all(total[kind] - off[kind] > 0 for kind in total), (total, off)
    assert off.total() <= total.total() / 10


@needs_shared
@pytest.mark.parametrize("name", captures())
def test_this_tshark_agrees_with_the_truth_files(name: str) -> None:
    details, streams = details_of(name), streams_of(truth_of(name))
    sent_again = {number: sum(of.values()) for number, of in details["retransmissions"].items()}
    theirs = {str(s["stream"]): s["any_retransmission"] for s in streams}
    assert sent_again == {number: count for number, count in theirs.items() if count}
    for stream in streams:
        for side in ("client", "server"):
            if samples := stream.get(f"ack_rtt_by_{side}_s"):
                low, high = details["quartiles"][str(stream["stream"])][side]
                assert low <= samples["median"] * 1e6 + 1 and samples["median"] * 1e6 <= high + 1
    codes = Counter(code for of in details["responses"].values() for code, _ in of)
    assert Counter(truth_of(name).get("http", {}).get("codes", {})) <= Counter(
        {str(code): count for code, count in codes.items()}
    )
