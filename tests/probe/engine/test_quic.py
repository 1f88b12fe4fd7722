"""What the engine says of QUIC: names, round trips, set-up, failures, and a client that moves."""

from typing import Any

import pytest

from tests.probe.engine.conftest import Result, Run, only
from tests.probe.engine.packets import MINUTE, MS, SECOND, Capture, Dialogue, ipv4, udp
from tests.probe.engine.quic import Connection, ack, client_hello, close, crypto, server_hello


def by_port(result: Result, port: int) -> dict[str, Any]:
    return next(row for row in result.rows if row["client_port"] == port)


def reach_client(capture: Capture, time_ns: int) -> None:
    """Let the tap see that packets come to the client."""
    Dialogue(capture, server="192.0.2.99").open(time_ns)


def end_capture(capture: Capture, time_ns: int) -> None:
    capture.add(time_ns, ipv4("10.9.9.9", "10.9.9.8", 17, udp(9, 9, b"later")))


def test_a_handshake_is_measured_on_both_sides_of_the_tap(run: Run) -> None:
    capture = Capture()
    connection = Connection(capture)
    now = connection.open(MINUTE, server_rtt_ns=20 * MS, client_rtt_ns=30 * MS)
    connection.down(now + 20 * MS, connection.server.one_rtt())
    row = only(run(capture))
    assert (row["app_protocol"], row["server_name"]) == ("quic", "video.example")
    assert (row["alpn"], row["tls_version"], row["ech"]) == ("h3", "1.3", False)
    assert (row["handshake_rtt_server_us"], row["handshake_rtt_client_us"]) == (20_000, 30_000)
    assert row["setup_us"] == 50_000
    assert (row["rtt_server_min_us"], row["rtt_client_min_us"]) == (20_000, 30_000)
    assert (row["rtt_server_method"], row["rtt_client_method"]) == ("quic_handshake",) * 2
    assert (row["initiator"], row["outcome"]) == ("client", "ok")
    # What QUIC hides is not guessed.
    assert (row["tls_setup_us"], row["time_to_first_byte_us"]) == (None, None)


def test_a_hello_in_three_datagrams_out_of_order_is_read(run: Run) -> None:
    capture = Capture()
    connection = Connection(capture)
    hello = client_hello("post.quantum.example", ["h3", "h3-29"], more=2600)
    pieces = [(at, hello[at : at + 1000]) for at in range(0, len(hello), 1000)]
    for number, (at, piece) in enumerate(reversed(pieces)):
        connection.up(MINUTE + number * MS, connection.client.initial(crypto(at, piece)))
    row = only(run(capture))
    assert len(pieces) == 3
    assert (row["server_name"], row["alpn"]) == ("post.quantum.example", "h3,h3-29")
    assert row["tls_version"] is None, "the server has chosen nothing yet"


def test_a_server_that_never_answers_is_a_timeout(run: Run) -> None:
    capture = Capture()
    reach_client(capture, MINUTE)
    connection = Connection(capture, client_port=40001)
    for attempt in (1, 2, 4, 8):
        initial = connection.client.initial(crypto(0, client_hello("gone.example", ["h3"])))
        connection.up(MINUTE + attempt * SECOND, initial)
    end_capture(capture, MINUTE + 12 * SECOND)
    row = by_port(run(capture), 40001)
    assert (row["outcome"], row["failure_cause"]) == ("failed", "quic_timeout")
    assert (row["failure_stage"], row["failure_side"]) == ("connect", "server")
    assert row["evidence"] == ["initial_unanswered", "client_reached"]
    assert row["server_name"] == "gone.example"


@pytest.mark.parametrize("why", ["client_not_reached", "capture_too_short", "client_went_on"])
def test_silence_that_proves_nothing_is_no_timeout(run: Run, why: str) -> None:
    capture = Capture()
    if why != "client_not_reached":
        reach_client(capture, MINUTE)
    connection = Connection(capture, client_port=40001)
    connection.up(
        MINUTE + SECOND, connection.client.initial(crypto(0, client_hello("x.example", ["h3"])))
    )
    if why == "client_went_on":  # the answers come by a way that the tap does not see
        connection.up(MINUTE + 2 * SECOND, connection.client.one_rtt())
    end_capture(capture, MINUTE + (2 if why == "capture_too_short" else 30) * SECOND)
    row = by_port(run(capture), 40001)
    assert (row["outcome"], row["failure_cause"]) == ("unknown", None)


def test_a_version_that_the_server_refuses_for_good_is_a_mismatch(run: Run) -> None:
    capture = Capture()
    connection = Connection(capture)
    hello = crypto(0, client_hello("old.example", ["h3"]))
    connection.up(MINUTE, connection.client.initial(hello))
    connection.server.own_id = connection.first_id
    connection.down(MINUTE + 10 * MS, connection.server.version_negotiation([0xFF00001D]))
    end_capture(capture, MINUTE + 20 * SECOND)
    row = by_port(run(capture), 40000)
    assert row["failure_cause"] == "quic_version_mismatch"
    assert row["evidence"] == ["version_negotiation", "no_version_accepted"]


@pytest.mark.parametrize(
    ("code", "cause", "stage"),
    [
        (0x128, "tls_no_common_cipher", "tls"),
        (0x170, "tls_unknown_name", "tls"),
        (0x02, "connect_refused", "connect"),
    ],
)
def test_a_server_that_closes_says_why(run: Run, code: int, cause: str, stage: str) -> None:
    capture = Capture()
    connection = Connection(capture)
    hello = crypto(0, client_hello("strict.example", ["h3"]))
    connection.up(MINUTE, connection.client.initial(hello))
    connection.down(MINUTE + 20 * MS, connection.server.initial(ack(0) + close(code), 100))
    row = only(run(capture))
    assert (row["outcome"], row["failure_cause"]) == ("failed", cause)
    assert (row["failure_stage"], row["setup_us"]) == (stage, None)
    assert row["handshake_rtt_server_us"] == 20_000


