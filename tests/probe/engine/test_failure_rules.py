"""What is a failure and what is none (docs/failures.md): each rule on bytes, through the engine."""

from random import Random
from typing import Any

import pytest

from probe.simulate.tls import AlertDescription, TlsSession, fatal_alert
from tests.probe.engine import dns
from tests.probe.engine.conftest import Result, Row, Run, run_engine
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
    udp,
)
from tests.probe.engine.quic import Connection, client_hello, crypto
from tests.support import SHARED, needs_shared

NOON = MINUTE + 5 * SECOND  # far from the ends of an interval
GET = b"GET /index.html HTTP/1.1\r\nHost: a.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HALF_OF_IT = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 1000


def verdicts(result: Result, **which: Any) -> list[tuple[Any, ...]]:
    """Return (outcome, cause, evidence) of every record that decides one, in order."""
    rows = [row for row in result.rows if all(row[key] == value for key, value in which.items())]
    return [
        (row["outcome"], row["failure_cause"], ",".join(row["evidence"] or []))
        for row in rows
        if row["outcome"] is not None
    ]


def verdict(result: Result, **which: Any) -> tuple[Any, ...]:
    decided = verdicts(result, **which)
    assert len(decided) == 1
    return decided[0]


def failure(result: Result) -> Row:
    """Return the only failure of a capture."""
    failed = [row for row in result.rows if row["outcome"] == "failed"]
    assert len(failed) == 1
    return failed[0]


def reach(capture: Capture, client: str = "10.0.0.1", time_ns: int = MINUTE) -> None:
    """Show that packets to the client are seen."""
    capture.add(time_ns, ipv4("192.0.2.99", client, 17, udp(123, 6000, b"hello")))


def go_on_until(capture: Capture, time_ns: int) -> None:
    """Let time pass: strangers talk."""
    start = max(capture.packets[-1][0], MINUTE)
    for moment in range(start + SECOND, time_ns + SECOND, SECOND):
        capture.add(moment, ipv4("198.51.100.1", "198.51.100.2", 17, udp(1111, 2222, b"tick")))


def syn(dialogue: Dialogue, time_ns: int) -> None:
    """Send the SYN once more."""
    dialogue.client_sequence = 1000
    dialogue.up(time_ns, SYN)


def knock(
    capture: Capture, start_ns: int, waits: tuple[int, ...] = (0, 1, 3, 7), **ends: Any
) -> None:
    """Send SYNs that nobody answers, at `waits` seconds."""
    dialogue = Dialogue(capture, **ends)
    for wait in waits:
        syn(dialogue, start_ns + wait * SECOND)


def ask_by_quic(capture: Capture, start_ns: int, waits: tuple[int, ...], **ends: Any) -> None:
    """Send QUIC Initials that nobody answers, at `waits` seconds."""
    quic = Connection(capture, client_port=50000, **ends)
    for wait in waits:
        hello = crypto(0, client_hello("a.example", ["h3"]))
        quic.up(start_ns + wait * SECOND, quic.client.initial(hello))


def tls(version: str) -> TlsSession:
    random = Random(7)
    return TlsSession(random, "a.example", "http/1.1", version, random.randbytes(40_000))


def shake_tls(dialogue: Dialogue, version: str) -> tuple[TlsSession, int]:
    """Open a connection and finish a TLS handshake; returns the session and the time."""
    session = tls(version)
    now = dialogue.open(NOON)
    dialogue.up(now, ACK | PSH, session.client_hello())
    dialogue.down(now + 20 * MS, ACK | PSH, session.server_flight())
    dialogue.up(now + 50 * MS, ACK | PSH, session.client_finished())
    dialogue.down(now + 60 * MS, ACK)
    return session, now + 60 * MS


# ------------------------------------------------------------------------- connections that fail


def test_a_syn_that_nobody_answers_is_a_timeout(run: Run) -> None:
    capture = Capture()
    reach(capture)
    knock(capture, NOON)
    go_on_until(capture, NOON + 80 * SECOND)
    row = failure(run(capture))
    assert (row["failure_cause"], row["failure_stage"]) == ("connect_timeout", "connect")
    assert (row["failure_side"], row["evidence"]) == (
        "server",
        ["syn_unanswered", "client_reached"],
    )


@pytest.mark.parametrize(("seconds", "outcome"), [(59, "failed"), (75, "unknown")])
def test_a_timeout_needs_a_packet_to_the_client_in_the_last_minute(
    run: Run, seconds: int, outcome: str
) -> None:
    capture = Capture()
    reach(capture)
    knock(capture, MINUTE + (seconds - 7) * SECOND)
    assert verdict(run(capture), server_ip="192.0.2.1")[0] == outcome


def test_a_single_syn_does_not_show_that_anybody_waited(run: Run) -> None:
    capture = Capture()
    reach(capture)
    knock(capture, NOON, waits=(0,))
    go_on_until(capture, NOON + 80 * SECOND)
    assert verdict(run(capture), server_ip="192.0.2.1") == ("unknown", None, "syn_unanswered")


