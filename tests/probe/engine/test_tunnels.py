"""What the headers of tunnels tell: numbers, delays that the RAN reports, and round trips on N3."""

import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from scapy.contrib.gtp import GTP_U_Header, GTPPDUSessionContainer
from scapy.layers.inet import IP, UDP
from scapy.packet import Packet

from tests.probe.engine.conftest import Result, Run, run_engine
from tests.probe.engine.packets import MINUTE, MS, SECOND, Capture, gtpu, ipv4, udp

GNB, UPF, CLIENT, FAR = "10.8.0.1", "10.9.0.1", "10.45.0.7", "192.0.2.1"
UP_TEID, DOWN_TEID = 0x1001, 0x2001
BUCKET_OF_12_MS = "112"  # floor(ln(12000 / 50) / ln 1.05)
RAN = {"ran_prefixes": ["10.8.0.0/16"]}


def numbered(number: int | None, teid: int, inner: bytes, **ends: str) -> bytes:
    """Return a G-PDU, with the S flag if it has a number (TS 29.281 5.1)."""
    fields = b"" if number is None else struct.pack(">HBB", number & 0xFFFF, 0, 0)
    flags = 0x30 if number is None else 0x32
    message = struct.pack(">BBHI", flags, 255, len(fields) + len(inner), teid) + fields + inner
    return ipv4(ends["source"], ends["destination"], 17, udp(2152, 2152, message))


_identification = iter(range(1, 1 << 16))


def payload(port: int, *, is_down: bool = False, size: int = 30) -> bytes:
    """Return a subscriber's datagram; each is another packet."""
    body = next(_identification).to_bytes(size, "big")
    if is_down:
        return ipv4(FAR, CLIENT, 17, udp(9999, port, body))
    return ipv4(CLIENT, FAR, 17, udp(port, 9999, body))


def up(number: int | None, port: int = 50000, teid: int = UP_TEID) -> bytes:
    return numbered(number, teid, payload(port), source=GNB, destination=UPF)


def down(number: int | None, port: int = 50000) -> bytes:
    return numbered(number, DOWN_TEID, payload(port, is_down=True), source=UPF, destination=GNB)


def capture_of(*packets: bytes, step_ns: int = MS) -> Capture:
    capture = Capture()
    for place, packet in enumerate(packets):
        capture.add(MINUTE + place * step_ns, packet)
    return capture


def tunnel(row: dict[str, Any], direction: str) -> list[int | None]:
    return [row[f"tunnel_{what}_{direction}"] for what in ("packets", "missing", "late")]


def paths_of(result: Result) -> dict[tuple[str, str], dict[str, Any]]:
    paths = [path for batch in result.batches for path in batch.paths]
    return {(path["source"], path["destination"]): path for path in paths}


def test_a_session_tells_what_its_tunnels_lost_by_direction(run: Run) -> None:
    result = run(capture_of(up(65534), down(7), up(65535), up(2), up(1), down(8)), **RAN)
    (row,) = result.rows
    assert tunnel(row, "up") == [4, 2, 1]
    assert tunnel(row, "down") == [2, 0, 0]
    paths = paths_of(result)
    assert paths[GNB, UPF]["tunnel_packets"] == 4
    assert (paths[GNB, UPF]["tunnel_missing"], paths[GNB, UPF]["tunnel_late"]) == (2, 1)
    assert paths[UPF, GNB]["tunnel_missing"] == 0


def test_without_numbers_nothing_is_said_of_loss(run: Run) -> None:
    result = run(capture_of(up(None), down(None)), **RAN)
    (row,) = result.rows
    assert tunnel(row, "up") == tunnel(row, "down") == [None] * 3
    assert row["ran_delay_source"] is None
    assert paths_of(result) == {}


def test_sessions_of_one_tunnel_share_its_numbers_and_lose_nothing_to_each_other(
    run: Run,
) -> None:
    result = run(capture_of(*(up(number, 50000 + number % 3) for number in range(9))), **RAN)
    assert [tunnel(row, "up") for row in result.rows] == [[3, 0, 0]] * 3


def test_a_handover_begins_numbers_anew_and_loses_nothing(run: Run) -> None:
    other = {"source": "10.8.0.2", "destination": UPF}
    moved = [numbered(number, UP_TEID, payload(50000), **other) for number in (0, 1, 2)]
    result = run(capture_of(up(500), up(501), *moved), **RAN)
    assert sum(row["tunnel_packets_up"] for row in result.rows) == 5
    assert sum(row["tunnel_missing_up"] for row in result.rows) == 0


def test_intervals_add_up_where_a_packet_comes_in_the_next(run: Run) -> None:
    capture = Capture()
    for time_ns, number in [(58 * SECOND, 1), (59 * SECOND, 3), (61 * SECOND, 2), (62 * SECOND, 4)]:
        capture.add(MINUTE + time_ns, up(number))
    first, second = run(capture, **RAN).rows
    assert (tunnel(first, "up"), tunnel(second, "up")) == ([1, 0, 0], [3, 1, 1])


