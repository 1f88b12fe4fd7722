"""The systemd units are valid, point at commands that exist, and are locked down."""

import configparser
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

MAX_EXPOSURE = 2.5  # of 10, as `systemd-analyze security` counts; below 5 it says "OK"
UNITS = {"qoe-probe@.service": "qoe-probe@probe.service", "qoe-collector.service": None}
HOST_UNITS = Path("/usr/lib/systemd/system")
Tool = Callable[[str], str]


@pytest.fixture
def stage(tmp_path: Path, repository: Path) -> Path:
    """Return a file system tree as an installation leaves it, with empty programs."""
    units = tmp_path / "usr/lib/systemd/system"
    shutil.copytree(HOST_UNITS, units, symlinks=True, ignore=_all_but_targets_and_slices)
    for unit in UNITS:
        shutil.copy(repository / "systemd" / unit, units)
    for name in ("sysusers.d", "tmpfiles.d"):
        shutil.copytree(repository / "systemd" / name, tmp_path / "usr/lib" / name)
    (tmp_path / "etc").mkdir()
    for program in ("opt/edgeqoe/bin/qoe-probe", "opt/edgeqoe/bin/qoe-collector", "bin/kill"):
        path = tmp_path / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o755)
    return tmp_path


def _all_but_targets_and_slices(directory: str, names: list[str]) -> list[str]:
    kept = (".target", ".slice", ".socket", ".mount")
    return [n for n in names if not n.endswith(kept) or (Path(directory) / n).is_dir()]


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_accepts_the_unit(unit: str, stage: Path, tool: Tool) -> None:
    command = [tool("systemd-analyze"), "verify", f"--root={stage}", "--man=no"]
    name = UNITS[unit] or unit
    result = subprocess.run(
        [*command, name], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert "qoe-" not in result.stderr


def test_systemd_refuses_a_unit_without_its_program(stage: Path, tool: Tool) -> None:
    (stage / "opt/edgeqoe/bin/qoe-collector").unlink()
    command = [tool("systemd-analyze"), "verify", f"--root={stage}", "--man=no"]
    result = subprocess.run(
        [*command, "qoe-collector.service"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert result.returncode != 0


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_is_locked_down(unit: str, stage: Path, tool: Tool) -> None:
    command = [tool("systemd-analyze"), "security", "--offline=true", f"--root={stage}"]
    name = UNITS[unit] or unit
    result = subprocess.run(
        [*command, "--no-pager", name], capture_output=True, text=True, check=False, timeout=60
    )
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", result.stdout)
    assert level is not None, result.stderr
    assert float(level[1]) <= MAX_EXPOSURE


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_states_its_bounds(unit: str, repository: Path) -> None:
    service = _service_section(repository / "systemd" / unit)
    assert service["Type"] == "notify"
    assert float(service["WatchdogSec"]) > 0
    assert service["LimitCORE"] == "0"
    assert service["MemoryMax"]
    assert service["StateDirectory"].startswith("edgeqoe/")


def test_only_the_probe_holds_a_capability_and_only_one(repository: Path) -> None:
    probe = _service_section(repository / "systemd/qoe-probe@.service")
    collector = _service_section(repository / "systemd/qoe-collector.service")
    assert probe["AmbientCapabilities"] == probe["CapabilityBoundingSet"] == "CAP_NET_RAW"
    assert collector["AmbientCapabilities"] == collector["CapabilityBoundingSet"] == ""
    assert probe["User"] != collector["User"]


def test_every_user_and_group_of_the_units_is_made(repository: Path) -> None:
    made = (repository / "systemd/sysusers.d/edgeqoe.conf").read_text()
    for unit in UNITS:
        service = _service_section(repository / "systemd" / unit)
        assert re.search(rf"^u {service['User']} ", made, re.MULTILINE)
        assert re.search(rf"^g {service['SupplementaryGroups']} ", made, re.MULTILINE)


def _service_section(path: Path) -> configparser.SectionProxy:
    """Return the [Service] section; of keys that stand several times, the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser["Service"]


@pytest.mark.parametrize(
    ("example", "unit", "instance"),
    [
        ("probe-sgi.yaml", "qoe-probe@.service", "probe"),
        ("probe-s1u.yaml", "qoe-probe@.service", "probe"),
        ("collector.yaml", "qoe-collector.service", ""),
    ],
)
def test_the_examples_write_only_where_the_unit_lets_them(
    example: str, unit: str, instance: str, repository: Path
) -> None:
    state = _service_section(repository / "systemd" / unit)["StateDirectory"]
    allowed = "/var/lib/" + state.replace("%i", instance) + "/"
    text = (repository / "configs" / example).read_text()
    paths = re.findall(r"path: (/var/\S+)", text)
    assert paths
    assert [path for path in paths if not path.startswith(allowed)] == []
