"""Overload leaves out what it says, and nothing else: forced in a replay, beside full service."""

import json
from pathlib import Path
from typing import Any

import pytest

from probe.engine import Engine
from probe.record import codec
from tests.probe.engine.conftest import SITE_KEY, options
from tests.support import SHARED, needs_shared

Row = dict[str, Any]
BROKEN = {"suricata-verify--fuzz.pcap"}  # ends in the middle, with an error
CORPUS = [
    path
    for path in sorted((SHARED / "corpora" / "dev").glob("*.pcap*"))
    if path.name not in BROKEN
]

# Content that no failure's cause comes from; what it is decided by stays.
CONTENT = {
    "server_name", "server_name_source", "alpn", "ech", "certificate_not_after", "tls_version",
    "evidence",
}  # fmt: skip
# Of a QUIC handshake that was not read only what is unmistakable is measured.
HANDSHAKE = {"handshake_rtt_client_us", "handshake_rtt_server_us"}
ROUND_TRIPS = {
    f"rtt_{side}_{what}"
    for side in ("client", "server")
    for what in ("min_us", "median_us", "samples", "histogram", "method")
}


def replayed(files: list[Path], shedding: str) -> tuple[list[Row], dict[str, int]]:
    chosen = options([str(file) for file in files], limits={"shedding": shedding})
    engine = Engine(json.dumps(chosen), SITE_KEY)
    engine.start()
    rows: list[Row] = []
    shed: dict[str, int] = {}
    while not engine.finished():
        body = engine.next_body(1.0)
        if body is not None:
            batch = codec.decode(
                codec.seal(body, probe_id="p", epoch=1, sequence=1, created_at=0, health={}, gaps=[])
            )
            rows += codec.rows(batch)
            for entry in batch.ledger:
                for reason, packets in entry["shed"].items():
                    shed[reason] = shed.get(reason, 0) + packets
    rows.sort(key=lambda row: (row["session_id"], row["interval_index"], row["record_kind"]))
    return rows, shed


def differences(full: list[Row], less: list[Row]) -> set[str]:
    """Return the fields in which records differ."""
    assert len(full) == len(less)
    return {
        name
        for one, other in zip(full, less, strict=True)
        for name in one.keys() | other.keys()
        if one.get(name) != other.get(name)
    }


@needs_shared
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_without_content_counters_causes_and_tcp_round_trips_stay(path: Path) -> None:
    full, _ = replayed([path], "nothing")
    less, _ = replayed([path], "content")
    quic = {row["session_id"] for row in full if row["app_protocol"] == "quic"}
    for is_quic in (False, True):
        chosen = [
            [row for row in rows if (row["session_id"] in quic) == is_quic]
            for rows in (full, less)
        ]
        allowed = CONTENT | (HANDSHAKE | ROUND_TRIPS if is_quic else set())
        assert differences(*chosen) <= allowed


@needs_shared
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_without_round_trips_identity_causes_and_volumes_stay(path: Path) -> None:
    full, _ = replayed([path], "nothing")
    less, _ = replayed([path], "round_trips")
    allowed = CONTENT | HANDSHAKE | ROUND_TRIPS
    assert differences(full, less) <= allowed
