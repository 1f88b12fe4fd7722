"""The interval rules: what ends a record, and that nothing is said or counted twice."""

from typing import Any

from probe.record.codec import time_from_text
from tests.probe.engine.conftest import Run
from tests.probe.engine.packets import ACK, MINUTE, MS, PSH, SECOND, SYN, Capture, Dialogue

SUMS = ("packets_up", "packets_down", "bytes_up", "bytes_down", "payload_up", "payload_down")


def long_dialogue() -> Capture:
    """A connection that opens 10 s before a minute's end and speaks in three minutes."""
    capture = Capture()
    dialogue = Dialogue(capture)
    dialogue.open(MINUTE - 10 * SECOND)
    for moment in (-5, 1, 30, 61):
        dialogue.up(MINUTE + moment * SECOND, ACK | PSH, b"x" * 100)
        dialogue.down(MINUTE + moment * SECOND + 25 * MS, ACK | PSH, b"y" * 200)
        dialogue.up(MINUTE + moment * SECOND + 60 * MS, ACK)
    dialogue.close(MINUTE + 62 * SECOND)
    return capture


def test_an_interval_ends_at_each_utc_multiple_of_the_active_timeout(run: Run) -> None:
    rows = run(long_dialogue()).rows
    assert [row["record_kind"] for row in rows] == ["interim", "interim", "final"]
    assert [row["interval_index"] for row in rows] == [0, 1, 2]
    ends = [time_from_text(row["end_time"]) for row in rows]
    starts = [time_from_text(row["start_time"]) for row in rows]
    assert ends[:2] == [MINUTE, MINUTE + 60 * SECOND]
    assert starts == [MINUTE - 10 * SECOND, MINUTE, MINUTE + 60 * SECOND]


def test_counters_are_deltas_that_add_up_to_the_session(run: Run) -> None:
    rows = run(long_dialogue()).rows
    whole = run(long_dialogue(), active_timeout_s=86_400).rows
    assert len(whole) == 1
    for name in SUMS:
        assert sum(row[name] for row in rows) == whole[0][name], name
    assert whole[0]["payload_up"] == 400
    assert whole[0]["payload_down"] == 800


def test_what_happens_once_is_said_once(run: Run) -> None:
    first, second, last = run(long_dialogue()).rows
    assert (first["handshake_rtt_server_us"], first["handshake_rtt_client_us"]) == (20_000, 30_000)
    assert (first["setup_us"], first["syn_retransmissions"]) == (50_000, 0)
    for row in (second, last):
        for name in ("setup_us", "handshake_rtt_client_us", "syn_retransmissions"):
            assert row[name] is None, name
    assert [row["outcome"] for row in (first, second, last)] == [None, None, "ok"]
    assert [row["end_reason"] for row in (first, second, last)] == [None, None, "fin"]


def test_identity_repeats_in_every_interval(run: Run) -> None:
    rows = run(long_dialogue()).rows
    for name in ("session_id", "flow_start_time", "client_ip", "server_port", "subscriber_id"):
        assert len({row[name] for row in rows}) == 1, name


