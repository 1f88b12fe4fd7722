"""The simulated control plane: its messages dissect cleanly, and say what the truth file says."""

import argparse
import ipaddress
import json
import struct
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from scapy.contrib.gtp_v2 import GTPHeader
from scapy.contrib.pfcp import PFCP
from scapy.layers.radius import Radius
from scapy.utils import RawPcapReader

from probe.errors import ConfigError
from probe.simulate import add_arguments, run

VIEWS = ("s1u+s11+s1ap", "n3+n4+n2", "sgi+radius")
OPTIONS = ["--duration", "40s", "--subscribers", "60", "--cells", "12", "--handovers", "40"]
ETHERNET, GTPU_OUTER = 14, 14 + 20 + 8
GTPU_PORT, GPDU, END_MARKER = 2152, 255, 254
Row = dict[str, Any]


def simulate(output: Path, view: str, *options: str) -> Path:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = [str(output), "--view", view, "--pause", "3s", *OPTIONS, *options]
    assert run(parser.parse_args(arguments)) == 0
    return output


def truth_of(capture: Path) -> Row:
    truth: Row = json.loads(capture.with_suffix(".truth.json").read_text())
    return truth


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("control")
    return {view: simulate(directory / f"{view}.pcap", view) for view in VIEWS}


@pytest.fixture(scope="module")
def truths(captures: dict[str, Path]) -> dict[str, Row]:
    return {view: truth_of(path) for view, path in captures.items()}


# ------------------------------------------------------------------------------------- the files


def test_the_same_seed_gives_the_same_bytes(captures: dict[str, Path], tmp_path: Path) -> None:
    for view in VIEWS:
        again = simulate(tmp_path / "again.pcap", view)
        for suffix in (".pcap", ".truth.json"):
            first = captures[view].with_suffix(suffix).read_bytes()
            assert again.with_suffix(suffix).read_bytes() == first


def test_all_views_show_the_same_user_traffic(truths: dict[str, Row]) -> None:
    """Only what cells and tunnels are called differs."""
    place = ("cell_id", "carried")
    traffic = [
        [{k: v for k, v in row.items() if k not in place} for row in truth["sessions"]]
        for truth in truths.values()
    ]
    volumes = [
        [[(c["stay"], c["bytes_up"], c["bytes_down"]) for c in row["carried"]]
         for row in truth["sessions"]]
        for truth in truths.values()
    ]  # fmt: skip
    assert traffic[0] == traffic[1] == traffic[2]
    assert volumes[0] == volumes[1] == volumes[2]


def test_no_map_is_written_where_the_control_plane_says_who_is_who(
    captures: dict[str, Path],
) -> None:
    assert not any(path.with_suffix(".map.csv").exists() for path in captures.values())


# ------------------------------------------------------- each byte at the cell that carried it


class Frame(NamedTuple):
    time_us: int
    source: str
    destination: str
    protocol: int
    payload: bytes


def frames(capture: Path) -> Iterator[Frame]:
    for data, meta in RawPcapReader(str(capture)):
        if data[12:14] != b"\x08\x00":
            yield Frame(meta.sec * 10**6 + meta.usec, "", "", 41, data[ETHERNET:])
            continue
        ends = (str(ipaddress.IPv4Address(data[at : at + 4])) for at in (26, 30))
        yield Frame(meta.sec * 10**6 + meta.usec, *ends, data[23], data[ETHERNET:])


def tunnelled(capture: Path) -> Iterator[tuple[Frame, int, int, bytes]]:
    """Yield (outer, message type, TEID, inner packet) of GTP-U."""
    for frame in frames(capture):
        body = frame.payload[20:]
        if frame.protocol == 17 and struct.unpack("!H", body[2:4])[0] == GTPU_PORT:
            flags, kind, _, teid = struct.unpack("!BBHI", body[8:16])
            yield frame, kind, teid, body[16 + (8 if flags & 0x07 else 0) :]


class Stays:
    """The truth's stays, found by tunnel end or device address, and time."""

    def __init__(self, truth: Row) -> None:
        self._found: dict[tuple[str, int | str], list[tuple[Row, Row]]] = defaultdict(list)
        for attachment in truth["attachments"]:
            for stay in attachment["stays"]:
                row = (attachment, stay)
                self._found[stay["gateway_address"], stay["teid_up"]].append(row)
                self._found[stay["node_address"], stay["teid_down"]].append(row)
                self._found["device", attachment["client_ipv4"]].append(row)
                self._found["device", str(attachment["client_ipv6_prefix"])].append(row)

    def at(self, place: str, key: int | str, time_us: int) -> tuple[Row, Row]:
        """Return the one stay that a packet belongs to."""
        fits = [
            row
            for row in self._found[place, key]
            if row[1]["start_time"] <= 1000 * time_us
            and (row[1]["end_time"] is None or 1000 * time_us <= row[1]["end_time"])
        ]
        # A time at which one stay ends and the next begins belongs to both.
        assert fits, (place, key, time_us)
        return fits[-1]


