"""Each byte belongs to the cell that carried it, in the middle of a move as well."""

from pathlib import Path

import pytest

from tests.probe.simulate import attribution
from tests.probe.simulate.attribution import Row

BUSY = ("--cells", "20", "--subscribers", "200", "--duration", "60s", "--handovers", "150")
# The base stations' own signalling says where a device is before anything moves.
EXACT = ("s1u+s1ap", "s1u+s11+s1ap", "n3+n2", "n3+n4+n2")


@pytest.mark.parametrize("view", [*EXACT, "s1u+s11", "n3+n4"])
def test_no_byte_of_a_move_is_counted_elsewhere(view: str, tmp_path: Path) -> None:
    path = tmp_path / "simulated.pcap"
    truth = attribution.simulate(path, *BUSY, "--view", view)
    rows = attribution.replay(path, truth)
    score = attribution.score(truth, rows)
    assert carried_while_apart(truth) > 10_000
    assert score.wrong_subscriber == score.wrong_node == score.no_node == 0
    if view in EXACT:
        assert score.wrong_cell == score.no_cell == 0
    if view == "s1u+s11":
        # Between two cells of one base station nothing shows before the core is told.
        assert score.no_cell == 0
        assert score.wrong_cell < 10_000


def carried_while_apart(truth: Row) -> int:
    """Return the bytes that went down to a cell after packets had come up from the next."""
    return sum(
        session_share["bytes_down"]
        for session in truth["sessions"]
        for before, session_share in zip(session["carried"], session["carried"][1:], strict=False)
        if before["bytes_down"] == 0 and session_share["bytes_up"] == 0
    )