def test_a_client_that_closes_an_attempt_has_not_failed(run: Run) -> None:
    capture = Capture()
    reach_client(capture, MINUTE)
    connection = Connection(capture, client_port=40001)
    hello = crypto(0, client_hello("race.example", ["h3"]))
    connection.up(MINUTE, connection.client.initial(hello))
    connection.up(MINUTE + 250 * MS, connection.client.initial(close(0)))
    end_capture(capture, MINUTE + 30 * SECOND)
    row = by_port(run(capture), 40001)
    assert (row["outcome"], row["failure_cause"]) == ("unknown", None)


def test_a_handshake_repeated_in_vain_is_a_timeout(run: Run) -> None:
    capture = Capture()
    connection = Connection(capture)
    hello = crypto(0, client_hello("stuck.example", ["h3"]))
    connection.up(MINUTE, connection.client.initial(hello))
    connection.down(MINUTE + 20 * MS, connection.server.initial(crypto(0, server_hello()), 200))
    for attempt in (1, 2, 4):
        connection.up(MINUTE + attempt * SECOND, connection.client.handshake())
    end_capture(capture, MINUTE + 30 * SECOND)
    row = by_port(run(capture), 40000)
    assert (row["failure_cause"], row["failure_side"]) == ("tls_timeout", None)


def test_a_connection_keeps_its_name_when_a_nat_gives_it_another_port(run: Run) -> None:
    capture = Capture()
    connection = Connection(capture)
    now = connection.open(MINUTE, 20 * MS, 30 * MS)
    connection.down(now + 20 * MS, connection.server.one_rtt())
    connection.client_port = 50000
    connection.up(now + 40 * SECOND, connection.client.one_rtt())
    connection.down(now + 40 * SECOND + 20 * MS, connection.server.one_rtt())
    moved = by_port(run(capture), 50000)
    assert (moved["app_protocol"], moved["server_name"]) == ("quic", "video.example")
    assert (moved["alpn"], moved["flags"]) == ("h3", ["missed_start"])
    assert moved["handshake_rtt_server_us"] is None, "said once, of the handshake"


def test_packets_to_an_id_that_nobody_knows_are_not_called_quic(run: Run) -> None:
    capture = Capture()
    connection = Connection(capture)
    connection.up(MINUTE, connection.client.one_rtt())
    connection.down(MINUTE + 20 * MS, connection.server.one_rtt())
    row = only(run(capture))
    assert (row["app_protocol"], row["server_name"]) == (None, None)


def test_another_connection_on_the_same_ports_is_another_session(run: Run) -> None:
    capture = Capture()
    first = Connection(capture)
    now = first.open(MINUTE, 20 * MS, 30 * MS)
    second = Connection(capture, first_id=b"secondid")
    second.up(now + SECOND, second.client.initial(crypto(0, client_hello("next.example", ["h3"]))))
    rows = run(capture).rows
    assert [row["server_name"] for row in rows] == ["video.example", "next.example"]
    assert rows[0]["end_reason"] == "port_reused"


def spinning(capture: Capture, server_spins: bool) -> None:
    """A download of 2 s at a tap 40 ms from the client and 10 ms from the server, and back."""
    connection = Connection(capture)
    start = connection.open(MINUTE, 10 * MS, 40 * MS) + MS
    up = [False] * 2000
    down = [False] * 2000
    for at in range(2000):
        up[at] = not down[at - 40] if at >= 40 else False
        down[at] = up[at - 10] if at >= 10 and server_spins else False
        connection.up(start + at * MS, connection.client.one_rtt(up[at]))
        connection.down(start + at * MS, connection.server.one_rtt(down[at]))


def test_the_spin_bit_tells_round_trips_where_nothing_better_does(run: Run) -> None:
    capture = Capture()
    spinning(capture, server_spins=True)
    first, *later = run(capture, active_timeout_s=1).rows
    # The handshake's interval has the handshake's round trips, and no other.
    assert (first["rtt_client_method"], first["rtt_client_samples"]) == ("quic_handshake", 1)
    row = later[0]
    assert (row["rtt_client_method"], row["rtt_server_method"]) == ("spin", "spin")
    assert row["rtt_client_min_us"] == pytest.approx(40_000, abs=1000)
    assert row["rtt_server_min_us"] == pytest.approx(10_000, abs=1000)
    assert row["rtt_client_samples"] >= 15


def test_a_connection_whose_server_does_not_spin_has_no_spin_samples(run: Run) -> None:
    capture = Capture()
    spinning(capture, server_spins=False)
    later = run(capture, active_timeout_s=1).rows[1:]
    assert later
    assert all(row["rtt_client_method"] is None for row in later)


def test_a_subscriber_that_serves_has_its_own_side(run: Run) -> None:
    capture = Capture()
    connection = Connection(capture, client_address="198.51.100.7", server_address="10.0.0.1")
    connection.open(MINUTE, server_rtt_ns=20 * MS, client_rtt_ns=30 * MS)
    row = only(run(capture, subscriber_prefixes=["10.0.0.0/8"]))
    assert (row["client_ip"], row["initiator"]) == ("10.0.0.1", "server")
    assert (row["handshake_rtt_client_us"], row["handshake_rtt_server_us"]) == (20_000, 30_000)