def client_key(packet: bytes, up: bool) -> str:
    """Return the device's IPv4 address, or its IPv6 prefix."""
    if packet[0] >> 4 == 4:
        return str(ipaddress.IPv4Address(packet[12:16] if up else packet[16:20]))
    address = packet[8:24] if up else packet[24:40]
    return f"{ipaddress.IPv6Address(address[:8] + bytes(8))}/64"


def length_of(packet: bytes) -> int:
    if packet[0] >> 4 == 4:
        return int.from_bytes(packet[2:4], "big")
    return 40 + int.from_bytes(packet[4:6], "big")


@pytest.mark.parametrize("view", ["s1u+s11+s1ap", "n3+n4+n2"])
def test_each_tunnelled_byte_is_labelled_with_the_tunnel_it_was_in(
    view: str, captures: dict[str, Path], truths: dict[str, Row]
) -> None:
    stays, seen = Stays(truths[view]), Counter[tuple[int, int, bool]]()
    for frame, kind, teid, packet in tunnelled(captures[view]):
        if kind == GPDU:
            attachment, stay = stays.at(frame.destination, teid, frame.time_us)
            up = frame.destination == stay["gateway_address"]
            other = stay["node_address"] if up else stay["gateway_address"]
            assert frame.source == other
            address = client_key(packet, up)
            assert address in (attachment["client_ipv4"], attachment["client_ipv6_prefix"])
            seen[stay["attachment"], stay["stay"], up] += length_of(packet)
    assert seen == labelled_bytes(truths[view])


def test_each_plain_byte_is_labelled_with_the_cell_of_its_address_then(
    captures: dict[str, Path], truths: dict[str, Row]
) -> None:
    truth = truths["sgi+radius"]
    stays, total = Stays(truth), 0
    for frame in frames(captures["sgi+radius"]):
        packet = frame.payload
        up = client_key(packet, True).startswith(("100.64.", "2001:db8:64:"))
        key = client_key(packet, up)
        if key.startswith(("100.64.", "2001:db8:64:")):
            stays.at("device", key, frame.time_us)
            total += length_of(packet)
    assert total == sum(labelled_bytes(truth).values())


def labelled_bytes(truth: Row) -> Counter[tuple[int, int, bool]]:
    found = Counter[tuple[int, int, bool]]()
    for attachment in truth["attachments"]:
        for row in attachment["stays"]:
            for up, name in ((True, "bytes_up"), (False, "bytes_down")):
                if row[name]:
                    found[row["attachment"], row["stay"], up] = row[name]
    return found


def test_the_shares_of_sessions_add_up(truths: dict[str, Row]) -> None:
    for truth in truths.values():
        sums = Counter[tuple[int, int, bool]]()
        for session in truth["sessions"]:
            for way in ("up", "down"):
                shares = [share[f"bytes_{way}"] for share in session["carried"]]
                assert sum(shares) == session[f"bytes_{way}"]
            for share in session["carried"]:
                key = (share["attachment"], share["stay"])
                sums[*key, True] += share["bytes_up"]
                sums[*key, False] += share["bytes_down"]
        assert +sums == labelled_bytes(truth)


def test_flows_are_handed_over_in_their_middle(truths: dict[str, Row]) -> None:
    moved = [
        row
        for row in truths["s1u+s11+s1ap"]["sessions"]
        if len({share["cell_id"] for share in row["carried"]}) > 1
    ]
    assert len(moved) >= 15


def test_an_end_marker_closes_the_old_tunnel_of_a_move(
    captures: dict[str, Path], truths: dict[str, Row]
) -> None:
    truth = truths["s1u+s11+s1ap"]
    markers = [
        (frame.destination, teid, 1000 * frame.time_us)
        for frame, kind, teid, _ in tunnelled(captures["s1u+s11+s1ap"])
        if kind == END_MARKER
    ]
    ended = {
        (stay["node_address"], stay["teid_down"], stay["end_time"])
        for attachment in truth["attachments"]
        for stay in attachment["stays"]
    }
    assert len(markers) == truth["handovers"] > 30
    assert ended.issuperset(markers)


