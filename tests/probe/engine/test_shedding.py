"""Overload leaves out what it says, and nothing else: forced in a replay, beside full service."""

import json
from pathlib import Path
from typing import Any

import pytest

from probe.engine import Engine
from probe.record import codec
from tests.probe.engine.conftest import SITE_KEY, Run, only, options
from tests.probe.engine.packets import ACK, MINUTE, MS, SECOND, Capture, Dialogue
from tests.probe.engine.quic import Connection, ack, client_hello, close, crypto
from tests.support import SHARED, needs_shared

Row = dict[str, Any]
BROKEN = {"suricata-verify--fuzz.pcap"}  # ends in the middle, with an error
CORPUS = [
    path for path in sorted((SHARED / "corpora" / "dev").glob("*.pcap*")) if path.name not in BROKEN
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
                codec.seal(
                    body, probe_id="p", epoch=1, sequence=1, created_at=0, health={}, gaps=[]
                )
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
            [row for row in rows if (row["session_id"] in quic) == is_quic] for rows in (full, less)
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


CONTENT_SHED = {"shedding": "content"}


def test_a_quic_handshake_that_succeeds_is_measured_and_not_read(run: Run) -> None:
    capture = Capture()
    connection = Connection(capture)
    now = connection.open(MINUTE, server_rtt_ns=20 * MS, client_rtt_ns=30 * MS)
    connection.down(now + 20 * MS, connection.server.one_rtt())
    result = run(capture, limits=CONTENT_SHED)
    row = only(result)
    assert (row["app_protocol"], row["server_name"], row["outcome"]) == ("quic", None, "ok")
    assert row["evidence"] == ["content_unread"]
    assert row["setup_us"] == 50_000
    assert (row["handshake_rtt_server_us"], row["handshake_rtt_client_us"]) == (20_000, 30_000)
    assert result.shed() == {"content": 3}
    assert result.ledger("decoded") == result.ledger("received")


@pytest.mark.parametrize(
    ("code", "cause"), [(0x128, "tls_no_common_cipher"), (0x02, "connect_refused")]
)
def test_a_quic_handshake_that_fails_is_read_after_all(run: Run, code: int, cause: str) -> None:
    capture = Capture()
    connection = Connection(capture)
    hello = crypto(0, client_hello("strict.example", ["h3"]))
    connection.up(MINUTE, connection.client.initial(hello))
    connection.down(MINUTE + 20 * MS, connection.server.initial(ack(0) + close(code), 100))
    result = run(capture, limits=CONTENT_SHED)
    row = only(result)
    assert (row["outcome"], row["failure_cause"]) == ("failed", cause)
    assert (row["server_name"], row["handshake_rtt_server_us"]) == ("strict.example", 20_000)
    assert result.shed() == {}


def test_more_initials_than_can_be_kept_are_read(run: Run) -> None:
    capture = Capture()
    connection = Connection(capture)
    hello = client_hello("long.example", ["h3"], more=12_000)
    for number, at in enumerate(range(0, len(hello), 1000)):
        piece = connection.client.initial(crypto(at, hello[at : at + 1000]))
        connection.up(MINUTE + number * MS, piece)
    connection.up(MINUTE + SECOND, connection.client.one_rtt())
    result = run(capture, limits=CONTENT_SHED)
    assert (only(result)["server_name"], result.shed()) == ("long.example", {})


def test_round_trips_are_left_out_but_for_the_handshakes(run: Run) -> None:
    capture = Capture()
    dialogue = Dialogue(capture)
    now = dialogue.open(MINUTE)
    for _ in range(4):
        dialogue.up(now, ACK, b"question")
        dialogue.down(now + 20 * MS, ACK, b"answer")
        dialogue.up(now + 50 * MS, ACK)
        now += SECOND
    dialogue.close(now)
    result = run(capture, limits={"shedding": "round_trips"})
    row = only(result)
    assert (row["rtt_server_samples"], row["rtt_server_method"]) == (1, "handshake")
    assert row["handshake_rtt_server_us"] == 20_000
    assert row["evidence"].count("round_trips_unsampled") == 1
    assert result.shed() == {"round_trips": result.ledger("received")}
    assert row["packets_up"] + row["packets_down"] == result.ledger("received")


def test_what_is_shed_stands_in_the_loads(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "one.pcap"
    capture = Capture()
    Dialogue(capture).open(MINUTE)
    path.write_bytes(capture.pcap())
    engine = Engine(json.dumps(options([str(path)], limits=CONTENT_SHED)), SITE_KEY)
    engine.start()
    while not engine.finished():
        engine.next_body(1.0)
    assert engine.loads() == [("test", "content", 0, 0)]
    assert engine.take_load_steps() == [], "what is fixed takes no steps"
