"""Live capture: an agent on an interface of a network namespace, real sockets, a real collector.

The namespace holds nothing but a loopback interface and goes with the test.
"""

import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from tests.collector.conftest import CollectorProcess
from tests.support import ROOT, command

REQUESTS = 7


def test_live_sessions_reach_the_collector_and_a_stop_loses_none() -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs root, unshare and ip to make a network namespace")
    words = ["unshare", "--net", "--kill-child", sys.executable, "-m", "tests.system.test_live"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["probe_exit_code"] == 0, seen
    assert seen["sessions"] == REQUESTS
    assert seen["rings"]
    assert all("dd" in flags for flags in seen["rings"]), "a core file would hold packets"
    assert seen["ledger"]["dropped_kernel"] == 0
    assert seen["ledger"]["received"] == seen["ledger"]["decoded"]


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"x" * 5000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: standard output belongs to the result."""


def _probe_config(directory: Path, collector: CollectorProcess) -> Path:
    for name, secret in (("key", "a key"), ("token", collector.token("probe", "live"))):
        (directory / name).touch(mode=0o600)
        (directory / name).write_text(secret)
    config = directory / "probe.yaml"
    config.write_text(
        f"""\
probe_id: live
capture:
  - {{interface: lo, capture_point: lo}}
site_key_file: key
spool: {{path: spool}}
collector: {{urls: ["{collector.url}"], token_file: token, batch_interval: 1s}}
metrics: {{listen: 127.0.0.1:0}}
"""
    )
    return config


def _wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in log.read_text():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{text!r} did not appear in: {log.read_text()}")
        time.sleep(0.05)


def _rings(pid: int) -> list[list[str]]:
    """Return the flags of each packet ring in the memory of a process (proc(5), VmFlags)."""
    areas = re.findall(
        r"^[0-9a-f]+-[0-9a-f]+ .*socket:.*\n(?:.*\n)+?VmFlags:(.*)$",
        Path(f"/proc/{pid}/smaps").read_text(),
        re.MULTILINE,
    )
    return [flags.split() for flags in areas]


def _traffic() -> int:
    """Fetch a page some times over connections of their own; return the server's port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for _ in range(REQUESTS):
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=10) as page:
            assert len(page.read()) == 5000
    server.shutdown()
    return server.server_port


def _sessions(collector: CollectorProcess, server_port: int) -> int:
    """Count the stored sessions to `server_port`: the agent's own connection is seen too."""
    subscribers = collector.ask("/api/v1/subscribers?from=0&to=now").json["data"]
    (subscriber,) = [entry["subscriber_id"] for entry in subscribers]
    path = f"/api/v1/subscribers/{subscriber}/sessions?from=0&to=now&limit=1000"
    records = collector.ask(path).json["data"]
    return sum(
        record["server_port"] == server_port and record["interval_index"] == 0 for record in records
    )


def _inside() -> dict[str, object]:
    """Run the whole of it; this process is alone in its network namespace."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        collector = CollectorProcess(directory, "open_on_loopback: true\n")
        collector.start()
        log = directory / "probe.log"
        words = [command("qoe-probe"), "run", "--config", _probe_config(directory, collector)]
        with log.open("wb") as output:
            probe = subprocess.Popen(words, stderr=output)
        _wait_for(log, "started=yes")
        rings = _rings(probe.pid)
        server_port = _traffic()
        time.sleep(0.5)  # the ring hands over a block that is not full after 100 ms
        probe.send_signal(signal.SIGTERM)
        code = probe.wait(timeout=60)
        sessions = _sessions(collector, server_port)
        probes = collector.ask("/api/v1/probes").json["data"]
        collector.stop()
        return {
            "probe_exit_code": code,
            "sessions": sessions,
            "rings": rings,
            "ledger": probes[0]["ledger"]["lo"],
        }


if __name__ == "__main__":
    json.dump(_inside(), sys.stdout)
