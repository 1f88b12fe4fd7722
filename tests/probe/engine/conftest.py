"""Runs the engine over captures that a test made."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from probe.cli.replay import limits_reached
from probe.engine import Engine, EngineError
from probe.record import codec
from tests.probe.engine.packets import Capture

SITE_KEY = b"a site key"
Row = dict[str, Any]


@dataclass(frozen=True)
class Result:
    rows: list[Row]
    batches: list[codec.Batch]
    bodies: list[bytes]
    counters: dict[str, int]
    error: str | None

    def ledger(self, name: str) -> int:
        return sum(entry[name] for batch in self.batches for entry in batch.ledger)

    def undecodable(self) -> dict[str, int]:
        return self._reasons("undecodable")

    def shed(self) -> dict[str, int]:
        return self._reasons("shed")

    def _reasons(self, name: str) -> dict[str, int]:
        sums: dict[str, int] = {}
        for batch in self.batches:
            for entry in batch.ledger:
                for reason, packets in entry[name].items():
                    sums[reason] = sums.get(reason, 0) + packets
        return sums


Run = Callable[..., Result]  # what the fixture `run` gives


def only(result: Result) -> Row:
    """Return the only record."""
    assert len(result.rows) == 1
    return result.rows[0]


def options(files: list[str], **changes: Any) -> dict[str, Any]:
    capture = {"capture_point": "test", "files": files, "time_offset_ns": 0}
    capture |= {"workers": changes.pop("workers", 1)}
    limits = {"flows": 10_000, "fragments": 100, "reassembly_bytes": 1 << 20}
    limits |= {"clients": 1000, "pairs": 1000, "names": 1000, "bearers": 1000}
    limits |= changes.pop("limits", {})
    return {
        "probe_id": "test-probe",
        "captures": [capture],
        "active_timeout_s": 60,
        "client_address": "full",
        "batch_rows": 4096,
        "batch_interval_s": 3600,
        "limits": limits,
        "subscriber_prefixes": [],
        "ran_prefixes": [],
        "attribution": [],
        **changes,
    }


def run_engine(files: list[str], **changes: Any) -> Result:
    engine = Engine(json.dumps(options(files, **changes)), SITE_KEY)
    engine.start()
    bodies: list[bytes] = []
    error = None
    while not engine.finished():
        try:
            body = engine.next_body(10.0)
        except EngineError as failure:
            error = str(failure)
            continue
        if body is not None:
            bodies.append(body)
    head = {"probe_id": "test-probe", "epoch": 0, "created_at": 0}
    batches = [
        codec.decode(codec.seal(body, sequence=number, **head))  # type: ignore[arg-type]
        for number, body in enumerate(bodies)
    ]
    rows = [row for batch in batches for row in codec.rows(batch)]
    return Result(rows, batches, bodies, engine.counters(), error)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs a capture with changed engine options."""

    def run_capture(capture: Capture, **changes: Any) -> Result:
        path = tmp_path / "capture.pcap"
        path.write_bytes(capture.pcap())
        result = run_engine([str(path)], **changes)
        shared = run_engine([str(path)], **changes, workers=3)
        reached = limits_reached(shared.counters) or limits_reached(result.counters)
        is_same = shared.bodies == result.bodies or reached
        assert is_same, "three workers tell something else"
        return result

    return run_capture
