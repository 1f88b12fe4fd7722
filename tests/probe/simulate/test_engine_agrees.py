"""The engine measures in simulated traffic what the simulator says is in it."""

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from probe.engine import Engine
from probe.record import codec
from probe.simulate import add_arguments, run
from probe.simulate.services import SERVICES

Row = dict[str, Any]
FiveTuple = tuple[Any, ...]
KEY = ("transport", "client_ip", "client_port", "server_ip", "server_port")
SUMS = [
    f"{name}_{way}" for name in ("packets", "bytes", "payload") for way in ("up", "down")
]  # fmt: skip
TEXTS = ("server_name", "alpn", "tls_version", "dns_query", "dns_rcode", "app_protocol")
VERDICTS = ("outcome", "failure_cause", "cell_id")


@pytest.fixture(scope="module", params=["sgi", "s1u"])
def capture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("capture") / "simulated.pcap"
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args([str(path), "--duration", "75s", "--view", request.param])) == 0
    return path


@pytest.fixture(scope="module")
def truth(capture: Path) -> Row:
    loaded: Row = json.loads(capture.with_suffix(".truth.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def measured(capture: Path, truth: Row) -> dict[FiveTuple, list[Row]]:
    """Return the engine's records of each five-tuple."""
    engine = Engine(json.dumps(engine_options(capture, truth)), b"a key for tests")
    engine.start()
    flows: dict[FiveTuple, list[Row]] = defaultdict(list)
    while not engine.finished():
        body = engine.next_body(1.0)
        for row in rows_of(body) if body else []:
            flows[tuple(row[name] for name in KEY)].append(row)
    return flows


def rows_of(body: bytes) -> list[Row]:
    batch = codec.seal(body, probe_id="test", epoch=1, sequence=0, created_at=0)
    return list(codec.rows(codec.decode(batch)))


def engine_options(capture: Path, truth: Row) -> Row:
    files = {"capture_point": "tap", "files": [str(capture)], "time_offset_ns": 0}
    return {
        "probe_id": "test",
        "captures": [files],
        "active_timeout_s": 60,
        "client_address": "full",
        "batch_rows": 8192,
        "batch_interval_s": 3600,
        "limits": {
            "flows": 65_536,
            "fragments": 64,
            "reassembly_bytes": 1 << 20,
            "clients": 4096,
            "pairs": 4096,
            "names": 4096,
            "bearers": 4096,
        },
        "subscriber_prefixes": truth["subscriber_prefixes"],
        "ran_prefixes": truth["ran_prefixes"],
        "attribution": rules(capture),
    }


def rules(capture: Path) -> list[Row]:
    with capture.with_suffix(".map.csv").open(newline="") as file:
        return [
            {
                name: int(value) if name in ("vlan", "teid") and value else value or None
                for name, value in row.items()
            }
            for row in csv.DictReader(file)
        ]


def said(records: list[Row], name: str) -> Any:
    """Return what the first record that says anything about `name` says.

    The labels know the names that sessions send; those from DNS have a test of their own.
    """
    if name == "server_name":
        records = [record for record in records if record["server_name_source"] != "dns"]
    return next((record[name] for record in records if record[name] is not None), None)


def test_the_same_sessions_are_seen(truth: Row, measured: dict[FiveTuple, list[Row]]) -> None:
    labelled = {tuple(session[name] for name in KEY) for session in truth["sessions"]}
    assert measured.keys() == labelled


@pytest.mark.parametrize("name", SUMS)
def test_sums_are_equal(name: str, truth: Row, measured: dict[FiveTuple, list[Row]]) -> None:
    for session in truth["sessions"]:
        records = measured[tuple(session[name] for name in KEY)]
        assert sum(record[name] for record in records) == session[name]


@pytest.mark.parametrize("name", [*TEXTS, *VERDICTS])
def test_labels_are_equal(name: str, truth: Row, measured: dict[FiveTuple, list[Row]]) -> None:
    wrong = [
        (session[name], said(records, name), session)
        for session in truth["sessions"]
        if said(records := measured[tuple(session[key] for key in KEY)], name) != session[name]
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["handshake_rtt_client_us", "handshake_rtt_server_us", "setup_us"])
def test_unambiguous_handshakes_are_timed_to_the_microsecond(
    name: str, truth: Row, measured: dict[FiveTuple, list[Row]]
) -> None:
    timed = [session for session in truth["sessions"] if session[name] is not None]
    assert len(timed) > 200
    for session in timed:
        assert said(measured[tuple(session[key] for key in KEY)], name) == session[name]


def test_retransmissions_are_counted_to_the_packet(
    truth: Row, measured: dict[FiveTuple, list[Row]]
) -> None:
    name = "retransmitted_packets_down"
    assert sum(session[name] for session in truth["sessions"]) > 100
    for session in truth["sessions"]:
        records = measured[tuple(session[key] for key in KEY)]
        assert sum(record[name] or 0 for record in records) == session[name]


def test_sessions_that_send_no_name_have_the_one_from_dns(
    truth: Row, measured: dict[FiveTuple, list[Row]]
) -> None:
    names = {service.name: service.server_name for service in SERVICES}
    found = 0
    for session in truth["sessions"]:
        for record in measured[tuple(session[key] for key in KEY)]:
            if record["server_name_source"] == "dns":
                assert session["server_name"] is None
                assert record["server_name"] == names[session["service"]]
                found += 1
    assert found > 10
