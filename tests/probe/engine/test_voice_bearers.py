"""SIP and RTP within bearers: each flow keeps its subscriber and cell, and names its own class."""

from pathlib import Path
from typing import Any

import pytest

from tests.probe.engine.conftest import Result, Run, run_engine
from tests.probe.engine.gtpv2 import S11
from tests.probe.engine.packets import MINUTE, MS, SECOND, Capture, gtpu, ipv4, udp
from tests.probe.engine.test_control_plane import THE_ANNA, pseudonym

ENB, GATEWAY = "10.8.0.1", "10.9.0.1"
CLIENT, PCSCF, MEDIA = "10.46.0.7", "192.0.2.60", "192.0.2.61"
ANNA = THE_ANNA.removeprefix("imsi:")
CELL, ECGI = 0x019C01, "001-01-0019C01"
DEFAULT = ((ENB, 0x5D), (GATEWAY, 0x5A))  # each bearer's ends at base station and gateway
DEDICATED = ((ENB, 0x6D), (GATEWAY, 0x6A))
VIDEO = ((ENB, 0x7D), (GATEWAY, 0x7A))
Bearer = tuple[tuple[str, int], tuple[str, int]]

_texts = iter(range(1, 1 << 16))


def talk(
    capture: Capture, time_ns: int, bearer: Bearer, port: int, far: tuple[str, int], *,
    down_first: bool = False,
) -> None:  # fmt: skip
    """Add a datagram in each direction."""
    enb, sgw = bearer
    up = ipv4(CLIENT, far[0], 17, udp(port, far[1], next(_texts).to_bytes(40, "big")))
    down = ipv4(far[0], CLIENT, 17, udp(far[1], port, next(_texts).to_bytes(40, "big")))
    packets = [gtpu(enb[0], sgw[0], sgw[1], up), gtpu(sgw[0], enb[0], enb[1], down)]
    for place, packet in enumerate(reversed(packets) if down_first else packets):
        capture.add(time_ns + place * MS, packet)


def attached(capture: Capture) -> S11:
    s11 = S11(capture)
    enb, sgw = DEFAULT
    s11.attach(MINUTE, ANNA, CLIENT, CELL, name="ims", qci=5, enb=enb, sgw=sgw)
    return s11


def facts(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in of_anna(0)}


def of_anna(qos_class: int) -> dict[str, Any]:
    return {
        "client_ip": CLIENT,
        "subscriber_id": pseudonym(THE_ANNA),
        "subscriber_source": "gtpv2",
        "cell_id": ECGI,
        "cell_source": "gtpv2",
        "apn": "ims",
        "qos_class": qos_class,
    }


def by_port(result: Result) -> dict[int, list[dict[str, Any]]]:
    rows: dict[int, list[dict[str, Any]]] = {}
    for row in result.rows:
        if row["server_port"] not in (2123, None):
            rows.setdefault(row["client_port"], []).append(row)
    return rows


@pytest.mark.parametrize("down_first", [False, True])
def test_sip_and_rtp_are_the_subscribers_each_by_its_own_bearer(run: Run, down_first: bool) -> None:
    capture = Capture()
    s11 = attached(capture)
    talk(capture, MINUTE + 100 * MS, DEFAULT, 5060, (PCSCF, 5060), down_first=down_first)
    s11.dedicate(MINUTE + 200 * MS, 6, qci=1, enb=DEDICATED[0], sgw=DEDICATED[1])
    s11.dedicate(MINUTE + 300 * MS, 7, qci=2, enb=VIDEO[0], sgw=VIDEO[1])
    for step in range(20):
        time_ns = MINUTE + 400 * MS + step * 20 * MS
        talk(capture, time_ns, DEDICATED, 49120, (MEDIA, 31226), down_first=down_first)
        talk(capture, time_ns + 5 * MS, VIDEO, 49130, (MEDIA, 31236), down_first=down_first)
    rows = by_port(run(capture))
    assert {port: [facts(row) for row in found] for port, found in rows.items()} == {
        5060: [of_anna(5)],
        49120: [of_anna(1)],
        49130: [of_anna(2)],
    }
    assert rows[49120][0]["packets_up"] == rows[49120][0]["packets_down"] == 20


