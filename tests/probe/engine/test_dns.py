"""What the engine says about DNS, and of flows whose name it knows from there."""

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
    Capture,
    Dialogue,
    ipv4,
    udp,
)

CLIENT, OTHER, RESOLVER, SERVER = "10.0.0.1", "10.0.0.2", "198.51.100.53", "192.0.2.1"


def ask(
    capture: Capture,
    time_ns: int,
    message: bytes,
    client: str = CLIENT,
    port: int = 40000,
    resolver: str = RESOLVER,
    resolver_port: int = 53,
) -> None:
    capture.add(time_ns, ipv4(client, resolver, 17, udp(port, resolver_port, message)))


def reply(
    capture: Capture,
    time_ns: int,
    message: bytes,
    client: str = CLIENT,
    port: int = 40000,
    resolver: str = RESOLVER,
    resolver_port: int = 53,
) -> None:
    capture.add(time_ns, ipv4(resolver, client, 17, udp(resolver_port, port, message)))


def resolve(
    capture: Capture, time_ns: int, name: str, *records: bytes, client: str = CLIENT
) -> None:
    ask(capture, time_ns, dns.query(1, name), client=client)
    reply(capture, time_ns + 5 * MS, dns.answer(1, name, *records), client=client)


def datagrams(capture: Capture, time_ns: int, client: str = CLIENT, server: str = SERVER) -> None:
    """Two packets of a flow that does not say what it is."""
    capture.add(time_ns, ipv4(client, server, 17, udp(50000, 9999, b"?" * 30)))
    capture.add(time_ns + MS, ipv4(server, client, 17, udp(9999, 50000, b"!" * 30)))


def session(result: Result, port: int) -> dict[str, Any]:
    found = [row for row in result.rows if row["client_port"] == port]
    assert len(found) == 1
    return found[0]


def name_of(result: Result) -> tuple[str | None, str | None]:
    row = session(result, 50000)
    return row["server_name"], row["server_name_source"]


# ------------------------------------------------------------------------------------------ answers


@pytest.mark.parametrize(
    ("rcode", "outcome", "cause"),
    [
        (dns.NOERROR, "ok", None),
        (dns.NXDOMAIN, "ok", None),
        (dns.SERVFAIL, "failed", "dns_servfail"),
        (dns.REFUSED, "failed", "dns_refused"),
    ],
)
def test_the_response_code_decides(run: Run, rcode: int, outcome: str, cause: str | None) -> None:
    capture = Capture()
    ask(capture, MINUTE, dns.query(7, "www.example.org"))
    reply(capture, MINUTE + 30 * MS, dns.answer(7, "www.example.org", rcode=rcode))
    row = session(run(capture), 40000)
    assert (row["app_protocol"], row["dns_query"]) == ("dns", "www.example.org")
    assert (row["dns_rcode"], row["dns_response_us"]) == (rcode, 30_000)
    assert (row["outcome"], row["failure_cause"]) == (outcome, cause)
    assert (row["requests"], row["requests_failed"]) == (1, int(outcome == "failed"))


@pytest.mark.parametrize(
    ("patience_s", "decided"),
    [
        (1, ("ok", None, ["aborted_by_client"])),
        (8, ("failed", "dns_timeout", ["query_unanswered"])),
    ],
)
def test_who_soon_leaves_a_resolver_over_tcp_has_not_waited_for_its_answer(
    run: Run, patience_s: int, decided: tuple[Any, ...]
) -> None:
    capture = Capture()
    dialogue = Dialogue(capture, server_port=53)
    now = dialogue.open(MINUTE)
    query = dns.query(7, "www.example.org")
    dialogue.up(now, ACK | PSH, len(query).to_bytes(2, "big") + query)
    dialogue.down(now + 20 * MS, ACK)
    dialogue.close(now + patience_s * SECOND)
    ask(capture, MINUTE + 30 * SECOND, dns.query(8, "later.example"), port=40001)
    row = session(run(capture), dialogue.client_port)
    assert (row["outcome"], row["failure_cause"], row["evidence"]) == decided


def test_the_wait_counts_from_the_first_copy_of_a_query(run: Run) -> None:
    capture = Capture()
    ask(capture, MINUTE, dns.query(7, "www.example.org"))
    ask(capture, MINUTE + 5 * SECOND, dns.query(7, "www.example.org"))
    reply(capture, MINUTE + 5 * SECOND + 20 * MS, dns.answer(7, "www.example.org"))
    row = session(run(capture), 40000)
    assert row["dns_response_us"] == 5_020_000
    assert (row["requests"], row["requests_failed"], row["outcome"]) == (1, 0, "ok")
    assert row["evidence"] == ["dns_query_repeated"]