def test_addresses_and_tunnels_go_to_others_once_they_are_free(truths: dict[str, Row]) -> None:
    owners: dict[Any, set[str]] = defaultdict(set)
    for attachment in truths["s1u+s11+s1ap"]["attachments"]:
        if attachment["stays"]:
            owners[attachment["client_ipv4"]].add(attachment["subscriber"])
        for row in attachment["stays"]:
            for end in ("gateway_address", "teid_up"), ("node_address", "teid_down"):
                owners[row[end[0]], row[end[1]]].add(attachment["subscriber"])
    shared = Counter(type(key) for key, subscribers in owners.items() if len(subscribers) > 1)
    assert shared[str] > 5 and shared[tuple] > 10


# ---------------------------------------------------------------------------------------- faults


def test_every_kind_of_answer_comes_up(truths: dict[str, Row]) -> None:
    causes: dict[str, set[Any]] = defaultdict(set)
    repeated = set()
    for truth in truths.values():
        for row in truth["signalling"]:
            causes[row["interface"]].add((row["result"], row["cause"]))
            if row["transmissions"] == 2 and row["result"] == "accepted":
                repeated.add(row["interface"])
    none = ("unanswered", None)
    assert {("accepted", 16), ("refused", 73), ("refused", 78), none} <= causes["s11"]
    assert {("accepted", 1), ("refused", 75), ("refused", 64), none} <= causes["n4"]
    assert {("accepted", 2), ("accepted", 5), ("refused", 3), none} <= causes["radius"]
    assert {("accepted", None), ("refused", 25), ("told", None)} <= causes["s1ap"]
    assert {("accepted", None), ("refused", 25), ("told", None)} <= causes["n2"]
    assert repeated == {"s11", "n4", "radius"}


def test_a_wrong_apn_is_refused_and_the_right_one_is_not(truths: dict[str, Row]) -> None:
    created = [
        row for row in truths["s1u+s11+s1ap"]["signalling"] if row["procedure"] == "create_session"
    ]
    wrong = [row for row in created if row["apn"] == "internett"]
    assert wrong and {row["cause"] for row in wrong} <= {78, None}
    assert not [row for row in created if row["apn"] == "internet" and row["cause"] == 78]


def test_a_restart_ends_the_sessions_of_one_gateway(truths: dict[str, Row]) -> None:
    ended = [a for a in truths["n3+n4+n2"]["attachments"] if a["end_reason"] == "restart"]
    gateways = {row["gateway_address"] for a in ended for row in a["stays"]}
    assert len(ended) > 20 and gateways == {"10.30.0.2"}
    assert len({a["end_time"] for a in ended}) == 1


def test_an_old_device_is_turned_away_by_most_servers(truths: dict[str, Row]) -> None:
    truth = truths["sgi+radius"]
    (old,) = [row["subscriber"] for row in truth["identities"] if row["old_device"]]
    causes = [
        row["failure_cause"]
        for row in truth["sessions"]
        if row["subscriber"] == old and row["transport"] == "tcp"
    ]
    assert causes.count("tls_version_unsupported") > len(causes) / 2 > 1