def test_an_interval_without_packets_leaves_no_record(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    dialogue.open(MINUTE + SECOND)
    dialogue.up(MINUTE + 150 * SECOND, ACK | PSH, b"late")
    dialogue.down(MINUTE + 151 * SECOND, ACK)
    rows = run(capture).rows
    assert [row["interval_index"] for row in rows] == [0, 1]
    assert time_from_text(rows[1]["start_time"]) == MINUTE + 120 * SECOND


def test_a_flow_ends_after_its_idle_time_in_packet_time(run: Run) -> None:
    capture = Capture()
    Dialogue(capture).open(MINUTE)
    Dialogue(capture, client_port=40001).open(MINUTE + 1000 * SECOND)
    first = next(row for row in run(capture).rows if row["record_kind"] == "final")
    assert (first["client_port"], first["end_reason"]) == (40000, "idle")


def test_records_come_in_the_order_of_emission_then_session_id(run: Run) -> None:
    capture = Capture()
    for port in range(50):
        Dialogue(capture, client_port=40000 + port).open(MINUTE + port * MS)
    Dialogue(capture, client_port=50000).open(MINUTE + 61 * SECOND)
    rows = run(capture).rows
    first_minute = [row["session_id"] for row in rows if row["record_kind"] == "interim"]
    assert len(first_minute) == 50
    assert first_minute == sorted(first_minute)


def test_the_same_capture_gives_the_same_bytes(run: Run) -> None:
    assert run(long_dialogue()).bodies == run(long_dialogue()).bodies


def test_a_full_batch_is_handed_over_at_once(run: Run) -> None:
    capture = Capture()
    for port in range(25):
        Dialogue(capture, client_port=40000 + port).open(MINUTE + port * MS)
    batches = run(capture, batch_rows=10).batches
    assert [batch.rows for batch in batches] == [10, 10, 5]


def test_a_reused_port_starts_another_session(run: Run) -> None:
    capture = Capture()
    first = Dialogue(capture)
    first.open(MINUTE)
    first.close(MINUTE + SECOND)
    Dialogue(capture, client_sequence=700_000, server_sequence=1).open(MINUTE + 3 * SECOND)
    rows = run(capture).rows
    assert len({row["session_id"] for row in rows}) == 2
    assert [row["end_reason"] for row in rows] == ["port_reused", "capture_end"]


def test_a_full_table_evicts_and_says_so(run: Run) -> None:
    capture = Capture()
    for port in range(30):
        Dialogue(capture, client_port=40000 + port).open(MINUTE + port * SECOND)
    result = run(capture, limits={"flows": 10}, active_timeout_s=86_400)
    evicted = [row for row in result.rows if row["end_reason"] == "evicted"]
    assert len(evicted) == 20
    assert result.counters["flows_evicted"] == 20
    assert sum(row["packets_up"] for row in result.rows) == 60


def test_a_clock_that_goes_back_is_survived_and_counted(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    end = dialogue.open(MINUTE + 30 * SECOND)
    dialogue.up(end - 10 * SECOND, ACK | PSH, b"from the past")
    dialogue.up(end + SECOND, ACK | PSH, b"now")
    result = run(capture)
    assert result.ledger("time_went_back") == 1
    assert result.rows[0]["packets_up"] == 4
    assert time_from_text(result.rows[0]["end_time"]) == end + SECOND


def test_a_jump_of_years_is_passed_quickly(run: Run) -> None:
    capture = Capture()
    Dialogue(capture).open(MINUTE)
    Dialogue(capture, client_port=40001).open(MINUTE + 20 * 365 * 86_400 * SECOND)
    assert len(run(capture).rows) == 3


def records_by_kind(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["record_kind"] == kind]


def test_attempts_and_failures_can_be_counted_from_records(run: Run) -> None:
    capture = Capture()
    Dialogue(capture, client_port=1024 + 1).open(MINUTE)
    unanswered = Dialogue(capture, client_port=1024 + 2, server="192.0.2.66")
    for wait in (0, 1, 3, 7):
        unanswered.client_sequence = 1000
        unanswered.up(MINUTE + wait * SECOND, SYN)
    Dialogue(capture, client_port=1024 + 3).open(MINUTE + 90 * SECOND)
    rows = run(capture).rows
    attempts = [
        row for row in rows if row["interval_index"] == 0 and "missed_start" not in row["flags"]
    ]
    failures = [row for row in rows if row["outcome"] == "failed"]
    assert len(attempts) == 3
    assert [row["failure_cause"] for row in failures] == ["connect_timeout"]
    assert failures[0]["evidence"] == ["syn_unanswered", "client_reached"]


def with_clock_trouble(extra: Capture | None, shift_ns: int = 0) -> Capture:
    """A connection that speaks each 5 s for three minutes; in between comes trouble."""
    capture = Capture()
    dialogue = Dialogue(capture)
    dialogue.open(MINUTE)
    for number in range(36):
        if number == 6 and extra is not None:
            capture.packets += extra.packets
        moment = MINUTE + number * 5 * SECOND + (shift_ns if number >= 6 else 0) + SECOND
        dialogue.up(moment, ACK | PSH, b"x")
        dialogue.down(moment + 20 * MS, ACK | PSH, b"y")
        dialogue.up(moment + 50 * MS, ACK)
    return capture


def test_one_packet_of_another_century_disturbs_no_other_session(run: Run) -> None:
    wrong = Capture()
    Dialogue(wrong, client_port=999).up(4_102_444_800 * SECOND, SYN)
    calm = run(with_clock_trouble(None)).rows
    result = run(with_clock_trouble(wrong))
    ours = [row for row in result.rows if row["client_port"] != 999]
    assert ours == calm
    assert len(calm) == 3
    assert result.counters["time_leaps_doubted"] == 1
    assert [row["outcome"] for row in result.rows if row["outcome"] == "failed"] == []


def test_a_clock_set_back_by_an_hour_is_followed(run: Run) -> None:
    result = run(with_clock_trouble(None, shift_ns=-3600 * SECOND))
    assert result.counters["clock_set_back"] == 1
    assert {row["session_id"] for row in result.rows} == {result.rows[0]["session_id"]}
    assert sum(row["packets_up"] for row in result.rows) == 2 + 36 * 2
    ends = [time_from_text(row["end_time"]) for row in result.rows]
    assert MINUTE - 3540 * SECOND in ends or MINUTE - 3480 * SECOND in ends
    assert all(row["outcome"] != "failed" for row in result.rows)


def test_a_wrong_first_timestamp_invents_no_failure(run: Run) -> None:
    capture = Capture()
    Dialogue(capture, client_port=999).up(4_102_444_800 * SECOND, SYN)
    Dialogue(capture, client_port=1000).open(MINUTE)
    unanswered = Dialogue(capture, client_port=1001, server="192.0.2.66")
    unanswered.up(MINUTE + SECOND, SYN)
    rows = run(capture).rows
    assert {row["outcome"] for row in rows} == {"ok", "unknown"}
