"""What the probe measures at a tap is what the network did to real programs' packets.

See `tests/system/laboratory`. A failure prints the whole table; the command
`python -m tests.system.laboratory.accuracy` prints it too.
"""

import shutil

import pytest

from tests.system.laboratory import needs_laboratory
from tests.system.laboratory.accuracy import (
    BULK,
    PLACES,
    Measured,
    loss_count,
    loss_table,
    measure_all,
    rtt_errors,
    rtt_table,
    side_right,
    with_sack,
)

MAX_RTT_ERROR_US = 1000
MAX_RTT_BIAS_US = 1000
MIN_DELAYED_US = 10_000
MAX_LOSS_ERROR = 0.02
MAX_LOSS_ERROR_WITHOUT_SACK = 0.06
"""Of some 280 losses among a thousand segments that were repeated needlessly."""
MIN_SIDE_RIGHT = 0.95
MIN_LOSSES = 100
"""Of each kind, for a share of them to mean anything."""

needs_programs = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("nginx", "curl", "openssl")),
    reason="nginx, curl or openssl is not installed",
)
pytestmark = [needs_laboratory, needs_programs]


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> list[Measured]:
    return measure_all(tmp_path_factory.mktemp("accuracy"))


@pytest.mark.parametrize("side", ["client", "server"])
def test_round_trips_are_those_of_the_links_and_the_end(flows: list[Measured], side: str) -> None:
    errors = rtt_errors(flows, side)
    assert len(errors.full) >= 0.95 * len(flows), rtt_table(flows)
    assert errors.full_error_us < MAX_RTT_ERROR_US, rtt_table(flows)


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("timestamps", [True, False])
def test_the_ends_own_time_adds_little_to_the_median_round_trip_of_bulk(
    flows: list[Measured], side: str, timestamps: bool
) -> None:
    chosen = [
        flow for flow in flows if flow.setup.timestamps is timestamps and flow.case.kind in BULK
    ]
    assert abs(rtt_errors(chosen, side).path_bias_us) < MAX_RTT_BIAS_US, rtt_table(flows)


def test_delayed_acknowledgments_are_in_the_round_trips_of_a_chat_and_no_more(
    flows: list[Measured],
) -> None:
    chats = [flow for flow in flows if flow.case.kind == "chat"]
    medians = rtt_errors(chats, "client")
    assert medians.path_bias_us > MIN_DELAYED_US, "clients did not delay their acknowledgments"
    assert medians.full_error_us < MAX_RTT_ERROR_US, rtt_table(flows)


def test_the_least_round_trip_of_a_chat_is_free_of_delayed_acknowledgments(
    flows: list[Measured],
) -> None:
    chats = [flow for flow in flows if flow.case.kind == "chat"]
    assert rtt_errors(chats, "client", statistic="min").path_error_us < MAX_RTT_ERROR_US


@pytest.mark.parametrize("direction", ["up", "down"])
def test_losses_before_the_tap_are_counted(flows: list[Measured], direction: str) -> None:
    count = loss_count(flows, "before", direction)
    assert count.visible > MIN_LOSSES
    assert abs(count.relative_error) <= MAX_LOSS_ERROR, loss_table(flows)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_losses_behind_the_tap_are_counted(flows: list[Measured], direction: str) -> None:
    for chosen in (flows, with_sack(flows, True)):
        count = loss_count(chosen, "after", direction)
        assert count.visible > MIN_LOSSES
        assert abs(count.relative_error) <= MAX_LOSS_ERROR, loss_table(flows)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_without_sack_losses_are_told_from_needless_retransmissions(
    flows: list[Measured], direction: str
) -> None:
    count = loss_count(with_sack(flows, False), "after", direction)
    assert count.visible > MIN_LOSSES
    assert count.needless > count.visible
    assert abs(count.relative_error) <= MAX_LOSS_ERROR_WITHOUT_SACK, loss_table(flows)


def test_losses_are_put_on_the_right_side_of_the_tap(flows: list[Measured]) -> None:
    assert side_right(flows) >= MIN_SIDE_RIGHT, loss_table(flows)


@pytest.mark.parametrize("place", PLACES)
def test_flows_without_losses_show_none(flows: list[Measured], place: tuple[str, str]) -> None:
    dropped = [flow.truth.loss[way] for flow in flows for way in ("up", "down")]
    assert any(loss.before + loss.after == 0 for loss in dropped)
    clean = [
        flow
        for flow in flows
        if not any(loss.before + loss.after + loss.needless for loss in flow.truth.loss.values())
    ]
    assert loss_count(clean, *place).recorded == 0, loss_table(clean)
