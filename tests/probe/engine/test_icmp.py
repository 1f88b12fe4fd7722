"""What ICMP errors say of the flows whose packets they quote, and what pings measure."""

import struct
from typing import Any

import pytest

from tests.probe.engine import dns
from tests.probe.engine.conftest import Result, Run
from tests.probe.engine.packets import (
    ACK,
    MINUTE,
    MS,
    PSH,
    SECOND,
    SYN,
    Capture,
    Dialogue,
    gtpu,
    ipv4,
    ipv6,
    tcp,
    udp,
)

CLIENT, SERVER, ROUTER = "10.0.0.1", "192.0.2.1", "203.0.113.9"
CLIENT6, SERVER6, ROUTER6 = "2001:db8::1", "2001:db8:1::1", "2001:db8:2::9"


def error(source: str, target: str, kind: int, code: int, quoted: bytes) -> bytes:
    return ipv4(source, target, 1, struct.pack(">BBHI", kind, code, 0, 0) + quoted)


def syn(sequence: int = 1000) -> bytes:
    return ipv4(CLIENT, SERVER, 6, tcp(40000, 443, SYN, sequence, 0))


def session(result: Result, transport: str) -> dict[str, Any]:
    found = [row for row in result.rows if row["transport"] == transport]
    assert len(found) == 1
    return found[0]