def test_devices_of_the_congested_cell_wait_for_each_other(truths: dict[str, Row]) -> None:
    """Its handshakes take longer than its radio alone would make them."""
    spread = {True: [], False: []}  # type: dict[bool, list[float]]
    for cell in truths["s1u+s11+s1ap"]["cells"]:
        if not cell["bad"]:
            slowest_us = cell["handshake_rtt_client_us"]["max"]
            spread[cell["congested"]].append(slowest_us / cell["rtt_client_us"])
    assert min(spread[True]) > 3 > sorted(spread[False])[len(spread[False]) // 2]


def test_the_bad_server_is_far_for_everyone(truths: dict[str, Row]) -> None:
    truth = truths["n3+n4+n2"]
    far: dict[bool, list[int]] = {True: [], False: []}
    for row in truth["sessions"]:
        if row["handshake_rtt_server_us"] is not None:
            is_bad = row["server_name"] == truth["bad_server"]
            far[is_bad].append(row["handshake_rtt_server_us"])
    assert len(far[True]) > 10
    assert min(far[True]) > 300_000 > max(far[False])


def test_what_is_skipped_leaves_sessions_that_began_unseen(tmp_path: Path) -> None:
    capture = simulate(tmp_path / "x.pcap", "s1u+s11", "--skip", "15s", "--restarts", "0")
    truth = truth_of(capture)
    first = next(frames(capture))
    assert first.time_us * 1000 >= truth["start_time"] + 15 * 10**9
    hidden = [a for a in truth["attachments"] if not a["start_shown"]]
    assert sum(row["bytes_down"] for a in hidden for row in a["stays"]) > 1_000_000
    packets = sum(kind == GPDU for _, kind, *_ in tunnelled(capture))
    totals = truth["totals"]
    assert packets == totals["packets_up"] + totals["packets_down"]
    labelled = sum(labelled_bytes(truth).values())
    assert labelled == totals["bytes_up"] + totals["bytes_down"]


# ----------------------------------------------------------------------------- tshark reads it


@pytest.fixture(scope="module")
def tshark(tool: Callable[[str], str]) -> Callable[..., list[list[str]]]:
    program = tool("tshark")

    def ask(capture: Path, display_filter: str, *fields: str) -> list[list[str]]:
        command = [program, "-n", "-r", str(capture), "-Y", display_filter, "-T", "fields"]
        preferences = (
            "tcp.desegment_tcp_streams:FALSE",
            "udp.check_checksum:TRUE",
            "sctp.checksum:TRUE",
            "radius.shared_secret:shared secret",
            "radius.validate_authenticator:TRUE",
        )
        command += [option for text in preferences for option in ("-o", text)]
        command += [option for field in fields for option in ("-e", field)]
        output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240)
        return [line.split("\t") for line in output.stdout.splitlines()]

    return ask


Tshark = Callable[..., list[list[str]]]


@pytest.mark.parametrize("view", VIEWS)
def test_tshark_finds_nothing_malformed(
    view: str, captures: dict[str, Path], tshark: Tshark
) -> None:
    control = "(gtpv2 || pfcp || s1ap || ngap || radius || sctp || gtp.message != 255)"
    warning = "_ws.expert.severity >= 0x600000"
    checksum = "udp.checksum.status == 0 || sctp.checksum.status == 0"
    bad = f"_ws.malformed || {checksum} || radius.authenticator.invalid == 1"
    bad += f" || ({control} && {warning})"
    assert tshark(captures[view], bad, "frame.number", "_ws.expert.message") == []


def requests(truth: Row, interface: str, *procedures: str) -> list[Row]:
    """Return the transactions, as often as each was sent."""
    return [
        row
        for row in truth["signalling"]
        if row["interface"] == interface and row["procedure"] in procedures
        for _ in range(row["transmissions"])
    ]


def identity_of(truth: Row) -> dict[str, Row]:
    return {row["subscriber"]: row for row in truth["identities"]}


def number(cell_id: str) -> int:
    return int(cell_id.rpartition("-")[2], 16)


def test_tshark_reads_who_creates_a_session_where_on_s11(
    captures: dict[str, Path], truths: dict[str, Row], tshark: Tshark
) -> None:
    truth = truths["s1u+s11+s1ap"]
    people, sessions = identity_of(truth), truth["attachments"]
    fields = ("e212.imsi", "e164.msisdn", "gtpv2.mei", "gtpv2.apn", "gtpv2.ecgi_eci",
              "gtpv2.f_teid_gre_key")  # fmt: skip
    seen = tshark(captures["s1u+s11+s1ap"], "gtpv2.message_type == 32", *fields)
    wanted = [
        (people[row["subscriber"]], row, sessions[row["attachment"]])
        for row in requests(truth, "s11", "create_session")
    ]
    assert Counter(
        (imsi, msisdn, mei, apn.split(".")[0], int(eci, 0), int(teids.split(",")[0], 16))
        for imsi, msisdn, mei, apn, eci, teids in seen
    ) == Counter(
        (
            who["imsi"],
            who["msisdn"],
            who["imeisv"],
            row["apn"],
            number(row["cell_id"]),
            session["control"]["mme_teid"],
        )
        for who, row, session in wanted
    )


