"""Flow churn for a while: the agent's memory has to be flat once its tables have seen all there is.

20 seconds as a test; `EDGEQOE_SOAK_SECONDS=600` (make soak) for the ten minutes that count. Memory
is told while it runs with `-s`.
"""

import contextlib
import http.server
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.system.agent import AgentProcess
from tests.system.frames import closing, exchange, opening, record

SECONDS = float(os.environ.get("EDGEQOE_SOAK_SECONDS", "20"))
START_NS = 1_790_000_000_000_000_000
LIVE = 2000  # sessions open at once ...
ROUND = 1000  # ... of which so many end, and as many begin, in each round
APART_NS = 20_000_000_000  # packet time of a round: closed flows are forgotten after 15 s
LAST_NUMBER = 1 << 24  # clients are 10.0.0.0/8
# A table that leaks a kilobyte for each session grows by thousands of these.
MIB_PER_MINUTE = 6.0
WARM_UP = 0.4  # of the time: tables and the allocator reach their size


def test_memory_is_flat_under_churn(tmp_path: Path) -> None:
    readings: list[tuple[float, float]] = []
    settings = "limits: {flows: 20000, clients: 20000, pairs: 20000, names: 20000, copies: 4096}\n"
    settings = settings.replace("}", ", shedding: nothing}")
    capture = '{file: "-", capture_point: tap}'
    with (
        _collector() as url,
        AgentProcess(tmp_path, capture, settings, collector=url) as agent,
    ):
        start = time.monotonic()
        sessions = 0
        for piece in _churn():
            agent.give(piece)
            sessions += ROUND
            elapsed = time.monotonic() - start
            if not readings or elapsed - readings[-1][0] >= SECONDS / 60:
                mib = agent.resident_bytes("RssAnon") / (1 << 20)
                readings.append((elapsed, mib))
                print(f"{elapsed:6.1f} s {sessions:9} sessions {mib:7.1f} MiB", flush=True)
            if elapsed > SECONDS:
                break
        assert agent.stop() == 0
        settled = [reading for reading in readings if reading[0] > SECONDS * WARM_UP]
        assert sessions > LIVE * 5, "too few sessions came and went to tell"
        slope = _slope(settled) * 60
        noise = 8.0 * 60 / SECONDS  # a batch more or less in hand at either end
        assert slope < max(MIB_PER_MINUTE * min(1, 60 / SECONDS), noise), readings


class _Taker(http.server.BaseHTTPRequestHandler):
    """A collector that has everything, so that the spool stays empty."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"duplicate": false}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def _collector() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Taker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _churn() -> Iterator[bytes]:
    """Yield rounds of packets in which the oldest sessions end and new ones begin."""
    now_ns = START_NS
    number = 0
    while True:
        frames: list[bytes] = []
        for new in range(number, number + ROUND):
            frames += [*opening(new % LAST_NUMBER), *exchange(new % LAST_NUMBER, 2)]
            if (old := new - LIVE) >= 0:
                frames += closing(old % LAST_NUMBER, 2)
        apart_ns = APART_NS // len(frames)
        yield b"".join(record(frame, now_ns + at * apart_ns) for at, frame in enumerate(frames))
        number += ROUND
        now_ns += APART_NS


def _slope(readings: list[tuple[float, float]]) -> float:
    """Return MiB per second by least squares."""
    mean_x = sum(x for x, _ in readings) / len(readings)
    mean_y = sum(y for _, y in readings) / len(readings)
    spread = sum((x - mean_x) ** 2 for x, _ in readings)
    return sum((x - mean_x) * (y - mean_y) for x, y in readings) / spread
