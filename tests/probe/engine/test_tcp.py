"""What the engine says about TCP: round trips, loss by side of the tap, and outcomes."""

import pytest

from tests.probe.engine.conftest import Result, Run, only
from tests.probe.engine.packets import (
    ACK,
    FIN,
    MINUTE,
    MS,
    PSH,
    RST,
    SECOND,
    SYN,
    Capture,
    Dialogue,
    ipv4,
    rule,
    tcp,
)


def test_round_trips_are_measured_on_both_sides_of_the_tap(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(MINUTE)
    for _ in range(5):
        dialogue.up(now, ACK | PSH, b"request")
        dialogue.down(now + 15 * MS, ACK | PSH, b"answer")
        dialogue.up(now + 55 * MS, ACK)
        now += 100 * MS
    row = only(run(capture))
    # Five exchanges, and the handshake: 20 ms to the server, 30 ms to the client.
    assert (row["rtt_server_samples"], row["rtt_client_samples"]) == (6, 6)
    assert (row["rtt_server_min_us"], row["rtt_client_min_us"]) == (15_000, 30_000)
    assert row["rtt_server_median_us"] == pytest.approx(15_000, rel=0.025)
    assert row["rtt_client_median_us"] == pytest.approx(40_000, rel=0.025)
    assert row["rtt_server_histogram"] == {"116": 5, "122": 1}
    assert row["rtt_client_method"] == "sequence"


def test_the_handshake_is_the_first_sample_and_the_same_figure_as_in_the_set_up(run: Run) -> None:
    capture = Capture()
    Dialogue(capture).open(MINUTE)
    row = only(run(capture))
    for side, us in (("server", 20_000), ("client", 30_000)):
        assert row[f"handshake_rtt_{side}_us"] == row[f"rtt_{side}_min_us"] == us
        assert (row[f"rtt_{side}_samples"], row[f"rtt_{side}_method"]) == (1, "handshake")


def test_an_ambiguous_handshake_is_neither_in_the_set_up_nor_among_the_samples(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    dialogue.up(MINUTE, SYN)
    dialogue.client_sequence -= 1
    now = dialogue.open(MINUTE + SECOND)
    row = only(run(capture))
    assert (row["handshake_rtt_server_us"], row["rtt_server_samples"]) == (None, None)
    assert (row["handshake_rtt_client_us"], row["rtt_client_samples"]) == (30_000, 1)
    assert row["setup_us"] == (now - MINUTE) // 1000


def test_a_retransmission_voids_the_sample_it_makes_ambiguous(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(MINUTE)
    dialogue.up(now, ACK | PSH, b"request")
    dialogue.client_sequence -= len(b"request")
    dialogue.up(now + 300 * MS, ACK | PSH, b"request")
    dialogue.down(now + 315 * MS, ACK)
    row = only(run(capture))
    assert (row["rtt_server_samples"], row["rtt_server_method"]) == (1, "handshake")
    assert row["rtt_server_min_us"] == 20_000
    assert (row["retransmitted_packets_up"], row["retransmitted_bytes_up"]) == (1, 7)


def with_hole(filled_after_ns: int) -> Capture:
    """The server's second segment misses the tap and comes `filled_after_ns` after the third."""
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(MINUTE)
    dialogue.up(now, ACK | PSH, b"request")
    dialogue.down(now + 20 * MS, ACK, b"a" * 100)
    dialogue.server_sequence += 100
    dialogue.down(now + 21 * MS, ACK, b"c" * 100)
    dialogue.server_sequence -= 200
    dialogue.down(now + 21 * MS + filled_after_ns, ACK, b"b" * 100)
    dialogue.server_sequence += 100
    dialogue.up(now + 80 * MS + filled_after_ns, ACK)
    return capture


def test_a_hole_filled_after_a_round_trip_was_lost_before_the_tap(run: Run) -> None:
    row = only(run(with_hole(70 * MS)))
    assert (row["lost_before_tap_down"], row["lost_after_tap_down"]) == (1, 0)
    assert (row["retransmitted_packets_down"], row["out_of_order_packets_down"]) == (1, 0)


def test_a_hole_filled_at_once_was_only_reordered(run: Run) -> None:
    row = only(run(with_hole(2 * MS)))
    assert (row["out_of_order_packets_down"], row["retransmitted_packets_down"]) == (1, 0)
    assert row["lost_before_tap_down"] == 0


def test_a_segment_seen_twice_was_lost_behind_the_tap(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(MINUTE)
    dialogue.down(now, ACK, b"a" * 100)
    dialogue.server_sequence -= 100
    dialogue.down(now + 250 * MS, ACK, b"a" * 100)
    row = only(run(capture))
    assert (row["lost_after_tap_down"], row["lost_before_tap_down"]) == (1, 0)


def test_sequence_numbers_may_wrap(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture, client_sequence=2**32 - 5)
    now = dialogue.open(MINUTE)
    dialogue.up(now, ACK | PSH, b"across the wrap")
    dialogue.down(now + 10 * MS, ACK)
    row = only(run(capture))
    assert (row["rtt_server_min_us"], row["retransmitted_packets_up"]) == (10_000, 0)
    assert row["flags"] == []


def test_zero_windows_are_counted_where_they_are_sent(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(MINUTE)
    stuck = tcp(40000, 443, ACK, dialogue.client_sequence, dialogue.server_sequence, window=0)
    capture.add(now + MS, ipv4("10.0.0.1", "192.0.2.1", 6, stuck))
    row = only(run(capture))
    assert (row["zero_windows_up"], row["zero_windows_down"]) == (1, 0)


def test_a_refused_connection_failed_at_the_server(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    dialogue.up(MINUTE, SYN)
    dialogue.down(MINUTE + 20 * MS, RST | ACK)
    row = only(run(capture))
    assert (row["outcome"], row["failure_cause"]) == ("failed", "connect_refused")
    assert (row["failure_stage"], row["failure_side"]) == ("connect", "server")
    assert row["evidence"] == ["syn", "reset_before_syn_ack"]


def silent_server(client_is_reached: bool) -> Capture:
    capture = Capture()
    if client_is_reached:
        Dialogue(capture, client_port=50000).open(MINUTE)
    dialogue = Dialogue(capture, server="192.0.2.66")
    for wait in (1, 2, 4, 8):
        dialogue.client_sequence = 1000
        dialogue.up(MINUTE + wait * SECOND, SYN)
    return capture


def cause_of_silence(result: Result) -> tuple[object, object, object]:
    row = next(row for row in result.rows if row["server_ip"] == "192.0.2.66")
    return row["outcome"], row["failure_cause"], row["syn_retransmissions"]


def test_a_syn_without_answer_is_a_timeout_if_the_client_can_be_reached(run: Run) -> None:
    result = run(silent_server(client_is_reached=True))
    assert cause_of_silence(result) == ("failed", "connect_timeout", 3)


def test_a_syn_without_answer_is_unknown_where_the_way_back_is_not_seen(run: Run) -> None:
    result = run(silent_server(client_is_reached=False))
    assert cause_of_silence(result) == ("unknown", None, 3)


def reset(by_server: bool, outstanding: bool, after_fin: bool = False) -> Capture:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(MINUTE)
    dialogue.up(now, ACK | PSH, b"request")
    if not outstanding:
        dialogue.down(now + 20 * MS, ACK | PSH, b"answer")
        dialogue.up(now + 50 * MS, ACK)
    if after_fin:
        dialogue.up(now + 60 * MS, FIN | ACK)
    (dialogue.down if by_server else dialogue.up)(now + SECOND, RST | ACK)
    return capture


def test_a_reset_by_the_server_amid_a_request_is_a_failure(run: Run) -> None:
    row = only(run(reset(by_server=True, outstanding=True)))
    assert (row["outcome"], row["failure_cause"]) == ("failed", "reset_by_server")
    assert row["end_reason"] == "reset"


@pytest.mark.parametrize(
    "capture",
    [
        pytest.param(reset(by_server=True, outstanding=False), id="nothing outstanding"),
        pytest.param(reset(by_server=True, outstanding=True, after_fin=True), id="after a FIN"),
        pytest.param(reset(by_server=False, outstanding=True), id="the customer left"),
    ],
)
def test_other_resets_are_no_failures(run: Run, capture: Capture) -> None:
    row = only(run(capture))
    assert (row["outcome"], row["failure_cause"], row["end_reason"]) == ("ok", None, "reset")


def test_a_connection_seen_from_its_middle_says_so(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    dialogue.down(MINUTE, ACK, b"data")
    dialogue.up(MINUTE + 30 * MS, ACK)
    row = only(run(capture))
    assert row["flags"] == ["missed_start"]
    assert (row["client_ip"], row["initiator"], row["setup_us"]) == ("10.0.0.1", None, None)


def test_bytes_acknowledged_but_never_seen_flag_a_capture_loss(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(MINUTE)
    dialogue.server_sequence += 5000
    dialogue.up(now + SECOND, ACK)
    assert only(run(capture))["flags"] == ["capture_loss"]


def test_a_client_reached_by_its_other_address_is_reached(run: Run) -> None:
    capture = Capture()
    Dialogue(capture, client="10.0.0.9").open(MINUTE)
    dialogue = Dialogue(capture, server="192.0.2.66")
    for wait in (1, 2, 4, 8):
        dialogue.client_sequence = 1000
        dialogue.up(MINUTE + wait * SECOND, SYN)
    assert cause_of_silence(run(capture))[0] == "unknown"
    one_person = rule(client_prefix="10.0.0.0/28", subscriber="imsi:1")
    assert cause_of_silence(run(capture, attribution=[one_person]))[1] == "connect_timeout"


def test_a_connection_whose_syn_ack_was_missed_is_established_all_the_same(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    dialogue.up(MINUTE, SYN)
    dialogue.server_sequence += 1
    dialogue.up(MINUTE + 50 * MS, ACK | PSH, b"request")
    dialogue.down(MINUTE + 70 * MS, ACK | PSH, b"answer")
    dialogue.up(MINUTE + 71 * SECOND, ACK | PSH, b"another")
    rows = run(capture).rows
    assert len({row["session_id"] for row in rows}) == 1
    assert (rows[0]["setup_us"], rows[0]["handshake_rtt_server_us"]) == (50_000, None)
    assert rows[-1]["outcome"] == "ok"
