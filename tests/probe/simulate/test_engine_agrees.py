"""The engine measures in simulated traffic what the simulator says is in it."""

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from probe.simulate.services import SERVICES
from tests.probe.simulate.attribution import (
    FiveTuple,
    Row,
    five_tuple,
    replay,
    simulate,
)

SUMS = [
    f"{name}_{way}" for name in ("packets", "bytes", "payload") for way in ("up", "down")
]  # fmt: skip
TEXTS = ("server_name", "alpn", "tls_version", "dns_query", "dns_rcode", "app_protocol")
VERDICTS = ("outcome", "failure_cause", "cell_id")


@pytest.fixture(scope="module", params=["sgi", "s1u"])
def simulated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Row]:
    """Return a capture and its truth."""
    path = tmp_path_factory.mktemp("capture") / "simulated.pcap"
    return path, simulate(path, "--duration", "75s", "--view", request.param)


@pytest.fixture(scope="module")
def truth(simulated: tuple[Path, Row]) -> Row:
    return simulated[1]


@pytest.fixture(scope="module")
def measured(simulated: tuple[Path, Row]) -> dict[FiveTuple, list[Row]]:
    """Return the engine's records of each five-tuple."""
    capture, truth = simulated
    flows: dict[FiveTuple, list[Row]] = defaultdict(list)
    for row in replay(capture, truth, rules(capture)):
        flows[five_tuple(row)].append(row)
    return flows


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
    labelled = {five_tuple(session) for session in truth["sessions"]}
    assert measured.keys() == labelled


@pytest.mark.parametrize("name", SUMS)
def test_sums_are_equal(name: str, truth: Row, measured: dict[FiveTuple, list[Row]]) -> None:
    for session in truth["sessions"]:
        records = measured[five_tuple(session)]
        assert sum(record[name] for record in records) == session[name]


@pytest.mark.parametrize("name", [*TEXTS, *VERDICTS])
def test_labels_are_equal(name: str, truth: Row, measured: dict[FiveTuple, list[Row]]) -> None:
    wrong = [
        (session[name], said(records, name), session)
        for session in truth["sessions"]
        if said(records := measured[five_tuple(session)], name) != session[name]
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["handshake_rtt_client_us", "handshake_rtt_server_us", "setup_us"])
def test_unambiguous_handshakes_are_timed_to_the_microsecond(
    name: str, truth: Row, measured: dict[FiveTuple, list[Row]]
) -> None:
    timed = [session for session in truth["sessions"] if session[name] is not None]
    assert len(timed) > 200
    for session in timed:
        assert said(measured[five_tuple(session)], name) == session[name]


def test_retransmissions_are_counted_to_the_packet(
    truth: Row, measured: dict[FiveTuple, list[Row]]
) -> None:
    name = "retransmitted_packets_down"
    assert sum(session[name] for session in truth["sessions"]) > 100
    for session in truth["sessions"]:
        records = measured[five_tuple(session)]
        assert sum(record[name] or 0 for record in records) == session[name]


def test_sessions_that_send_no_name_have_the_one_from_dns(
    truth: Row, measured: dict[FiveTuple, list[Row]]
) -> None:
    names = {service.name: service.server_name for service in SERVICES}
    found = 0
    for session in truth["sessions"]:
        for record in measured[five_tuple(session)]:
            if record["server_name_source"] == "dns":
                assert session["server_name"] is None
                assert record["server_name"] == names[session["service"]]
                found += 1
    assert found > 10
