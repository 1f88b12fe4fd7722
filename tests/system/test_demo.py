"""`make run`: the demonstration's configurations load, and its table names the bad cell first."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from collector.config import load_config
from collector.qoe.services import ServiceMap
from probe.config import load_probe_config
from probe.simulate.services import SERVICES


def demo(repository: Path, *options: str) -> subprocess.CompletedProcess[str]:
    program = repository / "configs/demo/run_demo.py"
    return subprocess.run(
        [sys.executable, str(program), "--once", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.mark.parametrize("name", ["probe-simulated.yaml", "probe-capture.yaml"])
def test_the_probe_configurations_load(name: str, repository: Path) -> None:
    assert load_probe_config(repository / "configs/demo" / name).probe_id == "demo"


def test_the_collector_opens_its_read_endpoints_on_loopback_only(repository: Path) -> None:
    config = load_config(repository / "configs/demo/collector.yaml")
    assert config.open_on_loopback
    assert config.listen.host == "127.0.0.1"


def test_every_simulated_service_is_known_by_its_name(repository: Path) -> None:
    services = ServiceMap.load(repository / "configs/demo/services.yaml")
    for service in SERVICES:
        name, service_class = services.classify(service.server_name, "tls")
        assert name is not None
        assert service_class == service.service_class


def test_the_table_names_the_bad_cell_first_and_the_address_of_the_portal(
    repository: Path, tmp_path: Path
) -> None:
    simulated = subprocess.run(
        [str(Path(sys.executable).with_name("qoe-probe")), "simulate", str(tmp_path / "same.pcap")],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    assert simulated.returncode == 0
    truth = json.loads((tmp_path / "same.truth.json").read_text())
    done = demo(repository)
    assert done.returncode == 0, done.stderr
    cells = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("│ 0")]
    assert cells[0] in truth["bad_cells"]
    assert sorted(cells) == sorted(cell["cell_id"] for cell in truth["cells"])
    assert "Portal: http://127.0.0.1:" in done.stdout


def test_a_file_that_is_no_capture_ends_with_one_line(repository: Path, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.pcap"
    garbage.write_bytes(b"this is no capture at all" * 10)
    done = demo(repository, "--pcap", str(garbage))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_demonstration_with_all_that_it_started(
    repository: Path, tmp_path: Path, number: signal.Signals
) -> None:
    program = repository / "configs/demo/run_demo.py"
    with subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as running:  # fmt: skip
        assert running.stdout is not None
        for line in running.stdout:
            if "token for the probe" in line:  # the collector is up
                break
        running.send_signal(number)
        assert running.wait(timeout=90) == 0
    assert list(tmp_path.iterdir()) == []