def test_tshark_reads_both_ends_of_each_tunnel_on_s11(
    captures: dict[str, Path], truths: dict[str, Row], tshark: Tshark
) -> None:
    capture, truth = captures["s1u+s11+s1ap"], truths["s1u+s11+s1ap"]
    accepted = "gtpv2.message_type == 33 && gtpv2.cause == 16"
    addresses = ("gtpv2.pdn_addr_and_prefix.ipv4", "gtpv2.f_teid_gre_key", "gtpv2.f_teid_ipv4")
    created = {
        (address.split(",")[0], int(teids.split(",")[2], 16), ends.split(",")[2])
        for address, teids, ends in tshark(capture, accepted, *addresses)
    }
    fields = ("gtpv2.ecgi_eci", "gtpv2.f_teid_gre_key", "gtpv2.f_teid_ipv4")
    modified = {
        (int(eci, 0), int(teid, 16), address)
        for eci, teid, address in tshark(capture, "gtpv2.message_type == 34", *fields)
    }
    for attachment in truth["attachments"]:
        for row in attachment["stays"]:
            up = (attachment["client_ipv4"], row["teid_up"], row["gateway_address"])
            assert up in created
            assert (number(row["cell_id"]), row["teid_down"], row["node_address"]) in modified


@pytest.mark.parametrize(
    ("view", "fields"),
    [
        ("s1u+s11+s1ap", ("s1ap.CellIdentity", "s1ap.gTP_TEID", "s1ap.transportLayerAddressIPv4")),
        ("n3+n4+n2", ("ngap.NRCellIdentity", "ngap.gTP_TEID", "ngap.TransportLayerAddressIPv4")),
    ],
)
def test_tshark_reads_the_target_of_each_path_switch(
    view: str,
    fields: tuple[str, str, str],
    captures: dict[str, Path],
    truths: dict[str, Row],
    tshark: Tshark,
) -> None:
    protocol = fields[0].partition(".")[0]
    code = 3 if protocol == "s1ap" else 25
    switch = f"{protocol}.procedureCode == {code} && {protocol}.initiatingMessage_element"
    seen = tshark(captures[view], switch, *fields)
    moves = requests(truths[view], "s1ap" if protocol == "s1ap" else "n2", "path_switch")
    assert [int(cell, 16) for cell, *_ in seen] == [number(move["cell_id"]) for move in moves]
    accepted = 0
    for (_, teid, address), move in zip(seen, moves, strict=True):
        if move["result"] == "accepted":
            stay = stay_from(truths[view]["attachments"][move["attachment"]], move)
            assert stay["cell_id"] == move["cell_id"]
            assert stay["teid_down"] == int(teid.replace(":", ""), 16)
            assert stay["node_address"] == address
            accepted += 1
    assert accepted >= 30


def stay_from(attachment: Row, move: Row) -> Row:
    """Return the stay that began while a move was under way."""
    start, end = move["start_time"], move["end_time"]
    (found,) = [row for row in attachment["stays"] if start <= row["start_time"] <= end]
    row: Row = found
    return row


def test_tshark_reads_who_and_which_tunnels_on_n4(
    captures: dict[str, Path], truths: dict[str, Row], tshark: Tshark
) -> None:
    capture, truth = captures["n3+n4+n2"], truths["n3+n4+n2"]
    fields = (
        "e212.imsi",
        "e164.msisdn",
        "pfcp.user_id.imei",
        "pfcp.apn_dnn",
        "pfcp.f_teid_flags.ch",
    )
    asked = tshark(capture, "pfcp.msg_type == 50", *fields)
    people = identity_of(truth)
    assert Counter((imsi, msisdn, dnn) for imsi, msisdn, _, dnn, _ in asked) == Counter(
        (people[row["subscriber"]]["imsi"], people[row["subscriber"]]["msisdn"], row["apn"])
        for row in requests(truth, "n4", "session_establishment")
    )
    assert {row[4] for row in asked} == {"1"}
    chosen = {
        (int(teid, 16), address)
        for teid, address in tshark(
            capture, "pfcp.msg_type == 51 && pfcp.cause == 1", "pfcp.f_teid.teid",
            "pfcp.f_teid.ipv4_addr",
        )
    }  # fmt: skip
    pointed = {
        (int(teid, 16), address)
        for teid, address in tshark(
            capture, "pfcp.outer_hdr_creation.teid", "pfcp.outer_hdr_creation.teid",
            "pfcp.outer_hdr_creation.ipv4",
        )
    }  # fmt: skip
    for attachment in truth["attachments"]:
        for row in attachment["stays"]:
            assert (row["teid_up"], row["gateway_address"]) in chosen
            assert (row["teid_down"], row["node_address"]) in pointed


def test_tshark_reads_where_each_device_registers_on_n2(
    captures: dict[str, Path], truths: dict[str, Row], tshark: Tshark
) -> None:
    truth = truths["n3+n4+n2"]
    seen = tshark(captures["n3+n4+n2"], "ngap.procedureCode == 15", "ngap.NRCellIdentity")
    told = requests(truth, "n2", "initial_ue_message")
    assert Counter(int(cell, 16) for (cell,) in seen) == Counter(
        number(row["cell_id"]) for row in told
    )