def test_an_attempt_that_the_probe_gave_up_is_not_a_timeout(run: Run) -> None:
    capture = Capture()
    reach(capture)
    knock(capture, NOON)
    for port in range(10):
        Dialogue(capture, client="10.0.1.1", client_port=port + 1).open(NOON + 8 * SECOND)
    result = run(capture, limits={"flows": 4})
    row = next(row for row in result.rows if row["client_port"] == 40000)
    assert (row["end_reason"], row["outcome"]) == ("evicted", "unknown")


def test_a_syn_ack_that_the_client_never_hears_was_lost_in_the_access(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    for wait in (0, 1, 3, 7):
        syn(dialogue, NOON + wait * SECOND)
        dialogue.server_sequence = 9000
        dialogue.down(NOON + wait * SECOND + 20 * MS, SYN | ACK)
    row = failure(run(capture))
    assert (row["failure_cause"], row["failure_side"]) == ("connect_timeout", "access")
    assert row["evidence"] == ["syn_ack_seen", "syn_repeated"]


def test_a_half_open_connection_is_unknown(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    dialogue.up(NOON, SYN)
    dialogue.down(NOON + 20 * MS, SYN | ACK)
    go_on_until(capture, NOON + 80 * SECOND)
    assert verdict(run(capture), client_ip="10.0.0.1") == ("unknown", None, "half_open")


def test_a_refusal_across_a_minute_is_said_once(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    dialogue.up(MINUTE + 59 * SECOND, SYN)
    dialogue.down(MINUTE + 59 * SECOND + 20 * MS, RST | ACK)
    go_on_until(capture, MINUTE + 90 * SECOND)
    row = failure(run(capture))
    assert (row["failure_cause"], row["failure_side"]) == ("connect_refused", "server")


def test_a_connection_that_took_seconds_to_come_up_is_degraded(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    syn(dialogue, NOON)
    syn(dialogue, NOON + SECOND)
    dialogue.client_sequence = 1000
    end = dialogue.open(NOON + 3 * SECOND)
    dialogue.up(end, ACK | PSH, GET)
    dialogue.down(end + 20 * MS, ACK | PSH, OK)
    dialogue.close(end + SECOND)
    result = run(capture)
    assert verdict(result) == ("degraded", None, "connect_slow,syn_retransmissions_2")


# -------------------------------------------------------------------------------------- races


def test_the_loser_of_a_race_to_one_server_is_no_failure(run: Run) -> None:
    capture = Capture()
    knock(capture, NOON, waits=(0, 1), client_port=40000)
    Dialogue(capture, client_port=40001).open(NOON + SECOND)
    go_on_until(capture, NOON + 90 * SECOND)
    assert verdict(run(capture), client_port=40000) == ("unknown", None, "race_lost")


def test_who_tries_on_long_after_another_connection_came_up_has_failed(run: Run) -> None:
    capture = Capture()
    reach(capture)
    knock(capture, NOON, waits=(0, 1, 3, 7, 15), client_port=40000)
    Dialogue(capture, client_port=40001).open(NOON + SECOND)
    go_on_until(capture, NOON + 90 * SECOND)
    assert failure(run(capture))["client_port"] == 40000


def test_the_race_of_another_client_excuses_nobody(run: Run) -> None:
    capture = Capture()
    reach(capture)
    knock(capture, NOON, waits=(0, 1, 3))
    Dialogue(capture, client="10.0.0.2").open(NOON + SECOND)
    go_on_until(capture, NOON + 90 * SECOND)
    assert failure(run(capture))["failure_cause"] == "connect_timeout"


@pytest.mark.parametrize(
    ("answered_s", "decided"),
    [
        (0, ("ok", None, "race_lost")),
        (10, ("failed", "connect_refused", "syn,reset_before_syn_ack")),
    ],
)
def test_a_device_with_two_addresses_is_one_client_where_it_asked_for_the_name_just_now(
    run: Run, answered_s: int, decided: tuple[Any, ...]
) -> None:
    capture = Capture()
    v4, v6 = "192.0.2.1", "2001:db8::1"
    for time_ns, address, kind in (NOON, v4, dns.A), (NOON - answered_s * SECOND, v6, dns.AAAA):
        question = dns.query(kind, "a.example", kind)
        message = dns.answer(kind, "a.example", dns.address("a.example", address), kind=kind)
        to, back = udp(40000 + kind, 53, question), udp(53, 40000 + kind, message)
        capture.add(time_ns - MS, ipv4("10.0.0.1", "198.51.100.53", 17, to))
        capture.add(time_ns, ipv4("198.51.100.53", "10.0.0.1", 17, back))
    capture.packets.sort()
    loser = Dialogue(capture, "2001:db8:1::9", v6, client_port=40000)
    loser.up(NOON + 10 * MS, SYN)
    loser.down(NOON + 20 * MS, RST | ACK)
    Dialogue(capture, "10.0.0.1", v4, client_port=40001).open(NOON + 30 * MS)
    found = run(capture, subscriber_prefixes=["10.0.0.0/8", "2001:db8:1::/48"])
    assert verdict(found, client_port=40000, transport="tcp") == decided


def test_a_socket_given_up_on_its_syn_ack_lost_a_race(run: Run) -> None:
    capture = Capture()
    loser = Dialogue(capture, client_port=40000)
    loser.up(NOON, SYN)
    Dialogue(capture, client_port=40001).open(NOON)
    loser.down(NOON + 300 * MS, SYN | ACK)
    loser.up(NOON + 330 * MS, RST)
    assert verdict(run(capture), client_port=40000) == ("ok", None, "race_lost")


def test_a_refusal_is_excused_by_quic_but_not_by_the_same_way(run: Run) -> None:
    refused = Capture()
    dialogue = Dialogue(refused)
    dialogue.up(NOON, SYN)
    dialogue.down(NOON + 20 * MS, RST | ACK)
    again, by_quic = Capture(list(refused.packets)), Capture(list(refused.packets))
    Dialogue(again, client_port=40001).open(NOON + SECOND)
    assert verdict(run(again), client_port=40000)[1] == "connect_refused"
    Connection(by_quic, client_port=50000).open(NOON, 20 * MS, 30 * MS)
    assert verdict(run(by_quic), client_port=40000) == ("ok", None, "race_lost")


@pytest.mark.parametrize(
    ("waits", "decided"),
    [
        ((0,), ("unknown", None, "race_lost")),
        ((0, 1, 3), ("failed", "quic_blocked", "initial_unanswered,tcp_connected")),
    ],
)
def test_quic_that_goes_unanswered_while_tcp_works_is_blocked_if_it_was_waited_for(
    run: Run, waits: tuple[int, ...], decided: tuple[Any, ...]
) -> None:
    capture = Capture()
    ask_by_quic(capture, NOON, waits)
    Dialogue(capture).open(NOON)
    go_on_until(capture, NOON + 80 * SECOND)
    assert verdict(run(capture), client_port=50000) == decided


def test_quic_is_blocked_though_tcp_went_to_another_address_of_the_name(run: Run) -> None:
    capture = Capture()
    ask_by_quic(capture, NOON, (0, 1, 3), server_address="192.0.2.2")
    dialogue = Dialogue(capture, server="192.0.2.1")
    now = dialogue.open(NOON + SECOND)
    dialogue.up(now, ACK | PSH, tls("1.3").client_hello())
    row = next(row for row in run(capture).rows if row["transport"] == "udp")
    assert (row["failure_cause"], row["failure_side"]) == ("quic_blocked", "network")


def test_quic_that_nothing_answers_is_a_timeout_said_once(run: Run) -> None:
    capture = Capture()
    reach(capture)
    ask_by_quic(capture, NOON, (0, 1, 3))
    knock(capture, NOON, waits=(0, 1, 3, 7))
    go_on_until(capture, NOON + 90 * SECOND)
    result = run(capture)
    assert failure(result)["failure_cause"] == "quic_timeout"
    assert verdict(result, client_port=40000) == ("unknown", None, "failed_another_way")


def test_quic_while_another_quic_connection_works_lost_a_race(run: Run) -> None:
    capture = Capture()
    reach(capture)
    ask_by_quic(capture, NOON, (0, 1, 3))
    Connection(capture, client_port=50001, first_id=b"secondid").open(NOON, 20 * MS, 30 * MS)
    assert verdict(run(capture), client_port=50000) == ("unknown", None, "race_lost")


# -------------------------------------------------------------------------------------- scans


def scan(capture: Capture, answer: str | None, count: int, start_ns: int = NOON) -> None:
    """Try `count` destinations within seconds."""
    for number in range(count):
        now = start_ns + number * 300 * MS
        dialogue = Dialogue(capture, server=f"192.0.2.{100 + number}", client_port=2000 + number)
        dialogue.up(now, SYN)
        if answer == "refused":
            dialogue.down(now + 20 * MS, RST | ACK)
        elif answer == "half open":
            dialogue.down(now + 20 * MS, SYN | ACK)
            dialogue.up(now + 50 * MS, RST)
        else:
            syn(dialogue, now + SECOND)


@pytest.mark.parametrize("answer", [None, "refused", "half open"])
@pytest.mark.parametrize("start_ns", [NOON, MINUTE + 57 * SECOND], ids=["noon", "minute's end"])
def test_a_scan_is_flagged_from_its_first_attempt_on_and_no_failure(
    run: Run, answer: str | None, start_ns: int
) -> None:
    capture = Capture()
    reach(capture)
    scan(capture, answer, 25, start_ns)
    capture.packets.sort(key=lambda packet: packet[0])
    go_on_until(capture, start_ns + 90 * SECOND)
    rows = [row for row in run(capture).rows if row["transport"] == "tcp"]
    decided = [row for row in rows if row["outcome"] is not None]
    assert [row["outcome"] for row in decided] == ["unknown"] * 25
    assert all("scan" in row["flags"] and row["evidence"] == ["scan"] for row in decided)


@needs_shared
def test_every_attempt_of_a_real_scan_is_flagged() -> None:
    """nmap tries 1994 ports of one host; two are open, some are closed, most say nothing."""
    rows = run_engine([str(SHARED / "corpora" / "dev" / "ndpi--synscan.pcap")]).rows
    assert len(rows) == 1994
    assert {row["outcome"] for row in rows} == {"unknown"}
    assert all("scan" in row["flags"] for row in rows)


def test_a_scan_at_the_end_of_a_capture_is_one_too(run: Run) -> None:
    capture = Capture()
    reach(capture)
    scan(capture, "refused", 25)
    assert {row["outcome"] for row in run(capture).rows if row["transport"] == "tcp"} == {"unknown"}


def test_twenty_refused_destinations_are_twenty_failures(run: Run) -> None:
    capture = Capture()
    scan(capture, "refused", 20)
    assert [cause for _, cause, _ in verdicts(run(capture))] == ["connect_refused"] * 20


def test_one_server_tried_often_is_no_scan(run: Run) -> None:
    capture = Capture()
    for number in range(40):
        dialogue = Dialogue(capture, client_port=2000 + number)
        dialogue.up(NOON + number * 200 * MS, SYN)
        dialogue.down(NOON + number * 200 * MS + 20 * MS, RST | ACK)
    result = run(capture)
    assert [cause for _, cause, _ in verdicts(result)] == ["connect_refused"] * 40
    assert all("scan" not in row["flags"] for row in result.rows)


def test_a_browser_that_opens_thirty_connections_at_once_is_no_scan(run: Run) -> None:
    capture = Capture()
    dialogues = [Dialogue(capture, server=f"192.0.2.{number + 1}") for number in range(30)]
    for dialogue in dialogues:
        dialogue.up(NOON, SYN)
    for dialogue in dialogues:
        dialogue.down(NOON + 200 * MS, SYN | ACK)
        dialogue.up(NOON + 250 * MS, ACK | PSH, GET)
        dialogue.down(NOON + 300 * MS, ACK | PSH, OK)
    result = run(capture)
    assert {row["outcome"] for row in result.rows} == {"ok"}
    assert all("scan" not in row["flags"] for row in result.rows)


def test_a_scan_by_one_client_excuses_no_other(run: Run) -> None:
    capture = Capture()
    scan(capture, "refused", 25)
    dialogue = Dialogue(capture, client="10.0.0.2")
    dialogue.up(NOON + 8 * SECOND, SYN)
    dialogue.down(NOON + 8 * SECOND + 20 * MS, RST | ACK)
    assert failure(run(capture))["client_ip"] == "10.0.0.2"


def test_a_scan_of_subscribers_from_outside_is_no_failure_of_theirs(run: Run) -> None:
    capture = Capture()
    for number in range(25):
        dialogue = Dialogue(capture, client="203.0.113.9", server=f"10.0.0.{number + 1}")
        dialogue.up(NOON + number * 100 * MS, SYN)
        dialogue.down(NOON + number * 100 * MS + 20 * MS, RST | ACK)
    result = run(capture, subscriber_prefixes=["10.0.0.0/8"])
    assert {(row["outcome"], tuple(row["flags"])) for row in result.rows} == {
        ("unknown", ("scan",))
    }


# ------------------------------------------------------------------------------ preconnections


@pytest.mark.parametrize("ending", ["fin", "reset", "idle"])
def test_a_connection_that_was_never_used_is_no_failure(run: Run, ending: str) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(NOON)
    if ending == "fin":
        dialogue.close(now + 20 * SECOND)
    elif ending == "reset":
        dialogue.up(now + 20 * SECOND, RST)
    else:
        go_on_until(capture, now + 30 * SECOND)
    assert verdict(run(capture), transport="tcp") == ("ok", None, "preconnection_unused")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("ending", [FIN | ACK, RST])
def test_a_tls_connection_that_was_never_used_is_no_failure(
    run: Run, version: str, ending: int
) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    _, now = shake_tls(dialogue, version)
    dialogue.up(now + 30 * SECOND, ending)
    outcome, cause, evidence = verdict(run(capture))
    assert (outcome, cause) == ("ok", None)
    assert version == "1.3" or evidence == "preconnection_unused"


# ---------------------------------------------------------------------------- customers who leave


def test_a_tab_closed_amid_the_response_is_no_failure(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(NOON)
    dialogue.up(now, ACK | PSH, GET)
    dialogue.down(now + 20 * MS, ACK | PSH, HALF_OF_IT)
    dialogue.up(now + 50 * MS, FIN | ACK)
    dialogue.down(now + 55 * MS, ACK, b"x" * 1000)
    dialogue.up(now + 85 * MS, RST)
    assert verdict(run(capture)) == ("ok", None, "aborted_by_client")


@pytest.mark.parametrize("version", [None, "1.2", "1.3"])
def test_a_tab_closed_right_after_its_request_is_no_failure(run: Run, version: str | None) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    if version is None:
        now, request = dialogue.open(NOON), GET
    else:
        session, now = shake_tls(dialogue, version)
        request = session.application_data(300)
    dialogue.up(now, ACK | PSH, request)
    dialogue.up(now + 2 * SECOND, RST | ACK)
    assert verdict(run(capture)) == ("ok", None, "aborted_by_client")


def test_a_client_that_gives_up_after_long_silence_shows_a_failure_of_the_server(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(NOON)
    dialogue.up(now, ACK | PSH, GET)
    dialogue.down(now + 20 * MS, ACK)
    dialogue.up(now + 12 * SECOND, FIN | ACK)
    row = failure(run(capture))
    assert (row["failure_cause"], row["failure_side"]) == ("request_timeout", "server")
    assert row["evidence"] == ["request_unanswered", "client_gave_up"]


@pytest.mark.parametrize(("version", "cause"), [("1.2", "request_timeout"), ("1.3", None)])
def test_under_tls_only_what_must_be_a_request_is_one(
    run: Run, version: str, cause: str | None
) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    session, now = shake_tls(dialogue, version)
    dialogue.up(now, ACK | PSH, session.application_data(300))
    dialogue.down(now + 20 * MS, ACK)
    dialogue.up(now + 12 * SECOND, RST | ACK)
    assert verdict(run(capture))[1] == cause


def test_a_request_without_answer_is_a_timeout_though_nobody_left(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(NOON)
    dialogue.up(now, ACK | PSH, GET)
    dialogue.down(now + 20 * MS, ACK)
    go_on_until(capture, now + 15 * SECOND)
    assert failure(run(capture))["failure_cause"] == "request_timeout"


def test_a_server_that_closes_instead_of_answering_has_failed(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(NOON)
    dialogue.up(now, ACK | PSH, GET)
    dialogue.down(now + 100 * MS, FIN | ACK)
    dialogue.up(now + 130 * MS, FIN | ACK)
    row = failure(run(capture))
    assert (row["failure_cause"], row["failure_side"]) == ("reset_by_server", "server")
    assert row["evidence"] == ["fin_by_server", "request_unanswered"]


# -------------------------------------------------------------------------------- TLS handshakes


def hello(capture: Capture) -> tuple[Dialogue, int]:
    dialogue = Dialogue(capture)
    now = dialogue.open(NOON)
    dialogue.up(now, ACK | PSH, tls("1.3").client_hello())
    return dialogue, now


@pytest.mark.parametrize(
    ("ending", "evidence"), [(RST, "reset_by_server"), (FIN | ACK, "fin_by_server")]
)
def test_a_server_that_breaks_off_the_handshake_has_failed(
    run: Run, ending: int, evidence: str
) -> None:
    capture = Capture()
    dialogue, now = hello(capture)
    dialogue.down(now + 20 * MS, ending)
    row = failure(run(capture))
    assert (row["failure_cause"], row["failure_stage"]) == ("tls_reset", "tls")
    assert row["evidence"] == ["client_hello", evidence]


@pytest.mark.parametrize(("is_acknowledged", "side"), [(True, "server"), (False, None)])
def test_a_client_hello_without_answer_is_a_timeout(
    run: Run, is_acknowledged: bool, side: str | None
) -> None:
    capture = Capture()
    dialogue, now = hello(capture)
    if is_acknowledged:
        dialogue.down(now + 20 * MS, ACK)
    else:
        dialogue.client_sequence -= len(tls("1.3").client_hello())
        dialogue.down(now - 10 * MS, ACK)
        dialogue.up(now + SECOND, ACK | PSH, tls("1.3").client_hello())
    go_on_until(capture, now + 15 * SECOND)
    row = failure(run(capture))
    assert (row["failure_cause"], row["failure_side"]) == ("tls_timeout", side)


def test_a_client_that_gives_up_the_handshake_after_long_silence_shows_a_timeout(run: Run) -> None:
    capture = Capture()
    dialogue, now = hello(capture)
    dialogue.down(now + 20 * MS, ACK)
    dialogue.up(now + 11 * SECOND, FIN | ACK)
    row = failure(run(capture))
    assert row["failure_cause"] == "tls_timeout"
    assert "client_gave_up" in row["evidence"]


def test_a_client_that_soon_leaves_the_handshake_leaves_it_undecided(run: Run) -> None:
    capture = Capture()
    dialogue, now = hello(capture)
    dialogue.up(now + SECOND, RST)
    assert verdict(run(capture)) == ("unknown", None, "tls_unfinished,aborted_by_client")


def test_a_server_that_ends_a_handshake_the_client_let_lie_has_not_failed(run: Run) -> None:
    capture = Capture()
    dialogue, now = hello(capture)
    dialogue.down(now + 20 * MS, ACK | PSH, tls("1.3").server_flight())
    dialogue.up(now + 50 * MS, ACK)
    dialogue.down(now + 30 * SECOND, FIN | ACK)
    assert verdict(run(capture)) == ("unknown", None, "tls_unfinished")


def test_what_follows_from_the_first_cause_is_not_another(run: Run) -> None:
    capture = Capture()
    dialogue, now = hello(capture)
    dialogue.down(now + 20 * MS, ACK | PSH, fatal_alert(AlertDescription.UNRECOGNIZED_NAME))
    dialogue.down(now + 21 * MS, RST)
    go_on_until(capture, MINUTE + 70 * SECOND)
    assert failure(run(capture))["failure_cause"] == "tls_unknown_name"


# ----------------------------------------------------------------------------------- transfers


def with_answered_request(capture: Capture) -> tuple[Dialogue, int]:
    dialogue = Dialogue(capture)
    now = dialogue.open(NOON)
    dialogue.up(now, ACK | PSH, GET)
    dialogue.down(now + 20 * MS, ACK | PSH, OK)
    dialogue.up(now + 50 * MS, ACK)
    return dialogue, now + 50 * MS


@pytest.mark.parametrize("chosen", [0, 1])
def test_of_two_answers_to_a_syn_the_one_that_the_client_takes_carries_the_http_answer(
    run: Run, chosen: int
) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    dialogue.up(NOON, SYN)
    starts = (9000, 7_000_000)
    for start in starts:
        dialogue.server_sequence = start
        dialogue.down(NOON + 20 * MS, SYN | ACK)
    dialogue.server_sequence = starts[chosen] + 1
    dialogue.up(NOON + 50 * MS, ACK)
    dialogue.up(NOON + 50 * MS, ACK | PSH, GET)
    dialogue.down(NOON + 80 * MS, ACK | PSH, OK)
    dialogue.down(NOON + 80 * MS, FIN | ACK)
    dialogue.up(NOON + 110 * MS, FIN | ACK)
    dialogue.down(NOON + 140 * MS, ACK)
    result = run(capture)
    assert verdict(result) == ("ok", None, "")
    assert result.rows[0]["http_status"] == 200


@pytest.mark.parametrize("by_server", [True, False])
def test_a_reset_of_an_idle_connection_is_no_failure(run: Run, by_server: bool) -> None:
    capture = Capture()
    dialogue, now = with_answered_request(capture)
    (dialogue.down if by_server else dialogue.up)(now + 40 * SECOND, RST)
    assert verdict(run(capture)) == ("ok", None, "")


@pytest.mark.parametrize("by_server", [True, False])
def test_a_reset_after_a_fin_is_no_failure(run: Run, by_server: bool) -> None:
    capture = Capture()
    dialogue, now = with_answered_request(capture)
    dialogue.up(now, FIN | ACK)
    (dialogue.down if by_server else dialogue.up)(now + 20 * MS, RST)
    assert verdict(run(capture)) == ("ok", None, "")


def test_a_reset_amid_the_response_is_the_servers_failure(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(NOON)
    dialogue.up(now, ACK | PSH, GET)
    dialogue.down(now + 20 * MS, ACK | PSH, HALF_OF_IT)
    dialogue.down(now + 30 * MS, RST | ACK)
    row = failure(run(capture))
    assert (row["failure_cause"], row["failure_side"]) == ("reset_by_server", "server")
    assert row["evidence"] == ["reset_by_server", "data_in_flight"]


def test_a_reset_where_the_tap_missed_the_answer_is_unknown(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(NOON)
    dialogue.up(now, ACK | PSH, GET)
    dialogue.server_sequence += 500
    dialogue.up(now + 60 * MS, ACK)
    dialogue.down(now + 20 * SECOND, RST)
    assert verdict(run(capture)) == ("unknown", None, "reset_by_server,capture_loss")


@pytest.mark.parametrize(
    ("silence_s", "decided"),
    [
        (1, ("ok", None, "aborted_by_client")),
        (40, ("unknown", None, "aborted_by_client,capture_loss")),
    ],
)
def test_who_leaves_long_after_the_tap_missed_some_of_the_answer_may_have_given_up(
    run: Run, silence_s: int, decided: tuple[Any, ...]
) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(NOON)
    dialogue.up(now, ACK | PSH, GET)
    dialogue.down(now + 20 * MS, ACK | PSH, HALF_OF_IT)
    dialogue.server_sequence += 500
    dialogue.up(now + 60 * MS, ACK)
    dialogue.up(now + silence_s * SECOND, RST | ACK)
    assert verdict(run(capture)) == decided


def test_a_request_that_met_a_connection_just_expired_is_unknown(run: Run) -> None:
    capture = Capture()
    dialogue, now = with_answered_request(capture)
    dialogue.up(now + 60 * SECOND, ACK | PSH, b"opaque request")
    dialogue.down(now + 60 * SECOND + 20 * MS, RST)
    assert verdict(run(capture)) == ("unknown", None, "keep_alive_expired")


def test_a_reset_of_a_connection_seen_from_its_middle_on_is_unknown(run: Run) -> None:
    """It may have been idle for long, and just expired."""
    capture = Capture()
    dialogue = Dialogue(capture)
    dialogue.up(NOON, ACK | PSH, b"opaque request")
    dialogue.down(NOON + 20 * MS, RST | ACK)
    assert verdict(run(capture)) == ("unknown", None, "reset_by_server,missed_start")


def test_a_subscriber_who_serves_and_resets_has_failed_his_caller(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture, client="203.0.113.9", server="10.0.0.7")
    now = dialogue.open(NOON)
    dialogue.up(now, ACK | PSH, GET)
    dialogue.down(now + SECOND, RST | ACK)
    row = failure(run(capture, subscriber_prefixes=["10.0.0.0/8"]))
    assert (row["initiator"], row["failure_cause"]) == ("server", "reset_by_client")
    assert row["failure_side"] == "device"


def send_in_vain(dialogue: Dialogue, start_ns: int, down: bool) -> int:
    """Send one segment five times, each time after twice the wait; nothing comes back."""
    for wait in (0, 1, 3, 7, 15):
        if down:
            dialogue.down(start_ns + wait * SECOND, ACK | PSH, b"x" * 500)
            dialogue.server_sequence -= 500
        else:
            dialogue.up(start_ns + wait * SECOND, ACK | PSH, b"x" * 500)
            dialogue.client_sequence -= 500
    dialogue.server_sequence += 500 if down else 0
    dialogue.client_sequence += 0 if down else 500
    return start_ns + 15 * SECOND


@pytest.mark.parametrize(("down", "side"), [(True, "access"), (False, None)])
@pytest.mark.parametrize("is_given_up", [True, False])
def test_data_sent_in_vain_tells_where_it_was_lost(
    run: Run, down: bool, side: str | None, is_given_up: bool
) -> None:
    capture = Capture()
    dialogue, now = with_answered_request(capture)
    dialogue.down(now + MS, ACK)
    now = send_in_vain(dialogue, now + SECOND, down)
    if is_given_up:
        (dialogue.down if down else dialogue.up)(now, RST | ACK)
    go_on_until(capture, now + 20 * SECOND)
    row = failure(run(capture))
    assert (row["failure_cause"], row["failure_side"]) == ("retransmission_timeout", side)
    assert row["failure_stage"] == "transfer"


PART = b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n" + b"x" * 1000


def stop_amid_the_answer(capture: Capture, is_received: bool) -> tuple[Dialogue, int]:
    """Send a part of an answer, whose end never comes."""
    dialogue = Dialogue(capture)
    now = dialogue.open(NOON)
    dialogue.up(now, ACK | PSH, GET)
    dialogue.down(now + 20 * MS, ACK | PSH, PART)
    if is_received:
        dialogue.up(now + 50 * MS, ACK)
    else:
        dialogue.server_sequence -= len(PART)
        dialogue.down(now + SECOND, ACK | PSH, PART)
    return dialogue, now + SECOND


@pytest.mark.parametrize(
    ("is_received", "side", "evidence"),
    [(True, "server", "answer_incomplete"), (False, "access", "data_down_outstanding")],
)
def test_a_download_that_stops_tells_on_which_side_of_the_tap(
    run: Run, is_received: bool, side: str, evidence: str
) -> None:
    capture = Capture()
    _, now = stop_amid_the_answer(capture, is_received)
    go_on_until(capture, now + 20 * SECOND)
    row = failure(run(capture))
    assert (row["failure_cause"], row["failure_stage"]) == ("transfer_stalled", "transfer")
    assert (row["failure_side"], row["evidence"]) == (side, [evidence])


@pytest.mark.parametrize(
    ("down", "evidence"),
    [(True, "data_down_outstanding"), (False, "data_up_outstanding")],
)
@pytest.mark.parametrize("is_left", [True, False])
def test_data_that_its_sender_never_sends_again_has_left_the_tap(
    run: Run, down: bool, evidence: str, is_left: bool
) -> None:
    """Every sender would repeat it within seconds: here the capture ends, or the path moved."""
    capture = Capture()
    dialogue, now = with_answered_request(capture)
    (dialogue.down if down else dialogue.up)(now + 20 * MS, ACK | PSH, GET)
    go_on_until(capture, now + 20 * SECOND)
    if is_left:
        dialogue.server_sequence = 9001 + len(OK)
        dialogue.up(now + 21 * SECOND, RST | ACK)
    decided = ("unknown", None, f"{evidence},not_retransmitted")
    assert verdict(run(capture), transport="tcp") == decided


def test_a_request_that_its_sender_never_sends_again_is_no_timeout(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    dialogue.up(dialogue.open(NOON), ACK | PSH, GET)
    go_on_until(capture, NOON + 20 * SECOND)
    decided = ("unknown", None, "data_up_outstanding,not_retransmitted")
    assert verdict(run(capture), transport="tcp") == decided


@pytest.mark.parametrize(
    ("ending", "seconds", "decided"),
    [
        (RST, 6, ("failed", "reset_by_client", "answer_incomplete,given_up")),
        (RST, 3, ("ok", None, "aborted_by_client")),
        (FIN | ACK, 6, ("ok", None, "aborted_by_client")),
        (FIN | ACK, 12, ("failed", "transfer_stalled", "answer_incomplete,given_up")),
    ],
)
def test_who_leaves_a_download_that_stands_still_has_given_up(
    run: Run, ending: int, seconds: int, decided: tuple[Any, ...]
) -> None:
    capture = Capture()
    dialogue, now = stop_amid_the_answer(capture, is_received=True)
    dialogue.up(now + seconds * SECOND, ending)
    assert verdict(run(capture)) == decided


@pytest.mark.parametrize(
    ("ending", "evidence"),
    [
        (FIN | ACK, ["fin_by_server", "answer_incomplete"]),
        (RST, ["reset_by_server", "answer_incomplete"]),
    ],
)
def test_an_answer_that_its_server_breaks_off_is_the_servers_failure(
    run: Run, ending: int, evidence: list[str]
) -> None:
    capture = Capture()
    dialogue, now = stop_amid_the_answer(capture, is_received=True)
    dialogue.down(now + SECOND, ending)
    row = failure(run(capture))
    assert (row["failure_cause"], row["failure_side"]) == ("reset_by_server", "server")
    assert row["evidence"] == evidence


def test_an_answer_without_stated_length_may_stand_still(run: Run) -> None:
    """Servers send events that way: minutes may lie between two."""
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(NOON)
    dialogue.up(now, ACK | PSH, GET)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    dialogue.down(now + 20 * MS, ACK | PSH, head + b"5\r\nevent\r\n")
    dialogue.up(now + 50 * MS, ACK)
    go_on_until(capture, now + 40 * SECOND)
    assert verdict(run(capture), transport="tcp") == ("ok", None, "")


def test_a_handshake_whose_answer_is_lost_behind_the_tap_is_a_timeout_of_tls(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(NOON)
    session = tls("1.3")
    dialogue.up(now, ACK | PSH, session.client_hello())
    for wait in (20 * MS, SECOND):
        dialogue.down(now + wait, ACK | PSH, session.server_flight())
        dialogue.server_sequence = 9001
    go_on_until(capture, now + 20 * SECOND)
    row = failure(run(capture))
    assert (row["failure_cause"], row["failure_stage"]) == ("tls_timeout", "tls")
    assert (row["failure_side"], row["evidence"]) == ("access", ["data_down_outstanding"])


# ------------------------------------------------------------------------------- forged resets


def asked(capture: Capture) -> tuple[Dialogue, int]:
    dialogue = Dialogue(capture)
    now = dialogue.open(NOON)
    dialogue.up(now, ACK | PSH, GET)
    return dialogue, now


def forge_reset(dialogue: Dialogue, time_ns: int, offset: int = 0) -> None:
    """Send a reset in the server's name, `offset` bytes ahead of it."""
    dialogue.server_sequence += offset
    dialogue.down(time_ns, RST)
    dialogue.server_sequence -= offset


def test_a_server_that_goes_on_did_not_send_the_reset(run: Run) -> None:
    capture = Capture()
    dialogue, now = asked(capture)
    forge_reset(dialogue, now + MS)
    dialogue.down(now + 20 * MS, ACK)
    row = failure(run(capture))
    assert (row["failure_cause"], row["failure_side"]) == ("network_injected_reset", "network")
    assert row["evidence"] == ["sender_continues_after_reset"]


def test_an_acknowledgment_that_a_reset_overtook_is_no_sign_of_forgery(run: Run) -> None:
    capture = Capture()
    dialogue, now = asked(capture)
    forge_reset(dialogue, now + 20 * MS)
    dialogue.down(now + 20 * MS + 50_000, ACK)
    assert failure(run(capture))["failure_cause"] == "reset_by_server"


def test_resets_ahead_of_what_was_sent_are_guessed(run: Run) -> None:
    capture = Capture()
    dialogue, now = asked(capture)
    for offset in (0, 1460, 4380):
        forge_reset(dialogue, now + MS, offset)
    row = failure(run(capture))
    assert (row["failure_cause"], row["evidence"]) == (
        "network_injected_reset",
        ["reset_sequence_guessed"],
    )


def test_resets_that_answer_each_packet_in_flight_are_the_servers_own(run: Run) -> None:
    capture = Capture()
    dialogue, now = asked(capture)
    dialogue.down(now + 20 * MS, ACK | PSH, HALF_OF_IT)
    for offset in (0, -500, 0):
        forge_reset(dialogue, now + 30 * MS, offset)
    assert failure(run(capture))["failure_cause"] == "reset_by_server"


def test_a_reset_that_misses_its_mark_is_no_failure(run: Run) -> None:
    capture = Capture()
    dialogue, now = asked(capture)
    forge_reset(dialogue, now + MS, -900_000)
    dialogue.down(now + 20 * MS, ACK | PSH, OK)
    dialogue.up(now + 50 * MS, ACK)
    dialogue.close(now + 60 * MS)
    row = run(capture).rows[-1]
    assert (row["outcome"], row["end_reason"]) == ("ok", "fin")
    assert row["evidence"] == ["reset_ignored"]


# ------------------------------------------------------------------------- answers, and one way


@pytest.mark.parametrize("status", [200, 401, 403, 404])
def test_an_answer_that_the_customer_may_expect_is_no_failure(run: Run, status: int) -> None:
    capture = Capture()
    dialogue = Dialogue(capture, server_port=80)
    now = dialogue.open(NOON)
    dialogue.up(now, ACK | PSH, GET)
    answer = b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % status
    dialogue.down(now + 20 * MS, ACK | PSH, answer)
    dialogue.close(now + SECOND)
    assert verdict(run(capture))[:2] == ("ok", None)


def test_nxdomain_is_no_failure(run: Run) -> None:
    capture = Capture()
    question = b"\x04none\x07example\x00\x00\x01\x00\x01"
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + question
    answer = b"\x12\x34\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00" + question
    capture.add(NOON, ipv4("10.0.0.1", "192.0.2.53", 17, udp(40000, 53, query)))
    capture.add(NOON + 20 * MS, ipv4("192.0.2.53", "10.0.0.1", 17, udp(53, 40000, answer)))
    result = run(capture)
    assert verdict(result)[:2] == ("ok", None)
    assert result.rows[0]["dns_rcode"] == 3


@pytest.mark.parametrize("up", [True, False])
def test_traffic_seen_in_one_direction_only_is_unknown(run: Run, up: bool) -> None:
    capture, seen = Capture(), Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(NOON)
    dialogue.up(now, ACK | PSH, GET)
    dialogue.down(now + 20 * MS, ACK | PSH, OK)
    dialogue.up(now + 14 * SECOND, RST)
    client = b"\x0a\x00\x00\x01"
    seen.packets = [packet for packet in capture.packets if (packet[1][26:30] == client) == up]
    outcome, cause, _ = verdict(run(seen))
    assert (outcome, cause) == ("unknown", None)
