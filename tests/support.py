"""What several tests need: the reference captures, and the probe's own front door."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("EDGEQOE_SHARED", ROOT.parent / "shared")).resolve()
needs_shared = pytest.mark.skipif(
    not (SHARED / "corpora").is_dir(), reason="the reference captures are not on this machine"
)


def command(name: str) -> str:
    """The installed command `name` of the environment that runs the tests."""
    return str(Path(sys.executable).parent / name)


@dataclass(frozen=True)
class Replay:
    """What `qoe-probe replay --format jsonl` left behind. `error` leaves warnings out."""

    code: int
    rows: list[dict[str, Any]]
    error: str
    output: bytes


def replay(*arguments: str | Path, stdin: bytes | None = None) -> Replay:
    words = [command("qoe-probe"), "replay", "--format", "jsonl", *map(str, arguments)]
    done = subprocess.run(words, input=stdin, capture_output=True, timeout=120, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    lines = done.stderr.decode().splitlines()
    error = "\n".join(line for line in lines if not line.startswith("qoe-probe: warning: "))
    return Replay(done.returncode, rows, error, done.stdout)
