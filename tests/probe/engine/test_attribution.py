"""Who and where: client side, subscriber, cell, and what of it leaves the probe."""

import hashlib
import hmac
import json
from pathlib import Path

import pytest

from probe.engine import Engine, EngineError
from probe.record import codec
from tests.probe.engine.conftest import SITE_KEY, Run, options
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
    rule,
    tcp,
    udp,
)

ENB, GATEWAY = "172.16.0.1", "172.16.9.9"


def pseudonym(identity: str) -> str:
    return hmac.new(SITE_KEY, identity.encode(), hashlib.sha256).hexdigest()[:32]


def opened() -> Capture:
    capture = Capture()
    Dialogue(capture).open(MINUTE)
    return capture


def test_without_a_map_the_address_names_the_subscriber(run: Run) -> None:
    row = run(opened()).rows[0]
    assert row["subscriber_id"] == pseudonym("ip:10.0.0.1")
    assert (row["subscriber_source"], row["cell_id"]) == ("address", None)


def test_the_map_gives_subscriber_and_cell(run: Run) -> None:
    known = rule(
        client_prefix="10.0.0.0/24",
        subscriber="imsi:001010000000001",
        cell_id="001-01-0019B01",
        tracking_area="001-01-0001",
        rat="EUTRAN",
        apn="internet",
    )
    row = run(opened(), attribution=[known]).rows[0]
    assert row["subscriber_id"] == pseudonym("imsi:001010000000001")
    assert (row["subscriber_source"], row["cell_source"]) == ("map", "map")
    assert (row["cell_id"], row["apn"], row["rat"]) == ("001-01-0019B01", "internet", "EUTRAN")


def test_an_imsi_stands_in_no_body(run: Run) -> None:
    known = rule(client_prefix="10.0.0.1/32", subscriber="imsi:001010000000001")
    assert all(b"001010000000001" not in body for body in run(opened(), attribution=[known]).bodies)


@pytest.mark.parametrize(
    ("mode", "expected"), [("full", "10.0.0.1"), ("prefix", "10.0.0.0"), ("none", None)]
)
def test_the_client_address_leaves_as_far_as_allowed(
    run: Run, mode: str, expected: str | None
) -> None:
    row = run(opened(), client_address=mode).rows[0]
    assert row["client_ip"] == expected
    assert row["server_ip"] == "192.0.2.1"


def test_subscriber_prefixes_go_before_the_syn(run: Run) -> None:
    row = run(opened(), subscriber_prefixes=["192.0.2.0/24"]).rows[0]
    assert (row["client_ip"], row["initiator"]) == ("192.0.2.1", "server")
    assert (row["handshake_rtt_client_us"], row["handshake_rtt_server_us"]) == (20_000, 30_000)


def test_the_well_known_port_decides_where_nothing_else_does(run: Run) -> None:
    capture = Capture()
    capture.add(MINUTE, ipv4("192.0.2.1", "10.0.0.1", 17, udp(53, 40000, b"x")))
    assert run(capture).rows[0]["client_ip"] == "10.0.0.1"


def tunnelled(time_ns: int, capture: Capture, up: bool, teid: int, flags: int, enb: str) -> None:
    """One segment of a connection in a tunnel; teids differ by direction."""
    if up:
        segment = tcp(40000, 443, flags, 1000 if flags & SYN else 1001, 9001, b"")
        inner = ipv4("10.0.0.1", "192.0.2.1", 6, segment)
        capture.add(time_ns, gtpu(enb, GATEWAY, teid, inner))
    else:
        segment = tcp(443, 40000, flags, 9000 if flags & SYN else 9001, 1001, b"")
        inner = ipv4("192.0.2.1", "10.0.0.1", 6, segment)
        capture.add(time_ns, gtpu(GATEWAY, enb, teid, inner))


def handover() -> Capture:
    """A connection whose tunnel moves from one eNB to another after a second."""
    capture = Capture()
    tunnelled(MINUTE, capture, up=True, teid=1, flags=SYN, enb=ENB)
    tunnelled(MINUTE + 20 * MS, capture, up=False, teid=101, flags=SYN | ACK, enb=ENB)
    tunnelled(MINUTE + 50 * MS, capture, up=True, teid=1, flags=ACK, enb=ENB)
    tunnelled(MINUTE + SECOND, capture, up=True, teid=2, flags=ACK, enb="172.16.0.2")
    tunnelled(MINUTE + SECOND + MS, capture, up=False, teid=102, flags=ACK, enb="172.16.0.2")
    return capture


CELLS = [
    rule(gtpu_address=ENB, cell_id="001-01-0000A01"),
    rule(gtpu_address="172.16.0.2", cell_id="001-01-0000A02"),
    rule(client_prefix="10.0.0.1/32", subscriber="imsi:1"),
]


