"""What the engine says of awkward TCP sessions: old ports, one direction, large segments."""

import pytest

from tests.probe.engine.conftest import Row, Run, only
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
    tcp,
)

LOSSES = ["retransmitted_packets", "lost_before_tap", "lost_after_tap", "out_of_order_packets"]


def losses(row: Row, direction: str) -> list[object]:
    return [row[f"{name}_{direction}"] for name in LOSSES]


def test_goodput_active_time_and_best_second_are_those_of_the_payload_s_seconds(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(MINUTE)
    second = MINUTE + 5 * SECOND
    assert now < second
    # In one UTC second 10 segments in two bins, one of them twice; one more in the next second.
    for place in range(5):
        dialogue.down(second + place * MS, ACK, b"a" * 1000)
    for place in range(5):
        dialogue.down(second + 900 * MS + place * MS, ACK, b"a" * 1000)
    dialogue.server_sequence -= 1000
    dialogue.down(second + 960 * MS, ACK, b"a" * 1000)
    dialogue.down(second + SECOND, ACK, b"a" * 1000)
    dialogue.up(second + SECOND + 30 * MS, ACK)
    row = only(run(capture))
    assert (row["payload_down"], row["retransmitted_bytes_down"]) == (12_000, 1000)
    assert (row["active_us_down"], row["active_us_up"]) == (300_000, 0)
    assert row["peak_bytes_down"] == 11 * 1040
    new_bytes = row["payload_down"] - row["retransmitted_bytes_down"]
    assert 8_000_000 * new_bytes // row["active_us_down"] == 293_333


def test_a_port_in_time_wait_that_is_used_again_is_another_session(run: Run) -> None:
    capture = Capture()
    first = Dialogue(capture)
    first.close(first.open(MINUTE))
    # The server still holds the old connection and says so; the client resets that and tries again.
    second = Dialogue(capture, client_sequence=700_000, server_sequence=9_000_000)
    again = MINUTE + 3 * SECOND
    second.up(again, SYN)
    old = tcp(443, 40000, ACK, first.server_sequence, first.client_sequence)
    capture.add(again + 20 * MS, ipv4("192.0.2.1", "10.0.0.1", 6, old))
    reset = tcp(40000, 443, RST, first.client_sequence, 0)
    capture.add(again + 50 * MS, ipv4("10.0.0.1", "192.0.2.1", 6, reset))
    second.client_sequence -= 1
    now = second.open(again + SECOND)
    second.up(now, ACK | PSH, b"request")
    second.down(now + 20 * MS, ACK | PSH, b"answer")
    second.close(now + 100 * MS)
    rows = run(capture).rows
    assert [row["end_reason"] for row in rows] == ["port_reused", "fin"]
    assert [row["outcome"] for row in rows] == ["ok", "ok"]
    assert (rows[1]["setup_us"], rows[1]["syn_retransmissions"]) == (1_050_000, 1)
    assert rows[1]["flags"] == []


def test_two_sides_that_open_at_once_are_one_session_of_the_first(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    dialogue.up(MINUTE, SYN)
    dialogue.down(MINUTE + 5 * MS, SYN)
    for side, when in ((dialogue.down, 20 * MS), (dialogue.up, 35 * MS)):
        dialogue.client_sequence, dialogue.server_sequence = 1000, 9000
        ends = {"client_sequence": 1000, "server_sequence": 9000}
        if side == dialogue.down:
            segment = tcp(443, 40000, SYN | ACK, ends["server_sequence"], 1001)
            capture.add(MINUTE + when, ipv4("192.0.2.1", "10.0.0.1", 6, segment))
        else:
            segment = tcp(40000, 443, SYN | ACK, ends["client_sequence"], 9001)
            capture.add(MINUTE + when, ipv4("10.0.0.1", "192.0.2.1", 6, segment))
    dialogue.client_sequence, dialogue.server_sequence = 1001, 9001
    dialogue.up(MINUTE + SECOND, ACK | PSH, b"hello")
    dialogue.down(MINUTE + SECOND + 20 * MS, ACK | PSH, b"hello")
    row = only(run(capture))
    assert (row["initiator"], row["setup_us"]) == ("client", 35_000)
    assert (row["handshake_rtt_server_us"], row["handshake_rtt_client_us"]) == (20_000, 30_000)


def test_a_super_segment_of_sixty_kilobytes_is_one_packet_and_its_payload_counts(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(MINUTE)
    dialogue.down(now, ACK, b"a" * 60_000)
    dialogue.up(now + 30 * MS, ACK)
    dialogue.server_sequence -= 2000
    dialogue.down(now + 400 * MS, ACK, b"a" * 60_000)
    dialogue.up(now + 430 * MS, ACK)
    row = only(run(capture))
    assert (row["payload_down"], row["packets_down"]) == (120_000, 3)
    assert (row["retransmitted_packets_down"], row["retransmitted_bytes_down"]) == (1, 2000)
    assert (row["lost_after_tap_down"], row["rtt_client_min_us"]) == (0, 30_000)


@pytest.mark.parametrize("seen", ["up", "down"])
def test_of_one_direction_nothing_is_said_that_needs_the_other(run: Run, seen: str) -> None:
    whole = Capture()
    dialogue = Dialogue(whole, client_sequence=3_000_000_000, server_sequence=4_000_000_000)
    now = dialogue.open(MINUTE)
    for step in range(4):
        dialogue.up(now + 5 * step * SECOND, ACK | PSH, b"request")
        dialogue.down(now + 5 * step * SECOND + 20 * MS, ACK | PSH, b"answer" * 100)
    dialogue.server_sequence -= 600
    dialogue.down(now + 16 * SECOND, ACK | PSH, b"answer" * 100)
    dialogue.up(now + 16 * SECOND + 30 * MS, ACK)
    half = Capture()
    ours = b"\x0a\x00\x00\x01" if seen == "up" else b"\xc0\x00\x02\x01"
    half.packets = [(time, frame) for time, frame in whole.packets if frame[26:30] == ours]
    row = only(run(half))
    assert "one_way" in row["flags"]
    assert (row["outcome"], row["stall_us"]) == ("unknown", None)
    assert (row["rtt_client_samples"], row["rtt_server_samples"]) == (None, None)
    assert (row["handshake_rtt_client_us"], row["handshake_rtt_server_us"]) == (None, None)
    assert losses(row, "up") == [0, 0, 0, 0]
    assert losses(row, "down") == ([1, 0, 1, 0] if seen == "down" else [0, 0, 0, 0])


def test_keep_alives_leave_counts_of_packets_only(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(MINUTE)
    dialogue.up(now, ACK | PSH, b"request")
    dialogue.down(now + 20 * MS, ACK | PSH, b"answer")
    dialogue.up(now + 50 * MS, ACK)
    for beat in range(1, 4):
        for body in (b"", b"\0"):
            at = now + beat * 75 * SECOND + len(body) * SECOND
            dialogue.client_sequence -= 1
            dialogue.up(at, ACK, body)
            dialogue.client_sequence += 1 - len(body)
            dialogue.down(at + 20 * MS, ACK)
    rows = run(capture).rows
    assert len({row["session_id"] for row in rows}) == 1
    assert sum(row["packets_up"] for row in rows) == 4 + 6
    for row in rows:
        assert losses(row, "up") == losses(row, "down") == [0, 0, 0, 0]
        assert (row["duplicate_acks_down"], row["stall_us"]) == (0, 0)
    assert [row["rtt_server_samples"] for row in rows] == [2, None, None, None]


def test_a_stall_adds_up_over_intervals_to_the_time_without_progress(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(MINUTE + 30 * SECOND)
    dialogue.down(now, ACK, b"a" * 1000)
    for wait in (1, 3, 7, 15, 31, 63):
        dialogue.server_sequence -= 1000
        dialogue.down(now + wait * SECOND, ACK, b"a" * 1000)
    dialogue.up(now + 70 * SECOND, ACK)
    rows = run(capture).rows
    assert len(rows) == 2
    assert sum(row["stall_us"] for row in rows) == 70_000_000
    assert sum(row["retransmitted_packets_down"] for row in rows) == 6


def test_a_fin_sent_again_has_no_payload(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(MINUTE)
    dialogue.up(now, FIN | ACK)
    dialogue.client_sequence -= 1
    dialogue.up(now + 300 * MS, FIN | ACK)
    dialogue.down(now + 320 * MS, FIN | ACK)
    row = only(run(capture))
    assert (row["retransmitted_packets_up"], row["retransmitted_bytes_up"]) == (1, 0)
    assert row["end_reason"] == "fin"


def test_a_window_that_closes_and_its_probes_are_no_loss(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(MINUTE)
    dialogue.down(now, ACK, b"a" * 1000)
    for when in (30 * MS, 430 * MS, 1230 * MS):
        closed = tcp(40000, 443, ACK, dialogue.client_sequence, dialogue.server_sequence, window=0)
        capture.add(now + when, ipv4("10.0.0.1", "192.0.2.1", 6, closed))
        probe = tcp(443, 40000, ACK, dialogue.server_sequence - 1, dialogue.client_sequence)
        capture.add(now + when + 370 * MS, ipv4("192.0.2.1", "10.0.0.1", 6, probe))
    dialogue.up(now + 2 * SECOND, ACK)
    dialogue.down(now + 2 * SECOND + 20 * MS, ACK, b"a" * 1000)
    dialogue.up(now + 2 * SECOND + 50 * MS, ACK)
    row = only(run(capture))
    assert (row["zero_windows_up"], row["zero_windows_down"]) == (3, 0)
    assert losses(row, "down") == [0, 0, 0, 0]
    assert row["rtt_client_samples"] == 3