def failure(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["failure_cause"], row["failure_stage"], row["failure_side"], row["evidence"]


def refused_by(run: Run, source: str, kind: int, code: int, length: int = 28) -> dict[str, Any]:
    """A SYN that is answered by nothing but an error that quotes `length` bytes of it."""
    capture = Capture()
    capture.add(MINUTE, syn())
    capture.add(MINUTE + 10 * MS, error(source, CLIENT, kind, code, syn()[:length]))
    result = run(capture)
    assert result.counters["icmp_errors_unmatched"] == 0
    return session(result, "tcp")


@pytest.mark.parametrize(
    ("kind", "code", "cause", "evidence"),
    [
        (3, 0, "connect_unreachable", "icmp_network_unreachable"),
        (3, 1, "connect_unreachable", "icmp_host_unreachable"),
        (3, 2, "connect_unreachable", "icmp_protocol_unreachable"),
        (3, 3, "connect_unreachable", "icmp_port_unreachable"),
        (3, 9, "connect_prohibited", "icmp_prohibited"),
        (3, 10, "connect_prohibited", "icmp_prohibited"),
        (3, 13, "connect_prohibited", "icmp_prohibited"),
        (11, 0, "connect_unreachable", "icmp_time_exceeded"),
    ],
)
def test_an_error_fails_the_connection_that_it_quotes(
    run: Run, kind: int, code: int, cause: str, evidence: str
) -> None:
    row = refused_by(run, ROUTER, kind, code)
    assert failure(row) == (cause, "connect", "network", [evidence])


def test_an_error_from_the_server_itself_is_the_servers(run: Run) -> None:
    row = refused_by(run, SERVER, 3, 3)
    assert failure(row) == ("connect_unreachable", "connect", "server", ["icmp_port_unreachable"])


def test_a_quote_may_hold_all_of_the_packet(run: Run) -> None:
    assert refused_by(run, ROUTER, 3, 1, length=40)["failure_cause"] == "connect_unreachable"


def test_the_error_is_a_packet_of_its_own_flow(run: Run) -> None:
    capture = Capture()
    capture.add(MINUTE, syn())
    capture.add(MINUTE + 10 * MS, error(ROUTER, CLIENT, 3, 1, syn()[:28]))
    result = run(capture)
    opening, icmp = session(result, "tcp"), session(result, "icmp")
    assert (opening["packets_up"], opening["packets_down"]) == (1, 0)
    assert (icmp["client_ip"], icmp["server_ip"]) == (CLIENT, ROUTER)
    assert (icmp["packets_down"], icmp["bytes_down"]) == (1, 20 + 8 + 28)
    assert icmp["evidence"] == ["one_way", "icmp_host_unreachable"]
    assert (icmp["outcome"], icmp["failure_cause"]) == ("unknown", None)


def test_a_forged_error_invents_no_failure(run: Run) -> None:
    """The sequence number is what a forger has to guess (RFC 5927)."""
    capture = Capture()
    capture.add(MINUTE, syn(sequence=1000))
    capture.add(MINUTE + 10 * MS, error(ROUTER, CLIENT, 3, 1, syn(sequence=77777)[:28]))
    capture.add(MINUTE + 20 * MS, error(ROUTER, CLIENT, 3, 1, syn()[:24]))
    result = run(capture)
    row = session(result, "tcp")
    assert (row["outcome"], row["failure_cause"]) == ("unknown", None)
    assert row["evidence"] == ["syn_unanswered"]
    assert result.counters["icmp_errors_unmatched"] == 2


def test_an_error_that_quotes_an_unknown_flow_is_counted(run: Run) -> None:
    capture = Capture()
    capture.add(MINUTE, error(ROUTER, CLIENT, 3, 1, syn()[:28]))
    result = run(capture)
    assert [row["transport"] for row in result.rows] == ["icmp"]
    assert result.counters["icmp_errors_unmatched"] == 1


def test_a_connection_that_opens_after_all_did_not_fail(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    capture.add(MINUTE, syn())
    capture.add(MINUTE + 10 * MS, error(ROUTER, CLIENT, 3, 1, syn()[:28]))
    done = dialogue.open(MINUTE + SECOND)
    dialogue.close(done + SECOND)
    row = session(run(capture), "tcp")
    assert (row["outcome"], row["failure_cause"]) == ("ok", None)
    assert row["evidence"] == ["preconnection_unused", "icmp_host_unreachable"]


@pytest.mark.parametrize(
    ("code", "evidence"), [(1, "icmp_host_unreachable"), (4, "icmp_packet_too_big")]
)
def test_to_an_established_connection_an_error_is_a_hint(
    run: Run, code: int, evidence: str
) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(MINUTE)
    dialogue.up(now, ACK | PSH, b"x" * 1400)
    sent = capture.packets[-1][1][14:]
    capture.add(now + 10 * MS, error(ROUTER, CLIENT, 3, code, sent[:28]))
    dialogue.down(now + SECOND, ACK)
    dialogue.close(now + 2 * SECOND)
    row = session(run(capture), "tcp")
    assert (row["outcome"], row["evidence"]) == ("ok", [evidence])


def test_a_resolver_whose_port_is_closed_is_unreachable(run: Run) -> None:
    asked = ipv4(CLIENT, SERVER, 17, udp(40000, 53, dns.query(1, "www.example.org")))
    capture = Capture()
    capture.add(MINUTE, asked)
    capture.add(MINUTE + 10 * MS, error(SERVER, CLIENT, 3, 3, asked[:28]))
    capture.add(MINUTE + 30 * SECOND, ipv4(SERVER, CLIENT, 17, udp(1, 2, b"")))
    result = run(capture)
    row = next(row for row in result.rows if row["client_port"] == 40000)
    assert failure(row) == ("connect_unreachable", "connect", "server", ["icmp_port_unreachable"])
    assert (row["requests"], row["requests_failed"]) == (1, 1)


def test_an_answer_that_comes_too_late_for_its_client_is_no_failure(run: Run) -> None:
    """Clients close the port of a question as soon as any resolver has answered it."""
    capture = Capture()
    question = udp(40000, 53, dns.query(1, "www.example.org"))
    late = ipv4(SERVER, CLIENT, 17, udp(53, 40000, dns.answer(1, "www.example.org")))
    capture.add(MINUTE, ipv4(CLIENT, SERVER, 17, question))
    capture.add(MINUTE + 900 * MS, late)
    capture.add(MINUTE + 920 * MS, error(CLIENT, SERVER, 3, 3, late[:28]))
    result = run(capture)
    row, icmp = session(result, "udp"), session(result, "icmp")
    assert (row["outcome"], row["evidence"]) == ("ok", ["icmp_answer_undelivered"])
    assert (icmp["client_ip"], icmp["packets_up"]) == (CLIENT, 1)


def test_traceroute_is_no_failure(run: Run) -> None:
    capture = Capture()
    for number in range(4):
        now = MINUTE + number * SECOND
        probe = ipv4(CLIENT, SERVER, 17, udp(50000, 33434 + number, b"@" * 32))
        capture.add(now, probe)
        kind, code, source = (3, 3, SERVER) if number == 3 else (11, 0, ROUTER)
        capture.add(now + 10 * MS, error(source, CLIENT, kind, code, probe[:28]))
    result = run(capture)
    probes = [row for row in result.rows if row["transport"] == "udp"]
    probes.sort(key=lambda row: int(row["server_port"]))
    assert {row["outcome"] for row in probes} == {"unknown"}
    assert [row["evidence"] for row in probes] == [
        *[["one_way", "icmp_time_exceeded"]] * 3,
        ["one_way", "icmp_port_unreachable"],
    ]


@pytest.mark.parametrize(
    ("kind", "code", "cause", "evidence"),
    [
        (1, 0, "connect_unreachable", "icmp_network_unreachable"),
        (1, 1, "connect_prohibited", "icmp_prohibited"),
        (1, 3, "connect_unreachable", "icmp_host_unreachable"),
        (1, 4, "connect_unreachable", "icmp_port_unreachable"),
        (1, 5, "connect_prohibited", "icmp_prohibited"),
        (1, 6, "connect_prohibited", "icmp_prohibited"),
        (2, 0, None, "icmp_packet_too_big"),
        (3, 0, "connect_unreachable", "icmp_time_exceeded"),
    ],
)
@pytest.mark.parametrize("options", [b"", bytes([6, 0, 1, 4, 0, 0, 0, 0])])
def test_ipv6_errors_are_read_past_the_extension_headers_of_their_quote(
    run: Run, kind: int, code: int, cause: str | None, evidence: str, options: bytes
) -> None:
    first = 60 if options else 6
    sent = ipv6(CLIENT6, SERVER6, first, options + tcp(40000, 443, SYN, 1000, 0))
    message = struct.pack(">BBHI", kind, code, 0, 0) + sent[: 40 + len(options) + 8]
    capture = Capture()
    capture.add(MINUTE, sent)
    capture.add(MINUTE + MS, ipv6(ROUTER6, CLIENT6, 58, message))
    row = session(run(capture), "tcp")
    assert row["failure_cause"] == cause
    assert row["evidence"] == ([evidence] if cause else ["syn_unanswered", evidence])


def test_the_first_fragment_in_a_quote_names_its_flow_and_a_later_one_does_not(run: Run) -> None:
    sent = ipv4(CLIENT, SERVER, 17, udp(40000, 9999, b"x" * 100))
    for position, unmatched in ((0x2000, 0), (0x2004, 1)):
        fragment = sent[:6] + struct.pack(">H", position) + sent[8:28]
        capture = Capture()
        capture.add(MINUTE, sent)
        capture.add(MINUTE + MS, error(ROUTER, CLIENT, 3, 1, fragment))
        result = run(capture)
        failed = session(result, "udp")["failure_cause"] == "connect_unreachable"
        assert failed is (unmatched == 0)


def test_an_error_between_core_nodes_reaches_the_session_in_the_tunnel(run: Run) -> None:
    tunnelled = gtpu("10.1.0.1", "10.1.0.2", 77, syn())
    capture = Capture()
    capture.add(MINUTE, tunnelled)
    capture.add(MINUTE + MS, error("10.1.0.9", "10.1.0.1", 3, 1, tunnelled))
    row = session(run(capture), "tcp")
    assert failure(row) == ("connect_unreachable", "connect", "network", ["icmp_host_unreachable"])


# ------------------------------------------------------------------------------------------- echoes


def echo(kind: int, sequence: int) -> bytes:
    return struct.pack(">BBHHH", kind, 0, 0, 77, sequence) + b"d" * 56


def test_a_ping_measures_the_way_to_whoever_answers(run: Run) -> None:
    capture = Capture()
    for number in range(4):
        capture.add(MINUTE + number * SECOND, ipv4(CLIENT, SERVER, 1, echo(8, number)))
        if number != 2:
            reply = ipv4(SERVER, CLIENT, 1, echo(0, number))
            capture.add(MINUTE + number * SECOND + 20 * MS, reply)
    capture.add(MINUTE + 20 * SECOND, ipv4(SERVER, CLIENT, 17, udp(1, 2, b"")))
    row = session(run(capture), "icmp")
    assert (row["requests"], row["requests_failed"]) == (4, 1)
    assert (row["rtt_server_min_us"], row["rtt_server_samples"]) == (20_000, 3)
    assert (row["rtt_server_method"], row["rtt_client_samples"]) == ("echo", None)
    assert row["outcome"] == "ok"


def test_a_ping_to_an_unreachable_host_says_why(run: Run) -> None:
    sent = ipv4(CLIENT, SERVER, 1, echo(8, 1))
    capture = Capture()
    capture.add(MINUTE, sent)
    capture.add(MINUTE + MS, error(ROUTER, CLIENT, 3, 1, sent[:28]))
    result = run(capture)
    pings = [row for row in result.rows if row["server_ip"] == SERVER]
    assert [row["evidence"] for row in pings] == [["one_way", "icmp_host_unreachable"]]
    assert [row["outcome"] for row in pings] == ["unknown"]
