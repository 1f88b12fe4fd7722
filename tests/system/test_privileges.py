"""What the agent may do for its whole life, and what it may not, as the kernel sees it."""

import json
import os
import platform
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from probe.health.privileges import Privileges
from tests.support import ROOT, command
from tests.system.agent import AgentProcess, is_root
from tests.system.frames import closing, opening, record

START_NS = 1_790_000_000_000_000_000
FORBIDDEN = (
    "socket_packet", "socket_raw", "execve", "fork", "vfork", "ptrace", "mount", "bpf", "unshare",
    "setuid", "init_module", "kexec_load", "process_vm_readv", "keyctl", "perf_event_open",
    "kill_another", "io_uring_setup", "userfaultfd", "reboot", "chroot", "settimeofday",
)  # fmt: skip


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")
def test_what_the_probe_never_does_fails_in_every_thread() -> None:
    words = [sys.executable, "-m", "tests.system.test_privileges"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    for thread in ("before", "main", "after"):
        assert {name: seen[thread][name] for name in FORBIDDEN} == dict.fromkeys(FORBIDDEN, "EPERM")
        assert seen[thread]["socket_inet"] == "done", "what it does still goes"
        assert seen[thread]["thread"] == "done"


def test_the_agent_works_for_its_whole_life_without_privileges(tmp_path: Path) -> None:
    rules = tmp_path / "map.csv"
    rules.write_text("client_prefix,cell_id\n10.0.0.0/24,001-01-0000001\n")
    settings = f"attribution: {{map: {rules}}}\nlimits: {{memory: 900MB}}\n"
    with AgentProcess(tmp_path, '{file: "-", capture_point: tap}', settings) as agent:
        agent.give(_sessions(range(200), START_NS))
        agent.wait_for_log("system_calls_filtered=yes")
        held = Privileges.of_process(agent.pid)
        assert (held.capabilities, held.no_new_privileges) == (0, True)
        assert held.system_calls_filtered
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for_log("reloaded=yes")
        agent.give(_sessions(range(200, 400), START_NS + 100_000_000_000))
        assert agent.stop() == 0
        assert sum(batch.rows for batch in agent.batches()) == 400
        assert "saved=yes" in agent.log.read_text()
        assert "Operation not permitted" not in agent.log.read_text()


def test_both_can_be_turned_off(tmp_path: Path) -> None:
    settings = "privileges: {drop_capabilities: false, filter_system_calls: false}\n"
    with AgentProcess(tmp_path, '{file: "-", capture_point: tap}', settings) as agent:
        agent.wait_for_log("system_calls_filtered=no")
        assert not Privileges.of_process(agent.pid).system_calls_filtered


def test_root_goes_on_as_the_user_it_is_given(tmp_path: Path) -> None:
    if not is_root():
        pytest.skip("needs root to become another user")
    nobody = pwd.getpwnam("nobody")
    tmp_path.chmod(0o755)
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    spool = tmp_path / "spool"
    spool.mkdir()
    settings = "privileges: {user: nobody}\n"
    agent = AgentProcess(tmp_path, "{interface: lo, capture_point: lo}", settings)
    for path in (spool, tmp_path / "key", tmp_path / "token", agent.config):
        shutil.chown(path, nobody.pw_uid, nobody.pw_gid)
    with agent:
        agent.wait_for_log(f"privileges uid={nobody.pw_uid} capabilities=0x0")
        held = Privileges.of_process(agent.pid)
        assert (held.uid, held.capabilities) == (nobody.pw_uid, 0)
        assert agent.stop() == 0
    assert {path.stat().st_uid for path in spool.rglob("*")} == {nobody.pw_uid}


def test_doctor_tells_what_will_hold(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path, '{file: "-", capture_point: tap}')
    words = [command("qoe-probe"), "doctor", "--config", str(agent.config)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert "ok    capabilities: none once the sockets are open" in done.stdout
    assert "ok    system calls: filtered once the sockets are open" in done.stdout
    if os.geteuid() == 0:
        assert "warn  user: root; set privileges.user" in done.stdout


def _sessions(numbers: range, start_ns: int) -> bytes:
    frames = [frame for number in numbers for frame in (*opening(number), *closing(number))]
    return b"".join(record(frame, start_ns + at * 1_000_000) for at, frame in enumerate(frames))


# ---------------------------------------------------------------- the process that tries everything


def _tried() -> dict[str, str]:
    import ctypes
    import errno
    import socket
    import threading

    libc = ctypes.CDLL(None, use_errno=True)
    numbers = {
        "vfork": 58, "ptrace": 101, "mount": 165, "bpf": 321, "unshare": 272, "setuid": 105,
        "init_module": 175, "kexec_load": 246, "process_vm_readv": 310, "keyctl": 250,
        "perf_event_open": 298, "io_uring_setup": 425, "userfaultfd": 323, "reboot": 169,
        "chroot": 161, "settimeofday": 164,
    }  # fmt: skip
    calls = {
        "socket_packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
        "socket_raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close(),
        "socket_inet": lambda: socket.socket(socket.AF_INET).close(),
        "execve": lambda: os.execv("/bin/true", ["true"]),
        "fork": os.fork,
        "kill_another": lambda: os.kill(os.getppid(), 0),
        "thread": lambda: threading.Thread(target=int).start(),
    }

    def outcome(call: object) -> str:
        try:
            call()  # type: ignore[operator]
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "done"

    def raw(number: int) -> None:
        if libc.syscall(number, 0, 0, 0, 0, 0) < 0:
            raise OSError(ctypes.get_errno(), "refused")

    tried = {name: outcome(call) for name, call in calls.items()}
    return tried | {name: outcome(lambda n=n: raw(n)) for name, n in numbers.items()}  # type: ignore[misc]


def _child() -> dict[str, dict[str, str]]:
    import threading

    from probe.engine import drop_capabilities, filter_system_calls

    seen: dict[str, dict[str, str]] = {}
    go = threading.Event()

    def try_as(name: str) -> None:
        seen[name] = _tried()

    before = threading.Thread(target=lambda: (go.wait(), try_as("before")))
    before.start()
    drop_capabilities()
    filter_system_calls()
    go.set()
    before.join()
    try_as("main")
    after = threading.Thread(target=try_as, args=("after",))
    after.start()
    after.join()
    return seen


if __name__ == "__main__":
    json.dump(_child(), sys.stdout)
