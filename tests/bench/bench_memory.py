"""Memory of the whole agent by concurrent flows: `make bench-memory` runs this.

An agent takes frames from standard input: TCP connections that shake hands, exchange two segments
and fall silent, each of its own client and port. Its memory is read while all of them live. RSS is
what the process holds, program files included; bytes per flow are of its own memory (RssAnon), the
difference to the agent without a flow, all tables included. There is no capture ring.
"""

import argparse
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.system.agent import AgentProcess  # noqa: E402
from tests.system.frames import exchange, opening, record  # noqa: E402

START_NS = 1_790_000_000_000_000_000
APART_NS = 10_000  # a million flows in 70 s, of which none is idle for long enough to end
PER_PIECE = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description="Memory of the agent by concurrent flows.")
    parser.add_argument("--flows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    arguments = parser.parse_args()
    print(f"{'flows':>10}{'RSS MiB':>10}{'own MiB':>10}{'bytes per flow':>16}")
    idle = _measure(0)
    _print(0, idle, idle)
    for flows in arguments.flows:
        _print(flows, _measure(flows), idle)
    return 0


def _print(flows: int, memory: tuple[int, int], idle: tuple[int, int]) -> None:
    each = f"{(memory[1] - idle[1]) / flows:.0f}" if flows else ""
    print(f"{flows:>10}{memory[0] / 2**20:>10.1f}{memory[1] / 2**20:>10.1f}{each:>16}", flush=True)


def _measure(flows: int) -> tuple[int, int]:
    """Return (RSS, own memory) of an agent with so many live flows, in bytes."""
    limits = f"limits: {{flows: {max(flows, 1000) * 11 // 10}, clients: 500000, pairs: 500000}}\n"
    with tempfile.TemporaryDirectory() as name:
        agent = AgentProcess(Path(name), '{file: "-", capture_point: tap}', limits, port=18643)
        with agent:
            for piece in _pieces(flows):
                agent.give(piece)
            agent.wait(lambda: _live() >= flows - PER_PIECE, "the flows to live")
            time.sleep(1.0)
            memory = agent.resident_bytes("VmRSS"), agent.resident_bytes("RssAnon")
            agent.process.kill()
    return memory


def _pieces(flows: int) -> Iterator[bytes]:
    time_ns = START_NS
    for first in range(0, flows, PER_PIECE):
        records: list[bytes] = []
        for number in range(first, min(first + PER_PIECE, flows)):
            for frame in (*opening(number), *exchange(number, 1)):
                time_ns += APART_NS
                records.append(record(frame, time_ns))
        yield b"".join(records)
    # What is read is read in larger pieces than these: the last flows wait for what follows them.


def _live() -> float:
    with urllib.request.urlopen("http://127.0.0.1:18643/metrics", timeout=30) as page:
        for line in page.read().decode().splitlines():
            if line.startswith("qoe_probe_engine_flows_live_total "):
                return float(line.split()[1])
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
