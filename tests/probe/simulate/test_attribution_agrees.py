"""The engine says of each session who and where as the simulator knows it, by signalling alone."""

from collections import Counter
from pathlib import Path

import pytest

from tests.probe.simulate import attribution
from tests.probe.simulate.attribution import Row, Score

WITH_CELL = (
    ("s1u+s11",),
    ("s1u+s1ap",),
    ("s1u+s11+s1ap",),
    ("n3+n2",),
    ("n3+n4+n2",),
    ("sgi+radius",),
    ("sgi+radius", "--rat", "nr"),
)
VIEWS = (*WITH_CELL, ("n3+n4",))
SIZE = ("--cells", "10", "--subscribers", "60", "--duration", "60s", "--handovers", "20")
Measured = tuple[Row, list[Row], Score]


@pytest.fixture(scope="module", params=VIEWS, ids=" ".join)
def view(request: pytest.FixtureRequest) -> tuple[str, ...]:
    chosen: tuple[str, ...] = request.param
    return chosen


@pytest.fixture(scope="module")
def measured(view: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Measured:
    path = tmp_path_factory.mktemp("capture") / "simulated.pcap"
    truth = attribution.simulate(path, *SIZE, "--view", *view)
    rows = attribution.replay(path, truth)
    return truth, rows, attribution.score(truth, rows)


def test_subscribers_are_known_and_never_confused(measured: Measured) -> None:
    _, _, score = measured
    assert score.total > 10_000_000
    assert score.share("right_subscriber") >= 0.995
    assert score.wrong_subscriber == 0


def test_bytes_are_counted_where_they_were_carried(
    view: tuple[str, ...], measured: Measured
) -> None:
    _, _, score = measured
    if view in WITH_CELL:
        assert score.share("right_cell") >= 0.98
    else:
        assert score.share("right_node") >= 0.98


def test_each_request_that_fails_is_told_with_its_cause_and_time(measured: Measured) -> None:
    truth, rows, _ = measured
    assert failed(rows) == failing(truth)


def failed(rows: list[Row]) -> Counter[tuple[str, str]]:
    """Return time and kind of end of the requests that the engine says have failed."""
    return Counter(
        (row["start_time"][:26], "refused" if "refused" in row["evidence"] else "unanswered")
        for row in rows
        if row["record_kind"] == "transaction" and row["outcome"] == "failed"
    )


def failing(truth: Row) -> Counter[tuple[str, str]]:
    """Return the same of those that have failed."""
    return Counter(
        (attribution.text_of(request["start_time"]), request["result"])
        for request in truth["signalling"]
        if request["result"] in ("refused", "unanswered")
    )


def test_sessions_under_way_at_the_start_are_learned_or_unknown_but_never_wrong(
    tmp_path: Path,
) -> None:
    path = tmp_path / "simulated.pcap"
    truth = attribution.simulate(path, *SIZE, "--view", "s1u+s11", "--skip", "25s")
    score = attribution.score(truth, attribution.replay(path, truth))
    assert score.wrong_subscriber == 0
    assert score.right_subscriber > 0
