"""An agent of its own, fed with frames or with an interface, and what it says of itself."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zstandard

from probe.record import codec
from probe.spool.survey import survey
from tests.support import ROOT, command
from tests.system.frames import PCAP_HEADER

DEADLINE_S = 60.0


class AgentProcess:
    """`qoe-probe run`; without a collector what it has to say stays in its spool.

    `settings` is YAML that stands beside the fixed part of the configuration. With the capture
    `-` it takes frames from `stdin`.
    """

    def __init__(
        self,
        directory: Path,
        capture: str,
        settings: str = "",
        port: int = 0,
        collector: str = "http://127.0.0.1:9",
    ) -> None:
        self._directory = directory
        self._reads_stdin = '"-"' in capture
        self.log = directory / "probe.log"
        for name in ("key", "token"):
            (directory / name).touch(mode=0o600)
            (directory / name).write_text("secret-of-this-test")
        self.config = directory / "probe.yaml"
        self.config.write_text(
            f"probe_id: tested\ncapture: [{capture}]\nsite_key_file: key\nspool: {{path: spool}}\n"
            f'collector: {{urls: ["{collector}"], token_file: token, batch_interval: 1s,'
            f" stop_timeout: 1s}}\nmetrics: {{listen: 127.0.0.1:{port}}}\n" + settings
        )

    def __enter__(self) -> Self:
        words = [command("qoe-probe"), "run", "--config", str(self.config)]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                words, cwd=ROOT, stdin=subprocess.PIPE, stderr=output, stdout=output
            )
        if self._reads_stdin:
            self.give(PCAP_HEADER)  # it is not open before
        self.wait_for_log("started=yes")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=DEADLINE_S)

    @property
    def pid(self) -> int:
        return self.process.pid

    def give(self, data: bytes) -> None:
        """Write to the agent's standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def stop(self) -> int:
        """Ask for a clean stop and return the exit code."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=DEADLINE_S)

    def wait_for_log(self, text: str, times: int = 1) -> None:
        self.wait(lambda: self.log.read_text().count(text) >= times, f"{text!r} in the log")

    def wait(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not true():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise TimeoutError(f"waited in vain for {what}: {self.log.read_text()}")
            time.sleep(0.05)

    def resident_bytes(self, field: str = "VmRSS") -> int:
        """Return what the process holds in memory (proc(5), status)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition(f"{field}:")[2].split()[0]) << 10

    def batches(self) -> Iterator[codec.Batch]:
        """Yield the batches in the spool."""
        unpacker = zstandard.ZstdDecompressor()
        for pending in survey(self._directory / "spool", payloads=True).pending:
            assert pending.payload is not None
            plain = unpacker.decompress(pending.payload, max_output_size=codec.MAX_DECODED_BYTES)
            yield codec.decode(plain)

    def ledger(self) -> dict[str, Any]:
        """Return the sums of the ledger; those by reason as `shed.content`."""
        sums: dict[str, Any] = {}
        for batch in self.batches():
            for entry in batch.ledger:
                for name, value in _flat(entry):
                    sums[name] = sums.get(name, 0) + value
        return sums


def _flat(entry: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for name, value in entry.items():
        if isinstance(value, int):
            yield name, value
        elif isinstance(value, dict):
            yield from ((f"{name}.{reason}", packets) for reason, packets in value.items())


def is_root() -> bool:
    return os.geteuid() == 0 and sys.platform == "linux"
