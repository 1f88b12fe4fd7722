"""Capture filters: what libpcap makes of them, and what is said of those that cannot be used."""

import json
from pathlib import Path

import pytest

from probe.agent import EngineKit, capture_options
from probe.config import InterfaceCapture, ReplayConfig, load_replay_config
from probe.errors import CaptureError
from probe.settings.capture_filter import compile_filter

KIT = EngineKit(lambda *_: None, Exception, lambda _: (0, 0, 0))  # type: ignore[arg-type,return-value]


def test_a_filter_has_a_program_for_each_kind_of_link() -> None:
    programs = compile_filter("not port 22")
    assert programs["ethernet"] != programs["raw_ip"]
    for program in programs.values():
        assert program[-1][0] == 0x06, "ret"
        assert len(program) > 5
    json.dumps(programs)


def test_a_filter_for_frames_has_no_program_for_bare_packets() -> None:
    programs = compile_filter("ether host 02:00:00:00:00:01")
    assert programs["ethernet"]
    assert programs["raw_ip"] == []


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("porrt 22", "syntax error"),
        ("vlan 7", "takes the tag out"),
        ("host 1.2.3.400", "400|unknown|invalid|illegal"),
    ],
)
def test_a_filter_that_cannot_be_used_says_why(expression: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        compile_filter(expression)


def _capture(**changes: object) -> ReplayConfig:
    capture = {"interface": "eth1", "capture_point": "tap", **changes}
    return ReplayConfig(capture=(InterfaceCapture.model_validate(capture),))


def test_what_a_live_capture_is_told_reaches_the_engine() -> None:
    config = _capture(workers=4, filter="tcp", timestamps="hardware", ring_size="8MiB")
    (options,) = capture_options(config, KIT, 0)
    assert options["workers"] == 4
    assert options["ring_bytes"] == 8 << 20
    assert options["timestamps"] == "hardware"
    assert options["filter"] == compile_filter("tcp")
    (options,) = capture_options(_capture(), KIT, 0)
    assert (options["workers"], options["filter"]) == (1, None)


def test_a_wrong_filter_does_not_start_a_capture() -> None:
    with pytest.raises(CaptureError, match=r"eth1: filter: .*syntax error"):
        capture_options(_capture(filter="porrt"), KIT, 0)


def test_keys_of_a_live_capture_are_told_from_those_of_files(tmp_path: Path) -> None:
    path = tmp_path / "probe.yaml"
    path.write_text("capture: [{interface: eth1, capture_point: a, workers: 2, filter: 'udp'}]\n")
    (capture,) = load_replay_config(path).capture
    assert isinstance(capture, InterfaceCapture)
    assert capture.workers == 2
