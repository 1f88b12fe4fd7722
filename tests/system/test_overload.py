"""More than the probe may carry, over a real pair of interfaces: down by plan, up by itself.

The probe stands still while the flood fills most of its ring, and is held to a small share of a
core then, so that machines of any speed are too slow for it. The namespace and both interfaces go
with the test.
"""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from probe.record import codec
from tests.support import ROOT
from tests.system.agent import AgentProcess, is_root
from tests.system.frames import closing, exchange, opening

SESSIONS = 3000
ROUNDS = 30


def test_a_flood_is_carried_with_less_and_full_service_comes_back() -> None:
    if not is_root() or shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs root, unshare and ip to make a network namespace")
    words = ["unshare", "--net", "--kill-child", sys.executable, "-m", "tests.system.test_overload"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["steps"][:2] == ["nothing>content", "content>round_trips"], seen
    assert seen["steps"][-2:] == ["round_trips>content", "content>nothing"], seen
    ledger = seen["ledger"]
    assert ledger["dropped_kernel"] == 0, "the flood has to fit the ring, or nothing can be exact"
    assert ledger["received"] == ledger["decoded"] == seen["sent"]
    assert ledger["shed.round_trips"] > 0
    assert (seen["attempts"], seen["sessions"]) == (SESSIONS, SESSIONS)
    assert seen["packets"] == seen["sent"], "no packet of a session goes uncounted"
    assert seen["told"] > 0, "records of affected sessions say so"
    assert any("round_trips" in shed for shed in seen["health"]), "and the health of a batch"
    assert seen["exit_code"] == 0


def _inside() -> dict[str, object]:
    """Run the whole of it; this process is alone in its network namespace."""
    for words in (
        "link set lo up", "link add tap type veth peer name far",
        "link set tap up", "link set far up",
    ):  # fmt: skip
        subprocess.run(["ip", *words.split()], check=True)
    for name in ("tap", "far"):  # no packets of the kernel's own between those of the test
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
    settings = (
        "limits: {cpu_share: 2%, copies: 0}\nattribution: {subscriber_prefixes: [10.0.0.0/8]}\n"
    )
    with tempfile.TemporaryDirectory() as name:
        capture = "{interface: tap, capture_point: tap}"
        with AgentProcess(Path(name), capture, settings) as agent:
            agent.process.send_signal(signal.SIGSTOP)
            sent = _flood()
            agent.process.send_signal(signal.SIGCONT)
            agent.wait_for_log("before=content why=calm")
            code = agent.stop()
            rows = [row for batch in agent.batches() for row in codec.rows(batch)]
            return {
                "sent": sent,
                "steps": [
                    f"{before}>{after}"
                    for after, before in re.findall(
                        r"overload \S+ shed=(\S+) before=(\S+)", agent.log.read_text()
                    )
                ],
                "ledger": agent.ledger(),
                "attempts": sum(row["interval_index"] == 0 for row in rows),
                "sessions": len({row["session_id"] for row in rows}),
                "packets": sum(row["packets_up"] + row["packets_down"] for row in rows),
                "told": sum("round_trips_unsampled" in (row["evidence"] or "") for row in rows),
                "health": [str(batch.health.get("shed", "")) for batch in agent.batches()],
                "exit_code": code,
            }


def _flood() -> int:
    """Send every session at once, as fast as it goes; return the number of packets."""
    sent = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as far:
        far.bind(("far", 0))
        parts = (opening, lambda number: exchange(number, ROUNDS), _closing)
        for part in parts:
            for number in range(SESSIONS):
                for frame in part(number):
                    far.send(frame)
                    sent += 1
    return sent


def _closing(number: int) -> object:
    return closing(number, ROUNDS)


if __name__ == "__main__":
    json.dump(_inside(), sys.stdout)
