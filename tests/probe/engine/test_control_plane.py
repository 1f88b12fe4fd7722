"""What the control plane tells the engine, and who cannot tell it anything."""

import hashlib
import hmac
import struct
from typing import Any

import pytest

from tests.probe.engine.conftest import SITE_KEY, Result, Run
from tests.probe.engine.packets import MINUTE, MS, SECOND, Capture, gtpu, ipv4, udp

GATEWAY, SERVER, CLIENT, FAR = "10.9.0.1", "10.9.0.2", "10.45.0.7", "192.0.2.1"
ANNA, BERT = "001010000000007", "001010000000008"
THE_ANNA, THE_BERT = f"imsi:{ANNA}", f"imsi:{BERT}"


def attribute(kind: int, value: bytes) -> bytes:
    return bytes([kind, 2 + len(value)]) + value


def accounting(status: int, imsi: str, identifier: int = 1) -> bytes:
    """Return an accounting request (RFC 2866) about CLIENT; 1 starts, 2 stops, 7 is a restart."""
    vendor = struct.pack(">I", 10415) + attribute(1, imsi.encode())  # 3GPP-IMSI
    body = b"".join(
        [
            attribute(40, struct.pack(">I", status)),
            attribute(4, bytes(map(int, GATEWAY.split(".")))),
            attribute(44, imsi.encode()[-4:]),
            attribute(8, bytes(map(int, CLIENT.split(".")))),
            attribute(26, vendor),
        ]
    )
    return struct.pack(">BBH16s", 4, identifier, 20 + len(body), bytes(16)) + body


def account(capture: Capture, time_ns: int, status: int, imsi: str, identifier: int = 1) -> None:
    message = udp(20000, 1813, accounting(status, imsi, identifier))
    capture.add(time_ns, ipv4(GATEWAY, SERVER, 17, message))
    answer = struct.pack(">BBH16s", 5, identifier, 20, bytes(16))
    capture.add(time_ns + MS, ipv4(SERVER, GATEWAY, 17, udp(1813, 20000, answer)))


def talk(capture: Capture, time_ns: int, port: int = 50000) -> None:
    capture.add(time_ns, ipv4(CLIENT, FAR, 17, udp(port, 9999, b"?" * 30)))
    capture.add(time_ns + MS, ipv4(FAR, CLIENT, 17, udp(9999, port, b"!" * 30)))


def pseudonym(identity: str) -> str:
    return hmac.new(SITE_KEY, identity.encode(), hashlib.sha256).hexdigest()[:32]


def owners(result: Result, port: int = 50000) -> list[tuple[Any, str]]:
    """Return (subscriber, source) of each record of CLIENT's flow, in order."""
    rows = [row for row in result.rows if row["client_port"] == port]
    return [(row["subscriber_id"], row["subscriber_source"]) for row in rows]


def test_an_address_is_the_subscribers_whom_accounting_names(run: Run) -> None:
    capture = Capture()
    account(capture, MINUTE, 1, ANNA)
    talk(capture, MINUTE + SECOND)
    result = run(capture)
    assert owners(result) == [(pseudonym(THE_ANNA), "radius")]
    link = result.batches[0].links[0]
    ends = (link["from"].hex(), link["to"].hex())
    assert ends == (pseudonym(f"ip:{CLIENT}"), pseudonym(THE_ANNA))


def test_a_session_that_is_under_way_learns_whose_it_is(run: Run) -> None:
    capture = Capture()
    talk(capture, MINUTE)
    account(capture, MINUTE + SECOND, 1, ANNA)
    talk(capture, MINUTE + 2 * SECOND)
    assert owners(run(capture))[-1] == (pseudonym(THE_ANNA), "radius")


def test_another_owner_of_the_address_is_another_session(run: Run) -> None:
    capture = Capture()
    account(capture, MINUTE, 1, ANNA)
    talk(capture, MINUTE + SECOND)
    account(capture, MINUTE + 2 * SECOND, 2, ANNA, identifier=2)
    account(capture, MINUTE + 3 * SECOND, 1, BERT, identifier=3)
    talk(capture, MINUTE + 4 * SECOND)
    assert owners(run(capture)) == [
        (pseudonym(THE_ANNA), "radius"),
        (pseudonym(THE_BERT), "radius"),
    ]


def test_a_subscriber_cannot_say_who_owns_an_address(run: Run) -> None:
    """Neither within its tunnel nor, where its addresses are known, without one."""
    capture = Capture()
    forged = ipv4("10.45.0.99", SERVER, 17, udp(20000, 1813, accounting(1, BERT)))
    capture.add(MINUTE, gtpu("10.8.0.1", "10.8.0.2", 77, forged))
    capture.add(MINUTE + MS, forged)
    talk(capture, MINUTE + SECOND)
    result = run(capture, subscriber_prefixes=["10.45.0.0/16"])
    assert [source for _, source in owners(result)] == ["address"]
    assert result.counters["control_messages"] == 0