def test_numbers_that_are_no_count_tell_of_no_loss(run: Run) -> None:
    """Some senders set the S flag and write what they like."""
    random = [up(number * 40503 & 0xFFFF) for number in range(300)]
    result = run(capture_of(*random), **RAN)
    assert sum(row["tunnel_missing_up"] or 0 for row in result.rows) < 100
    assert result.counters["tunnel_numbers_disordered"] > 200


def test_what_a_mirror_shows_twice_counts_once(run: Run) -> None:
    """Both a doubled packet, and one that is shown in the tunnels before and behind a gateway."""
    capture = Capture()
    for number in range(20):
        inner = payload(50000)
        first = numbered(number, UP_TEID, inner, source=GNB, destination=UPF)
        behind = numbered(number + number // 2, 7, inner, source=UPF, destination="10.9.0.2")
        for place, packet in enumerate((first, first, behind)):
            capture.add(MINUTE + number * MS + place * 1000, packet)
    result = run(capture, limits={"copies": 4096}, **RAN)
    (row,) = result.rows
    assert tunnel(row, "up") == [20, 0, 0]
    paths = paths_of(result)
    assert paths[GNB, UPF]["tunnel_packets"] == 20
    # The second tunnel has numbers of its own, and lost every third packet.
    assert (paths[UPF, "10.9.0.2"]["tunnel_packets"], paths[UPF, "10.9.0.2"]["tunnel_missing"]) == (
        20,
        9,
    )


# ------------------------------------------------------------------------------ PDU sessions


def stamp(ms: float) -> int:
    """Return a time in NTP's format (RFC 5905 6)."""
    return round(ms * (1 << 32) / 1000)


def container(**fields: int) -> Packet:
    """Return a PDU session container as scapy makes it: an implementation that is not ours."""
    return GTPPDUSessionContainer(QFI=9, **fields)


def in_session(container: Packet, *, is_down: bool = False) -> bytes:
    ends = (UPF, GNB, DOWN_TEID) if is_down else (GNB, UPF, UP_TEID)
    inner = IP(payload(50000, is_down=is_down))
    header = GTP_U_Header(teid=ends[2], gtp_type=255, E=1, next_ex=0x85)
    outer = IP(src=ends[0], dst=ends[1], id=1) / UDP(sport=2152, dport=2152)
    return bytes(outer / header / container / inner)


def monitored(
    rtt_ms: float = 8, at_gnb_ms: float = 30, down_ms: int = 12, up_ms: int = 15
) -> Capture:
    """Return a packet down and the one up that answers its stamps; the gNB's clock is its own."""
    capture = Capture()
    sent, its_own = stamp(3.9e12), stamp(77_000)
    capture.add(MINUTE, in_session(container(type=0, QMP=1, dlSendTime=sent), is_down=True))
    answer = container(
        type=1, QMP=1, dlDelayInd=1, ulDelayInd=1, dlSendTimeRpt=sent, dlRecvTime=its_own,
        ulSendTime=its_own + stamp(at_gnb_ms), dlDelayRslt=down_ms, ulDelayRslt=up_ms,
    )  # fmt: skip
    capture.add(MINUTE + round((rtt_ms + at_gnb_ms) * MS), in_session(answer))
    return capture


def test_qos_monitoring_is_a_second_witness_of_the_rans_delay(run: Run) -> None:
    result = run(monitored())
    (row,) = result.rows
    assert row["ran_delay_source"] == "qos_monitoring"
    assert (row["ran_delay_down_samples"], row["ran_delay_up_samples"]) == (1, 1)
    assert row["ran_delay_down_median_us"] == pytest.approx(12_000, rel=0.002)
    assert row["ran_delay_up_median_us"] == pytest.approx(15_000, rel=0.002)
    assert row["ran_delay_down_histogram"] == {BUCKET_OF_12_MS: 1}
    assert row["n3_rtt_median_us"] == pytest.approx(8000, rel=0.002)
    path = paths_of(result)[UPF, GNB]
    assert (path["n3_rtt_samples"], path["rtt_samples"]) == (1, 0)
    assert path["n3_rtt_sum_us"] == pytest.approx(8000, abs=1)
    assert row["client_ip"] == CLIENT


def test_delays_that_cannot_be_are_counted_and_not_told(run: Run) -> None:
    result = run(monitored(down_ms=0xFFFFFFFF, up_ms=10_001, at_gnb_ms=30, rtt_ms=-20))
    (row,) = result.rows
    assert row["ran_delay_source"] is None
    assert (row["n3_rtt_samples"], row["ran_delay_up_samples"]) == (None, None)
    assert result.counters["qos_monitoring_implausible"] == 3
    assert (row["packets_up"], row["packets_down"]) == (1, 1)


def test_numbers_of_qos_flows_tell_of_loss_too(run: Run) -> None:
    flow = [in_session(container(type=1, SNP=1, UlQFISeqNum=n)) for n in (0xFFFFFE, 0xFFFFFF, 2, 3)]
    (row,) = run(capture_of(*flow)).rows
    assert tunnel(row, "up") == [4, 2, 0]


def test_a_container_that_ends_early_is_counted_and_its_packet_is_read(run: Run) -> None:
    inner = payload(50000)
    extension = bytes([0, 0, 0, 0x85, 1, 0x1F, 9, 0])
    message = struct.pack(">BBHI", 0x34, 255, 8 + len(inner), UP_TEID) + extension + inner
    result = run(capture_of(ipv4(GNB, UPF, 17, udp(2152, 2152, message))))
    (row,) = result.rows
    assert (row["packets_up"], row["qfi"], row["ran_delay_source"]) == (1, 9, None)
    assert result.counters["pdu_sessions_malformed"] == 1


def test_tshark_sees_the_same_flow_and_number(run: Run, tmp_path: Path) -> None:
    """tshark 4.0 tells PDU type, QFI and the tunnel's number, but no stamp or delay."""
    capture = monitored()
    capture.add(MINUTE + SECOND, up(4711))
    file = tmp_path / "tunnels.pcap"
    file.write_bytes(capture.pcap())
    names = ["gtp.ext_hdr.pdu_ses_con.pdu_type", "gtp.ext_hdr.pdu_ses_con.qos_flow_id"]
    names += ["gtp.seq_number", "gtp.teid", "_ws.malformed"]
    fields = [part for name in names for part in ("-e", name)]
    command = ["tshark", "-r", str(file), "-T", "fields", "-E", "separator=;", *fields]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert [line.split(";")[:2] for line in told] == [["0", "9"], ["1", "9"], ["", ""]]
    assert told[2].split(";")[2] in ("4711", "0x1267")
    assert not any(line.split(";")[4] for line in told)
    result = run(capture)
    assert {row["qfi"] for row in result.rows} == {9}
    assert paths_of(result)[GNB, UPF]["tunnel_packets"] == 1


CORPORA = Path(__file__).parents[4] / "shared/corpora/dev"


def classes_on_n2(file: Path) -> set[tuple[int, int]]:
    """Return QFI and 5QI of the QoS flows that N2 sets up, as tshark reads it."""
    command = ["tshark", "-r", str(file), "-Y", "ngap.fiveQI", "-T", "fields"]
    command += ["-e", "ngap.qosFlowIdentifier", "-e", "ngap.fiveQI"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {(int(qfi), int(five_qi)) for qfi, five_qi in map(str.split, told.splitlines())}


@pytest.mark.skipif(not CORPORA.exists(), reason="the reference captures are not here")
@pytest.mark.parametrize("name", ["open5gs--testregistration.pcapng", "5greplay--oai.pcap"])
def test_a_qos_flow_has_the_class_that_n2_told_of_it(name: str) -> None:
    rows = [row for row in run_engine([str(CORPORA / name)]).rows if row["qfi"] is not None]
    told = {(row["qfi"], row["qos_class"]) for row in rows if row["qos_class"] is not None}
    assert told == classes_on_n2(CORPORA / name)
    # Flows under way before N2 told of their session, or after it ended, have none.
    assert sum(row["qos_class"] is not None for row in rows) >= 0.9 * len(rows)


# ------------------------------------------------------------------------------ signals


def error_indication(teid: int, node: str, source: str) -> bytes:
    """Return an Error Indication of `source` about an end of `node` (TS 29.281 7.3.1)."""
    address = bytes(map(int, node.split(".")))
    body = struct.pack(">BIBH", 16, teid, 133, 4) + address
    message = struct.pack(">BBHIHBB", 0x32, 26, 4 + len(body), 0, 0, 0, 0) + body
    return ipv4(source, UPF, 17, udp(2152, 2152, message))


def test_an_error_indication_is_counted_on_its_path(run: Run) -> None:
    result = run(capture_of(up(1), error_indication(DOWN_TEID, GNB, GNB)), **RAN)
    assert paths_of(result)[GNB, UPF]["error_indications"] == 1


def test_an_echo_in_time_tells_the_round_trip_of_its_path(run: Run) -> None:
    echo = struct.pack(">BBHIHBB", 0x32, 1, 4, 0, 77, 0, 0)
    answer = struct.pack(">BBHIHBBBB", 0x32, 2, 6, 0, 77, 0, 0, 14, 0)
    capture = Capture()
    capture.add(MINUTE, ipv4(UPF, GNB, 17, udp(2152, 2152, echo)))
    capture.add(MINUTE + 3 * MS, ipv4(GNB, UPF, 17, udp(2152, 2152, answer)))
    path = paths_of(run(capture))[UPF, GNB]
    assert (path["rtt_min_us"], path["rtt_samples"], path["echo_unanswered"]) == (3000, 1, 0)
    assert path["n3_rtt_samples"] == 0


def test_a_packet_in_a_subscribers_tunnel_is_not_a_signal_of_the_network(run: Run) -> None:
    """It is a packet of the subscriber, and ends nothing: see the tests of the control plane."""
    forged = error_indication(DOWN_TEID, GNB, CLIENT)
    result = run(capture_of(gtpu(GNB, UPF, UP_TEID, forged)), **RAN)
    (row,) = result.rows
    assert (row["client_ip"], row["server_port"]) == (CLIENT, 2152)
    assert all(path["error_indications"] == 0 for path in paths_of(result).values())
