"""The whole street on loopback: simulated traffic in at the probe, answers out of the collector.

Real processes, real files, real HTTP: `qoe-probe simulate`, `qoe-probe run`, `qoe-collector serve`.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.collector.conftest import CollectorProcess
from tests.support import command, replay

PROBE = "street-probe"
# A time long before retention's reach: old captures must be kept all the same.
START = "2009-11-23T20:18:00Z"


@dataclass(frozen=True)
class Street:
    """What was simulated, what the probe made of it, and the collector that has it."""

    truth: dict[str, Any]
    rows: list[dict[str, Any]]
    collector: CollectorProcess
    config: Path

    def get(self, path: str) -> Any:
        answer = self.collector.ask(path)
        assert answer.status == 200, answer.body
        return answer.json

    @property
    def everything(self) -> str:
        return "from=0&to=now"


def probe_config(directory: Path, collector: CollectorProcess, truth: dict[str, Any]) -> Path:
    (directory / "site.key").write_text("a key of the test site\n")
    (directory / "site.key").chmod(0o600)
    (directory / "token").write_text(collector.token("probe", PROBE))
    (directory / "token").chmod(0o600)
    config = directory / "probe.yaml"
    config.write_text(
        f"""\
probe_id: {PROBE}
capture:
  - file: traffic.pcap
    capture_point: sgi
site_key_file: site.key
client_address: full
attribution:
  subscriber_prefixes: {json.dumps(truth["subscriber_prefixes"])}
  map: traffic.map.csv
spool:
  path: spool
collector:
  urls: ["{collector.url}"]
  token_file: token
metrics:
  listen: 127.0.0.1:0
"""
    )
    return config


def qoe_probe(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    words = [command("qoe-probe"), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=180, check=False)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    directory = tmp_path_factory.mktemp("street")
    simulated = qoe_probe("simulate", directory / "traffic.pcap", "--start", START)
    assert simulated.returncode == 0, simulated.stderr
    truth = json.loads((directory / "traffic.truth.json").read_text())
    collector = CollectorProcess(directory, "open_on_loopback: true\n")
    collector.start()
    config = probe_config(directory, collector, truth)
    ran = qoe_probe("run", "--config", config)
    assert ran.returncode == 0, ran.stderr
    rows = replay(directory / "traffic.pcap", "--config", config).rows
    yield Street(truth, rows, collector, config)
    collector.stop()


def test_the_api_ranks_the_bad_cell_worst(street: Street) -> None:
    cells = street.get(f"/api/v1/cells?{street.everything}&sort=qoe")["data"]
    assert [cells[0]["cell_id"]] == street.truth["bad_cells"]
    assert cells[0]["qoe"]["value"] < cells[1]["qoe"]["value"] - 10


def test_the_api_ranks_the_bad_subscriber_worst(street: Street) -> None:
    listed = street.get(f"/api/v1/failures?{street.everything}&group_by=subscriber_id")["data"]
    by_subscriber: dict[str, int] = {}
    for entry in listed:
        subscriber = entry["subscriber_id"]
        by_subscriber[subscriber] = by_subscriber.get(subscriber, 0) + entry["failures"]
    worst = max(by_subscriber, key=lambda subscriber: by_subscriber[subscriber])
    bad = street.truth["bad_subscribers"][0]
    addresses = {
        session["client_ip"] for session in street.truth["sessions"] if session["subscriber"] == bad
    }
    assert {row["subscriber_id"] for row in street.rows if row["client_ip"] in addresses} == {worst}


@pytest.mark.parametrize(
    "name",
    ["bytes_up", "bytes_down", "payload_up", "payload_down", "packets_up", "packets_down"],
)
def test_sums_over_the_api_equal_the_replays(street: Street, name: str) -> None:
    expected = sum(row[name] for row in street.rows)
    assert expected == sum(session[name] for session in street.truth["sessions"])
    assert street.get(f"/api/v1/network?{street.everything}")["data"][name] == expected
    cells = street.get(f"/api/v1/cells?{street.everything}&limit=1000")["data"]
    assert sum(cell[name] for cell in cells) == expected


def test_sessions_and_failures_over_the_api_equal_the_replays(street: Street) -> None:
    network = street.get(f"/api/v1/network?{street.everything}")["data"]
    assert network["sessions"] == len(street.truth["sessions"])
    assert network["sessions"] == sum(row["interval_index"] == 0 for row in street.rows)
    assert network["failures"] == sum(row["outcome"] == "failed" for row in street.rows)


def test_a_capture_of_2009_is_found_where_it_happened(street: Street) -> None:
    found = street.get("/api/v1/range")
    assert found["from"].startswith("2009-11-23T20:18:00")
    window = f"from={found['from']}&to={found['to']}"
    points = street.get(f"/api/v1/network/timeline?{window}&step=1m")["data"]
    assert points[0]["time"].startswith("2009-11-23T20:18:00")
    assert sum(point["sessions"] for point in points) == len(street.truth["sessions"])


def test_a_capture_of_2009_is_kept_through_merges(street: Street) -> None:
    before = street.get(f"/api/v1/network?{street.everything}")["data"]
    checked = street.collector.run("check-store")
    assert checked.returncode == 0, checked.stderr
    street.collector.stop()
    street.collector.start()
    assert street.get(f"/api/v1/network?{street.everything}")["data"] == before


def test_an_outage_of_the_collector_loses_nothing(street: Street, tmp_path: Path) -> None:
    """The probe starts while its collector is away, and ends once all is acknowledged."""
    collector = CollectorProcess(tmp_path, "open_on_loopback: true\n")
    collector.start()
    settings = collector.config.read_text()
    port = collector.url.rsplit(":", 1)[1]
    collector.config.write_text(settings.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    config = probe_config(tmp_path, collector, street.truth)
    for name in ("traffic.pcap", "traffic.map.csv"):
        (tmp_path / name).symlink_to(street.config.parent / name)
    collector.stop()
    probe = subprocess.Popen([command("qoe-probe"), "run", "--config", str(config)])
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            probe.wait(timeout=5)
        collector.start()
        assert probe.wait(timeout=90) == 0
    finally:
        probe.kill()
    network = collector.ask(f"/api/v1/network?{street.everything}").json["data"]
    collector.stop()
    assert network["sessions"] == len(street.truth["sessions"])
    assert network["bytes_down"] == sum(row["bytes_down"] for row in street.rows)


def test_no_identity_is_found_in_what_was_stored_or_said(street: Street) -> None:
    identities = {
        session["subscriber"].removeprefix("imsi:") for session in street.truth["sessions"]
    }
    directory = street.config.parent
    for path in directory.rglob("*"):
        private = path.name.startswith("traffic.") or not path.is_file()
        if not private:
            content = path.read_bytes()
            assert not any(identity.encode() in content for identity in identities), path