def test_a_change_of_cell_ends_the_interval(run: Run) -> None:
    rows = run(handover(), attribution=CELLS, ran_prefixes=["172.16.0.0/24"]).rows
    seen = [(row["cell_id"], row["packets_up"] + row["packets_down"]) for row in rows]
    assert seen == [("001-01-0000A01", 3), ("001-01-0000A02", 2)]
    assert [row["record_kind"] for row in rows] == ["interim", "final"]
    assert len({row["session_id"] for row in rows}) == 1
    assert {row["encapsulation"] for row in rows} == {"gtpu"}


def test_another_owner_of_the_address_is_another_session(run: Run) -> None:
    owners = [
        rule(teid=1, subscriber="imsi:1"),
        rule(teid=2, subscriber="imsi:2"),
        rule(gtpu_address=GATEWAY, cell_id="001-01-0000A01"),
    ]
    capture = Capture()
    tunnelled(MINUTE, capture, up=True, teid=1, flags=SYN, enb=ENB)
    tunnelled(MINUTE + SECOND, capture, up=True, teid=2, flags=ACK | PSH, enb=ENB)
    rows = run(capture, attribution=owners, ran_prefixes=["172.16.0.0/24"]).rows
    assert [row["subscriber_id"] for row in rows] == [pseudonym("imsi:1"), pseudonym("imsi:2")]
    assert len({row["session_id"] for row in rows}) == 2


def test_the_session_id_is_the_documented_hash(run: Run) -> None:
    low = bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 1]) + (40000).to_bytes(2, "big")
    high = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 1]) + (443).to_bytes(2, "big")
    names = b"test-probe\0test\0".ljust(64, b"\0")
    flow = low + high + bytes([6]) + bytes(4) + MINUTE.to_bytes(8, "big")
    expected = hashlib.sha256(names + flow).hexdigest()[:16]
    assert run(opened()).rows[0]["session_id"] == expected


HOPS = ((ENB, 1), ("172.16.0.2", 2))


def alternating(count: int) -> Capture:
    """Packets that take turns with the tunnels of two cells."""
    capture = Capture()
    tunnelled(MINUTE, capture, up=True, teid=1, flags=SYN, enb=ENB)
    for number in range(count):
        segment = tcp(40000, 443, ACK, 1001 + number, 9001, b"x")
        inner = ipv4("10.0.0.1", "192.0.2.1", 6, segment)
        enb, teid = HOPS[number % 2]
        capture.add(MINUTE + 2 * SECOND + number * MS, gtpu(enb, GATEWAY, teid, inner))
    return capture


def test_tunnels_that_alternate_do_not_end_an_interval_with_each_packet(run: Run) -> None:
    rows = run(alternating(500), attribution=CELLS, ran_prefixes=["172.16.0.0/24"]).rows
    assert len(rows) <= 2
    assert sum(row["packets_up"] for row in rows) == 501


def test_packets_shown_at_two_hops_count_once(run: Run) -> None:
    capture = Capture()
    tunnelled(MINUTE, capture, up=True, teid=1, flags=SYN, enb=ENB)
    for number in range(500):
        enb, teid = HOPS[number % 2]
        now = MINUTE + 2 * SECOND + number * MS
        tunnelled(now, capture, up=True, teid=teid, flags=ACK, enb=enb)
    result = run(capture, attribution=CELLS, ran_prefixes=["172.16.0.0/24"])
    assert sum(row["packets_up"] for row in result.rows) == 251
    assert {row["cell_id"] for row in result.rows} == {"001-01-0000A01"}
    assert result.shed() == {"mirror_copy": 250}
    assert result.ledger("decoded") == 251
    assert result.counters["mirror_copies"] == 250


def test_the_tunnel_of_a_copy_says_whose_the_packet_is(run: Run) -> None:
    """Down, a mirror of both sides of a gateway shows the packet without its tunnel first."""
    capture = Capture()
    for number in range(3):
        segment = tcp(9000, 40000, ACK, 9001 + number, 1001, b"x")
        inner = ipv4("192.0.2.1", "10.0.0.1", 6, segment)
        capture.add(MINUTE + number * SECOND, inner)
        capture.add(MINUTE + number * SECOND + 100_000, gtpu(GATEWAY, ENB, 1, inner))
    rows = run(capture, attribution=CELLS, ran_prefixes=["172.16.0.0/24"]).rows
    assert [(row["cell_id"], row["client_ip"]) for row in rows] == [("001-01-0000A01", "10.0.0.1")]
    assert (rows[0]["packets_down"], rows[0]["packets_up"]) == (3, 0)