def test_a_stubs_retry_at_another_resolver_is_told_in_both_sessions(run: Run) -> None:
    capture = Capture()
    resolve(capture, MINUTE - SECOND, "other.example")
    ask(capture, MINUTE, dns.query(7, "www.example.org"), port=41000)
    ask(capture, MINUTE + 5 * SECOND, dns.query(8, "www.example.org"), port=42000, resolver=OTHER)
    found = dns.answer(8, "www.example.org", dns.address("www.example.org", SERVER))
    reply(capture, MINUTE + 5 * SECOND + 9 * MS, found, port=42000, resolver=OTHER)
    datagrams(capture, MINUTE + 40 * SECOND)
    result = run(capture)
    first, second = session(result, 41000), session(result, 42000)
    assert (first["failure_cause"], second["outcome"]) == ("dns_timeout", "ok")
    assert "dns_answered_elsewhere" in first["evidence"]
    assert second["evidence"] == ["dns_query_repeated"]
    assert second["dns_response_us"] == 9_000


def test_two_resolvers_asked_at_once_are_no_retry(run: Run) -> None:
    capture = Capture()
    for port, resolver in ((41000, RESOLVER), (42000, OTHER)):
        ask(capture, MINUTE, dns.query(7, "www.example.org"), port=port, resolver=resolver)
        done = dns.answer(7, "www.example.org")
        reply(capture, MINUTE + 10 * MS, done, port=port, resolver=resolver)
    result = run(capture)
    assert [row["evidence"] for row in result.rows] == [None, None]


def test_a_truncated_answer_is_no_failure_and_leaves_evidence(run: Run) -> None:
    capture = Capture()
    ask(capture, MINUTE, dns.query(7, "big.example.org"))
    reply(capture, MINUTE + MS, dns.answer(7, "big.example.org", flags=dns.TRUNCATED))
    row = session(run(capture), 40000)
    assert (row["outcome"], row["evidence"]) == ("ok", ["dns_truncated"])


def test_requests_are_counted_when_they_are_asked_and_once(run: Run) -> None:
    """An interval that ends between query and answer leaves both counts right."""
    capture = Capture()
    ask(capture, MINUTE + 59 * SECOND, dns.query(7, "www.example.org"))
    reply(capture, MINUTE + 61 * SECOND, dns.answer(7, "www.example.org", rcode=dns.SERVFAIL))
    first, second = run(capture).rows
    assert [row["requests"] for row in (first, second)] == [1, 0]
    assert [row["requests_failed"] for row in (first, second)] == [0, 1]
    assert [row["outcome"] for row in (first, second)] == [None, "failed"]


@pytest.mark.parametrize(("port", "label"), [(5353, "mdns"), (5355, "llmnr")])
def test_nobody_has_to_answer_a_multicast_question(run: Run, port: int, label: str) -> None:
    capture = Capture()
    resolve(capture, MINUTE - SECOND, "other.example")
    for second in range(3):
        group = "224.0.0.251"
        question = dns.query(0, "printer.local")
        ask(
            capture,
            MINUTE + second * SECOND,
            question,
            port=port,
            resolver=group,
            resolver_port=port,
        )
    datagrams(capture, MINUTE + 50 * SECOND)
    row = session(run(capture), port)
    assert (row["app_protocol"], row["dns_query"]) == (label, "printer.local")
    assert (row["outcome"], row["evidence"], row["requests"]) == ("unknown", ["one_way"], None)


def test_dns_on_another_port_is_recognised_once_it_is_answered(run: Run) -> None:
    capture = Capture()
    for port, answered in ((41000, True), (42000, False)):
        ask(capture, MINUTE, dns.query(7, "www.example.org"), port=port, resolver_port=5300)
        if answered:
            done = dns.answer(7, "www.example.org")
            reply(capture, MINUTE + MS, done, port=port, resolver_port=5300)
    result = run(capture)
    sure, unsure = session(result, 41000), session(result, 42000)
    assert (sure["app_protocol"], sure["dns_response_us"]) == ("dns", 1_000)
    assert (unsure["app_protocol"], unsure["failure_cause"]) == (None, None)


def test_other_bytes_on_the_port_of_dns_are_not_dns(run: Run) -> None:
    capture = Capture()
    ask(capture, MINUTE, bytes(range(1, 100)))
    reply(capture, MINUTE + MS, bytes(range(100, 200)))
    row = session(run(capture), 40000)
    assert (row["app_protocol"], row["requests"], row["outcome"]) == (None, None, "ok")


