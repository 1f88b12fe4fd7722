"""QUIC as `qoe-probe replay` reads it equals what tshark reads in real captures.

The handshake's round trips are not in the truth files: they are the times between the two frames
named, of which tshark shows that the second acknowledges the first.
"""

import json
from collections import Counter
from typing import Any

import pytest

from tests.support import SHARED, needs_shared, replay

CORPUS = SHARED / "corpora" / "dev"

# Microseconds of (server's side, client's side). Both ends' numbers are those of `tshark -T fields
# -e frame.number -e frame.time_relative -e quic.packet_number -e quic.ack.largest_acknowledged`.
ROUND_TRIPS = {
    "zeek--retry.pcap": (36_579, 1_879),  # frames 7 to 8, 8 to 10
    "ndpi--quic-forcing-vn-with-data.pcapng": (3_421, 1_089),  # 5 to 6, 6 to 7
    "ndpi--quic-v2.pcapng": (1_772, 292),  # 1 to 2, 2 to 4 (a Handshake packet)
}


def truths() -> list[str]:
    """Captures in which tshark sees QUIC."""
    names = []
    for path in sorted((CORPUS / "truth").glob("*.json")):
        if "quic" in json.loads(path.read_text()):
            names.append(path.name.removesuffix(".json"))
    return names


def quic_of(name: str) -> dict[str, Any]:
    document = json.loads((CORPUS / "truth" / f"{name}.json").read_text())
    found: dict[str, Any] = document["quic"]
    return found


def sessions(name: str) -> list[dict[str, Any]]:
    rows = replay(CORPUS / name).rows
    return [row for row in rows if row["app_protocol"] == "quic" and row["record_kind"] == "final"]


@needs_shared
@pytest.mark.parametrize("name", truths())
def test_names_and_protocols_are_those_that_tshark_reads(name: str) -> None:
    truth, rows = quic_of(name), sessions(name)
    streams = {(hello["udp_stream"], hello.get("sni")) for hello in truth.get("client_hellos", [])}
    theirs = Counter(sni for _, sni in streams if sni)
    google = set(truth.get("gquic_sni", {}))
    ours = Counter(row["server_name"] for row in rows if row["server_name"])
    assert {sni for sni in ours if sni in google} == google
    assert Counter({sni: count for sni, count in ours.items() if sni not in google}) == theirs
    offered = {alpn for row in rows if row["alpn"] for alpn in row["alpn"].split(",")}
    assert offered >= set(truth.get("alpn", {}))


@needs_shared
@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_round_trips_are_the_times_between_a_packet_and_its_acknowledgment(name: str) -> None:
    (row,) = sessions(name)
    assert (row["handshake_rtt_server_us"], row["handshake_rtt_client_us"]) == ROUND_TRIPS[name]


@needs_shared
def test_clients_that_force_version_negotiation_end_without_a_version() -> None:
    rows = sessions("ndpi--quic_interop_V.pcapng")
    causes = Counter(row["failure_cause"] for row in rows)
    truth = quic_of("ndpi--quic_interop_V.pcapng")
    assert sum(causes.values()) == len({hello["udp_stream"] for hello in truth["client_hellos"]})
    assert set(causes) == {"quic_version_mismatch", "quic_timeout"}