def with_qfi(time_ns: int, capture: Capture, qfi: int) -> None:
    """A packet whose PDU session container names the QoS flow (TS 38.415 5.5.2, uplink)."""
    inner = ipv4("10.0.0.1", "192.0.2.1", 17, udp(40000, 9000, b"x"))
    extension = bytes([0, 0, 0, 0x85, 1, 0x10, qfi, 0])
    head = bytes([0x34, 255]) + (len(inner) + len(extension)).to_bytes(2, "big")
    message = head + (7).to_bytes(4, "big") + extension + inner
    capture.add(time_ns, ipv4(ENB, GATEWAY, 17, udp(2152, 2152, message)))


def test_a_change_of_qos_flow_ends_the_interval(run: Run) -> None:
    capture = Capture()
    for second, qfi in enumerate((9, 9, 9, 5, 5)):
        with_qfi(MINUTE + second * SECOND, capture, qfi)
    rows = run(capture).rows
    assert [(row["qfi"], row["packets_up"]) for row in rows] == [(9, 3), (5, 2)]
    # The identifier of a flow is a number of the session's own, not a class.
    assert {row["qos_class"] for row in rows} == {None}
    assert [row["record_kind"] for row in rows] == ["interim", "final"]
    assert rows[0]["client_ip"] == "10.0.0.1"


def vlan_packet(time_ns: int, capture: Capture, vlan: int) -> None:
    packet = ipv4("10.0.0.1", "192.0.2.1", 17, udp(123, 123, b"ntp"))
    frame = b"\x02" * 12 + b"\x81\x00" + vlan.to_bytes(2, "big") + b"\x08\x00" + packet
    capture.packets.append((time_ns, frame))


def test_one_address_in_two_vlans_is_two_subscribers(run: Run) -> None:
    rules = [rule(vlan=1, subscriber="imsi:1"), rule(vlan=2, subscriber="imsi:2")]
    capture = Capture()
    for second, vlan in enumerate((1, 1, 2, 2)):
        vlan_packet(MINUTE + second * SECOND // 10, capture, vlan)
    rows = run(capture, attribution=rules, subscriber_prefixes=["10.0.0.0/8"]).rows
    assert [(row["subscriber_id"], row["packets_up"]) for row in rows] == [
        (pseudonym("imsi:1"), 2),
        (pseudonym("imsi:2"), 2),
    ]


def test_a_reused_teid_ends_the_flow_at_once(run: Run) -> None:
    owners = [rule(teid=1, subscriber="imsi:1"), rule(teid=2, subscriber="imsi:2")]
    capture = Capture()
    tunnelled(MINUTE, capture, up=True, teid=1, flags=SYN, enb=ENB)
    tunnelled(MINUTE + 200 * MS, capture, up=True, teid=2, flags=ACK | PSH, enb=ENB)
    rows = run(capture, attribution=owners, ran_prefixes=["172.16.0.0/24"]).rows
    assert [row["subscriber_id"] for row in rows] == [pseudonym("imsi:1"), pseudonym("imsi:2")]


def test_the_direction_that_moved_last_decides_the_cell(run: Run) -> None:
    """Whichever end has the lower address; the downlink is silent after the move."""
    for server in ("1.1.1.1", "192.0.2.1"):
        capture = Capture()
        for number, (up, enb) in enumerate([(True, ENB), (False, ENB), (True, "172.16.0.2")]):
            inner = (
                ipv4("10.0.0.1", server, 17, udp(40000, 9000, b"x"))
                if up
                else ipv4(server, "10.0.0.1", 17, udp(9000, 40000, b"x"))
            )
            ends = (enb, GATEWAY) if up else (GATEWAY, enb)
            capture.add(MINUTE + number * 2 * SECOND, gtpu(*ends, number + 1, inner))
        rows = run(capture, attribution=CELLS, ran_prefixes=["172.16.0.0/24"]).rows
        assert [row["cell_id"] for row in rows] == ["001-01-0000A01", "001-01-0000A02"], server


def test_a_map_set_before_the_start_replaces_that_of_the_options(tmp_path: Path) -> None:
    path = tmp_path / "capture.pcap"
    path.write_bytes(opened().pcap())
    old, new = (rule(client_prefix="10.0.0.0/24", rat=name) for name in ("old", "new"))
    engine = Engine(json.dumps(options([str(path)], attribution=[old])), SITE_KEY)
    engine.set_attribution(json.dumps([new]))
    for faulty in ("{", '[{"colour": 1}]', json.dumps([new | {"client_prefix": "10.0.0.0/64"}])):
        with pytest.raises(EngineError, match="attribution"):
            engine.set_attribution(faulty)
    engine.start()
    bodies = []
    while not engine.finished():
        bodies += [body] if (body := engine.next_body(10.0)) is not None else []
    head = {"probe_id": "p", "epoch": 0, "sequence": 0, "created_at": 0}
    found = [row for body in bodies for row in codec.rows(codec.decode(codec.seal(body, **head)))]
    assert [row["rat"] for row in found] == ["new"]