@pytest.mark.parametrize("cut", [1, 20, 30])
def test_a_malformed_message_is_counted_and_changes_nothing(run: Run, cut: int) -> None:
    capture = Capture()
    account(capture, MINUTE, 1, ANNA)
    broken = accounting(2, ANNA, identifier=9)
    capture.add(MINUTE + MS, ipv4(GATEWAY, SERVER, 17, udp(20000, 1813, broken[:-cut])))
    talk(capture, MINUTE + SECOND)
    result = run(capture)
    assert owners(result) == [(pseudonym(THE_ANNA), "radius")]
    names = ("truncated", "length", "version", "value")
    assert sum(result.counters[f"control_malformed_{name}"] for name in names) == 1


def test_a_refused_access_is_a_failure_of_signalling(run: Run) -> None:
    capture = Capture()
    vendor = struct.pack(">I", 10415) + attribute(1, ANNA.encode())
    body = attribute(26, vendor) + attribute(4, bytes(map(int, GATEWAY.split("."))))
    request = struct.pack(">BBH16s", 1, 7, 20 + len(body), bytes(16)) + body
    capture.add(MINUTE, ipv4(GATEWAY, SERVER, 17, udp(20001, 1812, request)))
    reject = struct.pack(">BBH16s", 3, 7, 20, bytes(16))
    capture.add(MINUTE + 8 * MS, ipv4(SERVER, GATEWAY, 17, udp(1812, 20001, reject)))
    rows = [row for row in run(capture).rows if row["record_kind"] == "transaction"]
    assert len(rows) == 1
    row = rows[0]
    assert (row["outcome"], row["failure_cause"]) == ("failed", "radius_reject")
    assert (row["failure_stage"], row["setup_us"]) == ("signalling", 8000)
    assert (row["app_protocol"], row["server_ip"]) == ("radius", SERVER)
    assert row["packets_up"] == row["packets_down"] == 0


def test_a_gateway_that_has_restarted_has_lost_its_sessions(run: Run) -> None:
    capture = Capture()
    account(capture, MINUTE, 1, ANNA)
    talk(capture, MINUTE + SECOND)
    account(capture, MINUTE + 2 * SECOND, 7, "", identifier=2)
    talk(capture, MINUTE + 3 * SECOND, port=50001)
    result = run(capture)
    assert owners(result) == [(pseudonym(THE_ANNA), "radius")]
    assert [source for _, source in owners(result, port=50001)] == ["address"]


def test_a_flow_that_fell_silent_is_not_the_next_owners(run: Run) -> None:
    """Who had the address before was missed: that the next one has it says nothing of before."""
    capture = Capture()
    talk(capture, MINUTE)
    account(capture, MINUTE + SECOND, 1, BERT)
    talk(capture, MINUTE + 2 * SECOND, port=50001)
    result = run(capture)
    assert [source for _, source in owners(result)] == ["address"]
    assert owners(result, port=50001) == [(pseudonym(THE_BERT), "radius")]


def test_a_repeated_request_is_one_transaction_from_its_first_transmission_on(run: Run) -> None:
    capture = Capture()
    vendor = struct.pack(">I", 10415) + attribute(1, ANNA.encode())
    body = attribute(26, vendor) + attribute(4, bytes(map(int, GATEWAY.split("."))))
    request = struct.pack(">BBH16s", 1, 7, 20 + len(body), bytes(16)) + body
    for time_ns in (MINUTE, MINUTE + SECOND):
        capture.add(time_ns, ipv4(GATEWAY, SERVER, 17, udp(20001, 1812, request)))
    accept = struct.pack(">BBH16s", 2, 7, 20, bytes(16))
    capture.add(MINUTE + SECOND + 8 * MS, ipv4(SERVER, GATEWAY, 17, udp(1812, 20001, accept)))
    rows = [row for row in run(capture).rows if row["record_kind"] == "transaction"]
    assert [(row["outcome"], row["setup_us"]) for row in rows] == [("ok", 1_008_000)]


def test_a_number_that_is_used_again_is_another_request(run: Run) -> None:
    """Of the first the answer was missed; the second is about another session."""
    capture = Capture()
    capture.add(
        MINUTE, ipv4(GATEWAY, SERVER, 17, udp(20000, 1813, accounting(1, ANNA, identifier=9)))
    )
    account(capture, MINUTE + 3 * SECOND, 1, BERT, identifier=9)
    talk(capture, MINUTE + 4 * SECOND)
    assert owners(run(capture)) == [(pseudonym(THE_BERT), "radius")]