def test_a_call_that_goes_over_to_its_own_bearer_is_told_apart(run: Run) -> None:
    capture = Capture()
    s11 = attached(capture)
    for step in range(3):
        talk(capture, MINUTE + SECOND * (1 + step), DEFAULT, 49120, (MEDIA, 31226))
    s11.dedicate(MINUTE + 4 * SECOND, 6, qci=1, enb=DEDICATED[0], sgw=DEDICATED[1])
    for step in range(2):
        talk(capture, MINUTE + SECOND * (5 + step), DEDICATED, 49120, (MEDIA, 31226))
    rows = by_port(run(capture))[49120]
    assert [facts(row) for row in rows] == [of_anna(5), of_anna(1)]
    assert [(row["packets_up"], row["packets_down"]) for row in rows] == [(3, 3), (2, 2)]


def test_a_node_that_does_not_know_a_tunnel_ends_that_bearer_and_no_other(run: Run) -> None:
    """An Error Indication (TS 29.281 7.3.1), and the same as a subscriber may send it."""
    from tests.probe.engine.test_tunnels import error_indication

    def classes(signal: bytes) -> list[tuple[str, int | None]]:
        capture = Capture()
        s11 = attached(capture)
        s11.dedicate(MINUTE + 200 * MS, 6, qci=1, enb=DEDICATED[0], sgw=DEDICATED[1])
        capture.add(MINUTE + SECOND, signal)
        # Later than the time for which an end that was given up still counts.
        for bearer, port in ((DEFAULT, 5060), (DEDICATED, 49120)):
            enb, sgw = bearer
            body = next(_texts).to_bytes(40, "big")
            packet = ipv4(PCSCF, CLIENT, 17, udp(port, port, body))
            capture.add(MINUTE + 20 * SECOND, gtpu(sgw[0], enb[0], enb[1], packet))
        rows = by_port(run(capture))
        told = [rows[port] for port in (5060, 49120)]
        return [(row["subscriber_source"], row["qos_class"]) for (row,) in told]

    ended = [("gtpv2", 5), ("address", None)]
    assert classes(error_indication(DEDICATED[0][1], ENB, ENB)) == ended
    from_another_address = error_indication(DEDICATED[0][1], ENB, "10.8.0.9")
    assert classes(from_another_address) == ended
    forged = error_indication(DEDICATED[0][1], ENB, CLIENT)
    in_tunnel = gtpu(ENB, GATEWAY, DEFAULT[1][1], forged)
    assert classes(in_tunnel) == [("gtpv2", 5), ("gtpv2", 1)]


CORPUS = Path(__file__).parents[4] / "shared/corpora/dev/open5gs--volte.pcapng"


@pytest.mark.skipif(not CORPUS.exists(), reason="the reference captures are not here")
def test_rtp_of_a_real_call_has_cell_and_class_of_its_dedicated_bearer() -> None:
    """A laboratory's two phones. The capture begins after both attached: it holds no IMSI."""
    rows = [row for row in run_engine([str(CORPUS)]).rows if row["transport"] == "udp"]
    media = [row for row in rows if {31226, 31238} & {row["client_port"], row["server_port"]}]
    ends = {frozenset((row["client_ip"], row["server_ip"])) for row in media}
    assert ends == {frozenset((f"192.168.101.{phone}", "10.4.128.21")) for phone in (2, 3)}
    # Two packets come down to one phone before its base station has told its end of the tunnel.
    early = [row for row in media if row["qos_class"] is None]
    assert sum(row["packets_up"] + row["packets_down"] for row in early) == 2
    assert {row["qos_class"] for row in media if row not in early} == {1}
    located = [row for row in media if row["cell_id"] is not None]
    assert {row["cell_id"] for row in located} == {"001-01-000019C"}
    # tshark tells 27 packets each way of each phone, each at two to four hops.
    assert sum(row["packets_up"] + row["packets_down"] for row in media) == 4 * 27
    assert {row["subscriber_source"] for row in media} == {"address"}
