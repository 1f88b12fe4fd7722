"""The simulator keeps its promises: same seed same bytes, and labels that hold on the wire."""

import argparse
import csv
import ipaddress
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.utils import RawPcapReader

from probe.errors import ConfigError, ProbeError
from probe.simulate import add_arguments, run

OPTIONS = ["--duration", "60s", "--subscribers", "32"]
ETHERNET, GTPU_OUTER = 14, 14 + 20 + 8
Row = dict[str, Any]


def simulate(output: Path, *options: str) -> Path:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args([str(output), *OPTIONS, *options])) == 0
    return output


def truth_of(capture: Path) -> Row:
    truth: Row = json.loads(capture.with_suffix(".truth.json").read_text())
    return truth


def map_of(capture: Path) -> list[Row]:
    with capture.with_suffix(".map.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def sgi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("sgi") / "sgi.pcap")


@pytest.fixture(scope="module")
def s1u(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("s1u") / "s1u.pcap", "--view", "s1u")


@pytest.fixture(scope="module", params=["sgi", "s1u"])
def capture(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


# ------------------------------------------------------------------------------------ the files


def test_the_same_seed_gives_the_same_bytes(sgi: Path, tmp_path: Path) -> None:
    again = simulate(tmp_path / "sgi.pcap")
    for suffix in (".pcap", ".truth.json", ".map.csv"):
        assert again.with_suffix(suffix).read_bytes() == sgi.with_suffix(suffix).read_bytes()


def test_another_seed_gives_other_traffic(sgi: Path, tmp_path: Path) -> None:
    other = simulate(tmp_path / "sgi.pcap", "--seed", "2")
    assert other.read_bytes() != sgi.read_bytes()


def test_both_views_show_the_same_traffic(sgi: Path, s1u: Path) -> None:
    assert truth_of(sgi)["sessions"] == truth_of(s1u)["sessions"]


def test_packets_are_in_time_order_and_start_when_asked(tmp_path: Path) -> None:
    capture = simulate(tmp_path / "x.pcap", "--start", "2026-03-01T00:00:00Z", "--duration", "5s")
    times = [meta.sec * 1_000_000 + meta.usec for _, meta in RawPcapReader(str(capture))]
    start_us = 1_772_323_200_000_000
    assert times == sorted(times)
    assert start_us <= times[0] and times[-1] < start_us + 5_000_000


def test_a_snap_length_cuts_packets_but_keeps_their_length(tmp_path: Path) -> None:
    capture = simulate(tmp_path / "x.pcap", "--snap-length", "96", "--duration", "20s")
    metas = [meta for _, meta in RawPcapReader(str(capture))]
    truth = truth_of(capture)["totals"]
    assert max(meta.caplen for meta in metas) == 96
    lengths = sum(meta.wirelen - ETHERNET for meta in metas)
    assert lengths == truth["bytes_up"] + truth["bytes_down"]


# ----------------------------------------------------------------------------------- the labels


def inner_packets(capture: Path) -> Iterator[bytes]:
    """Yield the subscribers' IP packets."""
    in_tunnel = truth_of(capture)["view"] == "s1u"
    for frame, _ in RawPcapReader(str(capture)):
        if not in_tunnel:
            yield frame[ETHERNET:]
        else:
            extended = frame[GTPU_OUTER] & 0x07
            yield frame[GTPU_OUTER + 8 + (8 if extended else 0) :]


def wire_length(packet: bytes) -> int:
    if packet[0] >> 4 == 4:
        return int.from_bytes(packet[2:4], "big")
    return 40 + int.from_bytes(packet[4:6], "big")


def test_bytes_and_packets_equal_the_capture(capture: Path) -> None:
    totals = truth_of(capture)["totals"]
    lengths = [wire_length(packet) for packet in inner_packets(capture)]
    assert len(lengths) == totals["packets_up"] + totals["packets_down"]
    assert sum(lengths) == totals["bytes_up"] + totals["bytes_down"]


def test_sums_of_cells_and_subscribers_equal_the_totals(sgi: Path) -> None:
    truth = truth_of(sgi)
    for name in ("sessions", "failures", "bytes_up", "bytes_down", "lost_after_tap_down"):
        assert sum(cell[name] for cell in truth["cells"]) == truth["totals"][name]
        assert sum(user[name] for user in truth["subscribers"]) == truth["totals"][name]


def test_every_kind_of_failure_comes_up(sgi: Path) -> None:
    assert set(truth_of(sgi)["totals"]["failure_causes"]) == {
        "connect_refused",
        "connect_timeout",
        "dns_servfail",
        "dns_timeout",
        "reset_by_server",
        "tls_no_common_cipher",
        "tls_unknown_name",
        "tls_version_unsupported",
    }
    assert truth_of(sgi)["totals"]["dns_rcodes"]["3"] > 0


def test_only_the_bad_cell_is_far_and_lossy(sgi: Path) -> None:
    for cell in truth_of(sgi)["cells"]:
        median_us = cell["handshake_rtt_client_us"]["median"]
        loss = cell["lost_after_tap_down"] / cell["packets_down"]
        if cell["bad"]:
            assert 250_000 <= median_us <= 440_000
            assert 0.03 < loss < 0.09
        else:
            assert 30_000 <= median_us <= 66_000


def test_only_the_bad_subscriber_fails_most_connects(sgi: Path) -> None:
    for user in truth_of(sgi)["subscribers"]:
        connects = user["sessions_by_transport"].get("tcp", 0)
        timeouts = user["failure_causes"].get("connect_timeout", 0)
        assert (timeouts > connects / 2) == user["bad"]


def test_no_faults_are_planted_where_none_are_wanted(tmp_path: Path) -> None:
    capture = simulate(tmp_path / "x.pcap", "--bad-cell", "0", "--bad-subscriber", "0")
    assert truth_of(capture)["bad_cells"] == truth_of(capture)["bad_subscribers"] == []


# -------------------------------------------------------------------------------- the map


def test_the_map_names_the_owner_of_every_session_by_address(sgi: Path) -> None:
    owners = [(ipaddress.ip_network(row["client_prefix"]), row) for row in map_of(sgi)]
    for session in truth_of(sgi)["sessions"]:
        address = ipaddress.ip_address(session["client_ip"])
        found = [row for prefix, row in owners if address in prefix]
        assert [(row["subscriber"], row["cell_id"]) for row in found] == [
            (session["subscriber"], session["cell_id"])
        ]


def test_the_map_names_every_tunnel_by_teid_and_receiver(s1u: Path) -> None:
    mapped = {(int(row["teid"]), row["gtpu_address"]) for row in map_of(s1u)}
    seen = {
        (
            int.from_bytes(frame[GTPU_OUTER + 4 : GTPU_OUTER + 8], "big"),
            str(ipaddress.IPv4Address(frame[30:34])),
        )
        for frame, _ in RawPcapReader(str(s1u))
    }
    assert seen == mapped


# ----------------------------------------------------------------------------- Wireshark's view


@pytest.fixture(scope="module")
def tshark(tool: Callable[[str], str]) -> Callable[..., list[list[str]]]:
    """Return a function that asks tshark for fields of the packets that match a filter."""
    program = tool("tshark")

    def ask(capture: Path, display_filter: str, *fields: str) -> list[list[str]]:
        command = [program, "-n", "-r", str(capture), "-Y", display_filter, "-T", "fields"]
        # Reassembly of streams would call every retransmission "malformed".
        command += ["-o", "tcp.desegment_tcp_streams:FALSE", "-o", "tcp.check_checksum:TRUE"]
        command += [option for field in fields for option in ("-e", field)]
        output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240)
        return [line.split("\t") for line in output.stdout.splitlines()]

    return ask


Tshark = Callable[..., list[list[str]]]


def test_tshark_finds_nothing_malformed(capture: Path, tshark: Tshark) -> None:
    bad = "_ws.malformed || tcp.checksum.status == 0 || udp.checksum.status == 0"
    assert tshark(capture, bad, "frame.number", "_ws.expert.message") == []


def test_tshark_sees_the_labelled_initial_rtt(capture: Path, tshark: Tshark) -> None:
    seen = {
        int(port): float(rtt) * 1e6
        for port, rtt in tshark(
            capture, "tcp.analysis.initial_rtt && tcp.dstport == 443", "tcp.srcport",
            "tcp.analysis.initial_rtt",
        )
    }  # fmt: skip
    sessions = [
        session
        for session in truth_of(capture)["sessions"]
        if session["handshake_rtt_client_us"] and session["handshake_rtt_server_us"]
    ]
    ports = Counter(session["client_port"] for session in sessions)
    compared = [session for session in sessions if ports[session["client_port"]] == 1]
    assert len(compared) > 100
    for session in compared:
        total = session["handshake_rtt_client_us"] + session["handshake_rtt_server_us"]
        assert seen[session["client_port"]] == pytest.approx(total, rel=0.01, abs=1_000)


def test_tshark_reads_the_labelled_server_names(capture: Path, tshark: Tshark) -> None:
    hellos = "tls.handshake.type == 1 && !tcp.analysis.retransmission"
    names = Counter(
        name
        for (name,) in tshark(capture, hellos, "tls.handshake.extensions_server_name")
    )  # fmt: skip
    labelled = Counter(
        session["server_name"]
        for session in truth_of(capture)["sessions"]
        if session["server_name"]
    )
    assert names == labelled


def test_tshark_sees_retransmissions_in_the_bad_cell(sgi: Path, tshark: Tshark) -> None:
    addresses = tshark(sgi, "tcp.analysis.retransmission && ip.dst == 100.64.0.0/10", "ip.dst")
    seen = {address for (address,) in addresses}
    cells = {session["client_ip"]: session for session in truth_of(sgi)["sessions"]}
    (bad_cell,) = truth_of(sgi)["bad_cells"]
    bad = [address for address in seen if cells[address]["cell_id"] == bad_cell]
    assert len(bad) >= 3


# -------------------------------------------------------------------------- wrong use


def test_all_wrong_options_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        simulate(
            tmp_path / "x.pcap",
            "--cells",
            "2",
            "--bad-cell",
            "3",
            "--duration",
            "5",
            "--start",
            "x",
        )
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "--bad-cell",
        "--duration",
        "--start",
    ]


def test_a_directory_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="cannot be written"):
        simulate(tmp_path / "missing" / "x.pcap")


def test_declaring_the_command_does_not_import_scapy() -> None:
    code = "import sys, probe.simulate; sys.exit('scapy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
