"""A real collector in a process of its own: its command, its HTTP port, its files.

A process and not an object, because the embedded store admits one path per process.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from probe.record import codec

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class CollectorProcess:
    """`qoe-collector serve` with its configuration in `directory`."""

    directory: Path
    settings: str = ""
    url: str = ""
    process: "subprocess.Popen[bytes] | None" = None
    tokens: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.config = self.directory / "collector.yaml"
        self.config.write_text(
            "listen: 127.0.0.1:0\nstore: {engine: chdb, path: store}\n" + self.settings
        )
        self.log = self.directory / "log"

    def run(self, *arguments: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, `--config` added."""
        command = [sys.executable, "-m", "collector.cli", *arguments]
        return subprocess.run(
            [*command, "--config", str(self.config)],
            capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False,
        )  # fmt: skip

    def token(self, role: str, name: str) -> str:
        """Return a new token."""
        made = self.run("token", "create", "--role", role, "--name", name)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def start(self) -> None:
        command = [sys.executable, "-m", "collector.cli", "serve", "--config", str(self.config)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, cwd=ROOT)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (found := re.search(r"listening on (\S+)", self.log.read_text())):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "the collector did not start"
            time.sleep(0.05)
        self.url = found[1]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and return the exit code."""
        assert self.process is not None
        os.kill(self.process.pid, number)
        code = self.process.wait(timeout=60)
        self.process = None
        return code

    def ask(
        self,
        path: str,
        token: str | None = None,
        *,
        method: str | None = None,
        body: bytes | None = None,
        **headers: str,
    ) -> Answer:
        """Return the answer to one request, errors too."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.url + path, body, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return Answer(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers), error.read())

    def send(self, body: bytes, token: str, **headers: str) -> Answer:
        """Send a batch."""
        sent = {"Content_Type": "application/msgpack", **headers}
        return self.ask("/api/v1/batches", token, body=body, **sent)


@pytest.fixture(scope="session")
def start_collector(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., CollectorProcess]]:
    """Give a function that starts a collector in a directory of its own."""
    started: list[CollectorProcess] = []

    def start(settings: str = "", **files: str) -> CollectorProcess:
        directory = tmp_path_factory.mktemp("collector")
        for name, content in files.items():
            (directory / name).write_text(content)
        collector = CollectorProcess(directory, settings)
        started.append(collector)
        collector.start()
        return collector

    yield start
    for collector in started:
        if collector.process is not None:
            collector.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def sealed() -> Callable[..., bytes]:
    """Give a function that makes a batch of rows, whose missing fields are filled in."""

    def make(
        rows: list[dict[str, Any]], *, probe_id: str = "edge-1", sequence: int = 1, epoch: int = 1
    ) -> bytes:
        filled = [
            {
                "session_id": f"{sequence * 100_000 + number:016x}",
                "record_kind": "final",
                "capture_point": "s1u",
                "transport": "tcp",
                **row,
            }
            for number, row in enumerate(rows)
        ]
        return codec.seal(
            codec.body_from_rows(filled),
            probe_id=probe_id,
            epoch=epoch,
            sequence=sequence,
            created_at=1_700_000_000_000_000_000,
        )

    return make