def test_silence_of_a_flow_of_datagrams_is_unknown_with_evidence(run: Run) -> None:
    capture = Capture()
    for second in range(3):
        ask(capture, MINUTE + second * SECOND, b"?" * 40, resolver_port=9999)
    row = session(run(capture), 40000)
    assert (row["outcome"], row["evidence"]) == ("unknown", ["one_way", "udp_unanswered"])


# -------------------------------------------------------------------------------------------- names


def test_a_flow_without_a_name_has_the_one_its_client_asked_for(run: Run) -> None:
    capture = Capture()
    resolve(capture, MINUTE, "www.example.org", dns.address("www.example.org", SERVER))
    datagrams(capture, MINUTE + SECOND)
    assert name_of(run(capture)) == ("www.example.org", "dns")


def test_the_name_is_the_one_asked_and_not_its_alias(run: Run) -> None:
    capture = Capture()
    resolve(
        capture,
        MINUTE,
        "www.example.org",
        dns.record("www.example.org", dns.CNAME, dns.wire_name("a.cdn.example")),
        dns.record("a.cdn.example", dns.CNAME, dns.wire_name("b.cdn.example")),
        dns.address("b.cdn.example", SERVER),
        dns.address("unrelated.example", "192.0.2.99"),
    )
    datagrams(capture, MINUTE + SECOND)
    assert name_of(run(capture)) == ("www.example.org", "dns")


def test_a_service_record_names_the_addresses_it_hints_at(run: Run) -> None:
    hints = b"\x00\x01\x00" + b"\x00\x04\x00\x04" + bytes([192, 0, 2, 1])
    capture = Capture()
    ask(capture, MINUTE, dns.query(1, "www.example.org", dns.HTTPS))
    found = dns.record("www.example.org", dns.HTTPS, hints)
    reply(capture, MINUTE + MS, dns.answer(1, "www.example.org", found, kind=dns.HTTPS))
    datagrams(capture, MINUTE + SECOND)
    assert name_of(run(capture)) == ("www.example.org", "dns")


def test_each_client_has_its_own_name_for_a_shared_address(run: Run) -> None:
    capture = Capture()
    for client, name in ((CLIENT, "a.example.org"), (OTHER, "b.example.org")):
        resolve(capture, MINUTE, name, dns.address(name, SERVER), client=client)
    datagrams(capture, MINUTE + SECOND, client=CLIENT)
    datagrams(capture, MINUTE + SECOND, client=OTHER)
    datagrams(capture, MINUTE + SECOND, client="10.0.0.3")
    rows = [row for row in run(capture).rows if row["client_port"] == 50000]
    names = {row["client_ip"]: row["server_name"] for row in rows}
    assert names == {CLIENT: "a.example.org", OTHER: "b.example.org", "10.0.0.3": None}


def test_an_answer_that_nobody_asked_for_names_nothing(run: Run) -> None:
    capture = Capture()
    forged = dns.answer(9, "bank.example", dns.address("bank.example", SERVER))
    ask(capture, MINUTE, dns.query(1, "www.example.org"))
    reply(capture, MINUTE + MS, forged)
    datagrams(capture, MINUTE + SECOND)
    assert name_of(run(capture)) == (None, None)


@pytest.mark.parametrize("blank", ["0.0.0.0", "127.0.0.1", "224.0.0.1"])
def test_a_blocklists_answer_names_nothing(run: Run, blank: str) -> None:
    capture = Capture()
    resolve(capture, MINUTE, "ads.example.org", dns.address("ads.example.org", blank))
    datagrams(capture, MINUTE + SECOND, server=blank)
    rows = [row for row in run(capture).rows if row["server_port"] == 9999]
    assert [row["server_name"] for row in rows] == [None]


def test_a_name_is_forgotten_after_its_time_to_live(run: Run) -> None:
    for age_s, name in ((119, "www.example.org"), (121, None)):
        capture = Capture()
        found = dns.address("www.example.org", SERVER, ttl=120)
        resolve(capture, MINUTE, "www.example.org", found)
        datagrams(capture, MINUTE + 5 * MS + age_s * SECOND)
        assert name_of(run(capture))[0] == name


def test_a_tcp_connection_that_sends_nothing_has_a_name_too(run: Run) -> None:
    capture = Capture()
    resolve(capture, MINUTE, "www.example.org", dns.address("www.example.org", SERVER))
    Dialogue(capture, client_port=50000).open(MINUTE + SECOND)
    assert name_of(run(capture)) == ("www.example.org", "dns")


def test_names_beyond_the_limit_are_shed_and_counted(run: Run) -> None:
    capture = Capture()
    for number in range(3000):
        name = f"n{number}.example"
        found = dns.address(name, f"100.64.{number >> 8}.{number & 255}")
        resolve(capture, MINUTE + number * 10 * MS, name, found)
    assert run(capture).counters["names_shed"] > 0
