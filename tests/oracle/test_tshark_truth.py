"""What `qoe-probe replay` says of real captures equals what tshark says of them.

The truth files hold tshark's view of captures that other people made. Where the two differ, the
table `DIFFERENCES` says why; a difference that is not in the table fails, and so does an entry of
the table that no longer differs.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support import SHARED, needs_shared, replay

CORPUS = SHARED / "corpora" / "dev"

# Why a capture's figures differ from tshark's.
COPIES = "the mirror shows the SYN more than once; tshark measures from the last copy"
KARN = "the SYN was retransmitted and its answer has no timestamp: ambiguous, so not reported"
UNSEEN = "only one side was captured: the set-up time is known, its two parts are not"
ZERO = "all three packets carry the same time; tshark goes on to the first data segment"
DAMAGED = "the packets contradict their own headers (a fuzzer changed them); tshark reads on"
MISSED = "the SYN-ACK was not captured; tshark starts from the last SYN"
GONE = "an old connection's last packets come a minute after its end: a session of their own"


@dataclass(frozen=True)
class Differences:
    """How many figures of a capture differ: connections (ours minus tshark's), RTTs, names."""

    why: str
    connections: int = 0
    round_trips: int = 0
    names: int = 0


DIFFERENCES = {
    "arkime--arkime_synthetic.pcap": Differences(ZERO, round_trips=7),
    "arkime--wireshark-retrans.pcap": Differences(COPIES, round_trips=1),
    "ndpi--KakaoTalk_talk.pcap": Differences(KARN, round_trips=1),
    "ndpi--fuzz-2006-06-26-2594.pcap": Differences(DAMAGED, round_trips=1),
    "ndpi--rtsp.pcapng": Differences(f"{GONE}; {MISSED}", connections=1, round_trips=1),
    "pcapplusplus--raw_ip.pcap": Differences(UNSEEN, round_trips=2),
    "suricata-verify--TLPW1-tcp-174.56.47.59-10.3.11.101-tcp-80-49309.pcap": Differences(
        KARN, round_trips=1
    ),
    "zeek--mixed-vlan-mpls.pcap": Differences(UNSEEN, round_trips=1),
}

# Captures that end in damage: their records up to there are compared like all others.
DAMAGED_FILES = {
    "suricata-verify--fuzz.pcap": "corrupt record",
}


@dataclass
class Found:
    """The figures of one capture, ours beside tshark's."""

    connections: tuple[int, int] = (0, 0)
    round_trips_compared: int = 0
    round_trips_off: list[str] = field(default_factory=list)
    refusals_off: list[str] = field(default_factory=list)
    names_off: Counter[str] = field(default_factory=Counter)


def captures() -> list[str]:
    truth = sorted((CORPUS / "truth").glob("*.json"))
    return [path.name.removesuffix(".json") for path in truth]


def truth_of(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((CORPUS / "truth" / f"{name}.json").read_text())
    return document


def ends(client: tuple[str, int], server: tuple[str, int]) -> frozenset[tuple[str, int]]:
    return frozenset([client, server])


def handshakes(rows: list[dict[str, Any]]) -> dict[frozenset[tuple[str, int]], list[int]]:
    """Both sides' handshake round trips added, by connection, in microseconds."""
    sums: dict[frozenset[tuple[str, int]], list[int]] = {}
    for row in rows:
        sides = (row["handshake_rtt_client_us"], row["handshake_rtt_server_us"])
        if None not in sides:
            key = ends(
                (row["client_ip"], row["client_port"]), (row["server_ip"], row["server_port"])
            )
            sums.setdefault(key, []).append(sum(sides))
    return sums


def round_trips_off(rows: list[dict[str, Any]], streams: list[dict[str, Any]]) -> list[str]:
    ours = handshakes(rows)
    off = []
    for stream in streams:
        wanted_us = stream["initial_rtt_s"] * 1e6
        key = ends(tuple(stream["client"]), tuple(stream["server"]))
        allowed_us = max(1000.0, wanted_us / 100)
        if not any(abs(found - wanted_us) <= allowed_us for found in ours.get(key, [])):
            off.append(f"{stream['client']} to {stream['server']}: {wanted_us:.0f} us by tshark")
    return off


def refusals_off(rows: list[dict[str, Any]], streams: list[dict[str, Any]]) -> list[str]:
    """Refused connections that are not reported as such."""
    refused = {
        ends((row["client_ip"], row["client_port"]), (row["server_ip"], row["server_port"]))
        for row in rows
        if row["failure_cause"] == "connect_refused"
    }
    return [
        f"{stream['client']} to {stream['server']}"
        for stream in streams
        if ends(tuple(stream["client"]), tuple(stream["server"])) not in refused
    ]


def compare(name: str, rows: list[dict[str, Any]]) -> Found:
    streams = truth_of(name).get("tcp", {}).get("streams", [])
    last = [row for row in rows if row["transport"] == "tcp" and row["record_kind"] == "final"]
    # A refused connection has no handshake, though tshark takes its reset for one: of these it is
    # compared that they are reported as refused.
    refused = [stream for stream in streams if stream["refused"]]
    timed = [s for s in streams if s.get("initial_rtt_s") is not None and not s["refused"]]
    ours = Counter(row["server_name"] for row in last if row["server_name"])
    theirs = Counter(stream["sni"].lower() for stream in streams if stream.get("sni"))
    return Found(
        connections=(len(last), len(streams)),
        round_trips_compared=len(timed),
        round_trips_off=round_trips_off(rows, timed),
        refusals_off=refusals_off(rows, refused),
        names_off=(ours - theirs) + (theirs - ours),
    )


@needs_shared
@pytest.mark.parametrize("name", captures())
def test_connections_round_trips_and_names_equal_tsharks(name: str) -> None:
    result = replay(CORPUS / name)
    if damage := DAMAGED_FILES.get(name):
        assert (result.code, damage in result.error) == (1, True)
    else:
        assert (result.code, result.error) == (0, "")
    found = compare(name, result.rows)
    allowed = DIFFERENCES.get(name, Differences("none"))
    ours, theirs = found.connections
    assert ours - theirs == allowed.connections, allowed.why
    assert len(found.round_trips_off) == allowed.round_trips, found.round_trips_off
    assert found.refusals_off == []
    assert found.names_off.total() == allowed.names, found.names_off


@needs_shared
def test_the_table_names_only_captures_that_exist() -> None:
    assert set(DIFFERENCES) | set(DAMAGED_FILES) <= set(captures())


@needs_shared
def test_most_captures_agree_and_the_comparison_is_not_empty() -> None:
    """Guards against a comparison that compares nothing."""
    timed = sum(
        stream.get("initial_rtt_s") is not None
        for name in captures()
        for stream in truth_of(name).get("tcp", {}).get("streams", [])
    )
    allowed = sum(difference.round_trips for difference in DIFFERENCES.values())
    assert timed > 10 * allowed
    assert Path(CORPUS / "index.json").is_file()