def test_tshark_reads_who_where_and_which_address_in_radius(
    captures: dict[str, Path], truths: dict[str, Row], tshark: Tshark
) -> None:
    truth = truths["sgi+radius"]
    people, sessions = identity_of(truth), truth["attachments"]
    seen = tshark(
        captures["sgi+radius"],
        "radius.code == 4 && e212.imsi",
        "radius.Acct_Status_Type",
        "e212.imsi",
        "radius.3GPP_IMEISV",
        "radius.Framed-IP-Address",
        "gtpv2.ecgi_eci",
    )
    status = {"accounting_start": "1", "accounting_interim": "3", "accounting_stop": "2"}
    assert Counter(
        (kind, imsi, imei, address, int(cell)) for kind, imsi, imei, address, cell in seen
    ) == Counter(
        (
            status[row["procedure"]],
            people[row["subscriber"]]["imsi"],
            people[row["subscriber"]]["imeisv"],
            sessions[row["attachment"]]["client_ipv4"],
            number(row["cell_id"]),
        )
        for row in requests(truth, "radius", *status)
    )


def test_tshark_sees_the_restart_counter_of_one_gateway_rise(
    captures: dict[str, Path], tshark: Tshark
) -> None:
    echoes = "gtpv2.message_type == 1"
    seen = tshark(captures["s1u+s11+s1ap"], echoes, "ip.src", "gtpv2.rec")
    assert seen == [["10.30.1.1", "1"], ["10.30.1.2", "1"], ["10.30.1.2", "2"]]


def test_nr_cells_may_be_told_by_radius(tmp_path: Path, tshark: Tshark) -> None:
    capture = simulate(tmp_path / "nr.pcap", "sgi+radius", "--rat", "nr", "--duration", "10s")
    assert tshark(capture, "_ws.malformed", "frame.number") == []
    cells = {row["cell_id"] for row in truth_of(capture)["cells"]}
    seen = tshark(capture, "radius && gtpv2.ncgi_nrci", "gtpv2.ncgi_nrci")
    found = {f"001-01-{int(text, 16):09X}" for (text,) in seen}
    assert found and found <= cells


# ------------------------------------------------------------------------------ scapy reads it


@pytest.mark.parametrize(
    ("view", "ports", "reader"),
    [
        ("s1u+s11+s1ap", {2123}, GTPHeader),
        ("n3+n4+n2", {8805}, PFCP),
        ("sgi+radius", {1812, 1813}, Radius),
    ],
)
def test_scapy_writes_the_same_bytes_for_what_it_reads(
    view: str, ports: set[int], reader: Callable[[bytes], Any], captures: dict[str, Path]
) -> None:
    messages: dict[tuple[int, int], bytes] = {}  # one of each type and length
    for frame in frames(captures[view]):
        body = frame.payload[20:]
        if frame.protocol == 17 and ports & set(struct.unpack("!HH", body[:4])):
            messages[body[8 + (0 if view == "sgi+radius" else 1)], len(body)] = body[8:]
    assert len(messages) >= 10
    for message in messages.values():
        packet = reader(message)
        assert not packet.haslayer("Raw")
        packet.clear_cache()
        assert bytes(packet) == message


# --------------------------------------------------------------------------------- wrong use


def test_options_of_the_control_plane_are_refused_without_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        simulate(tmp_path / "x.pcap", "sgi", "--skip", "1s")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "--handovers",
        "--skip",
    ]


def test_a_server_that_does_not_exist_and_a_pause_of_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        simulate(tmp_path / "x.pcap", "n3+n4", "--bad-server", "x.example", "--pause", "0s")
    named = [problem.partition(":")[0] for problem in caught.value.problems]
    assert sorted(named) == ["--bad-server", "--pause"]


def test_a_skip_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leaves nothing"):
        simulate(tmp_path / "x.pcap", "n3+n4", "--skip", "40s")


def test_a_gateway_may_restart_while_it_owes_an_answer(tmp_path: Path) -> None:
    many = ["--subscribers", "400", "--cells", "50", "--duration", "30s", "--handovers", "50"]
    truth = truth_of(simulate(tmp_path / "busy.pcap", "s1u+s11", *many, "--pause", "5s"))
    ends = Counter(attachment["end_reason"] for attachment in truth["attachments"])
    assert ends["restart"] > 0 and ends["unanswered"] > 0
