"""Namespaces with a TUN device each, and the relay between them."""

import contextlib
import ctypes
import functools
import itertools
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.system.laboratory.plan import Plan
from tests.system.laboratory.truth import Log, read_log

ROOT = Path(__file__).resolve().parents[3]
DEVICE = "lab0"
MTU = 1500
PREFIXES = {"client": ("10.1.0.0/16", "fd01::/64"), "server": ("10.2.0.0/16", "fd02::/64")}
_ETC = Path("/etc/netns")
RELAY_ENDS_WITHIN_S = 60.0

# Every sysctl is of the namespace. Without metrics that outlive a connection, flows do not depend
# on those before them; without rate limits each error that is due is sent.
_SYSCTL: dict[str, str | int] = {
    "net/ipv4/tcp_no_metrics_save": 1,
    "net/ipv4/icmp_ratelimit": 0,
    "net/ipv6/icmp/ratelimit": 0,
    "net/ipv4/ip_nonlocal_bind": 1,
    "net/ipv6/ip_nonlocal_bind": 1,
    "net/ipv6/conf/all/accept_dad": 0,
    "net/ipv6/conf/default/accept_dad": 0,
    "net/ipv6/conf/all/disable_ipv6": 0,
    "net/ipv6/conf/default/disable_ipv6": 0,
    "net/ipv6/conf/default/router_solicitations": 0,
    "net/ipv6/conf/default/accept_ra": 0,
    "net/ipv6/conf/default/addr_gen_mode": 1,
    "net/ipv4/ping_group_range": "0 2147483647",
}


def client_address(number: int, version: int = 4) -> str:
    """Return the client address of that number, from 1 to 65534."""
    return _address(1, number, version)


def server_address(number: int, version: int = 4) -> str:
    """Return the server address of that number, from 1 to 65534."""
    return _address(2, number, version)


def _address(end: int, number: int, version: int) -> str:
    if not 1 <= number <= 65534:
        raise ValueError(f"addresses are numbered from 1 to 65534, not {number}")
    if version == 6:
        return f"fd0{end}::{number:x}"
    return f"10.{end}.{number >> 8}.{number & 255}"


@functools.cache
def unavailable() -> str | None:
    """Return why this host can make no laboratory, or None if it can."""
    if os.geteuid() != 0:
        return "a laboratory needs root to make network namespaces"
    if shutil.which("ip") is None:
        return "a laboratory needs ip (iproute2)"
    if not Path("/dev/net/tun").exists():
        return "a laboratory needs /dev/net/tun"
    name = f"lab-{os.getpid()}-try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode != 0:
        return f"this host makes no network namespaces: {made.stderr.decode().strip()}"
    tun = ["ip", "-n", name, "tuntap", "add", "dev", DEVICE, "mode", "tun"]
    made = subprocess.run(tun, capture_output=True, check=False)
    subprocess.run(["ip", "netns", "delete", name], check=False)
    return None if made.returncode == 0 else f"no TUN devices here: {made.stderr.decode().strip()}"


def enter(name: str) -> None:
    """Move the calling thread, for good, into the network namespace `name`."""
    with Path("/run/netns", name).open("rb") as file:
        _setns(file.fileno())


def _setns(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, 0x40000000) != 0:  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "setns")


class Namespace:
    """One end of the laboratory: `client` or `server`."""

    def __init__(self, end: str) -> None:
        self.end = end
        self.name = f"lab-{os.getpid()}-{next(_numbers)}-{end}"
        self._etc = _ETC / self.name
        self._processes: list[subprocess.Popen[Any]] = []

    def run(
        self, words: list[str | Path], timeout: float = 30.0, **options: Any
    ) -> subprocess.CompletedProcess[Any]:
        """Run a command in the namespace and wait for it; it is killed after `timeout` seconds.

        Keywords are those of `subprocess.run`; output is captured unless they say otherwise.
        """
        if not {"stdout", "stderr", "capture_output"} & options.keys():
            options["capture_output"] = True
        options.setdefault("check", False)
        return subprocess.run(self._inside(words), timeout=timeout, **options)  # noqa: PLW1510

    def popen(self, words: list[str | Path], **options: Any) -> subprocess.Popen[Any]:
        """Start a command in the namespace; it and its children end with the laboratory."""
        process = subprocess.Popen(self._inside(words), start_new_session=True, **options)
        self._processes.append(process)
        return process

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Have the calling thread in the namespace; sockets made here stay there."""
        with Path("/proc/thread-self/ns/net").open("rb") as home:
            enter(self.name)
            try:
                yield
            finally:
                _setns(home.fileno())

    def wait_for_port(self, address: str, port: int, timeout: float = 10.0) -> None:
        """Wait until a server in the namespace accepts TCP connections; none crosses the relay."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                with self.entered():
                    socket.create_connection((address, port), timeout=1.0).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def sysctl(self, key: str, value: str | int) -> None:
        """Set /proc/sys/`key` of the namespace."""
        with self.entered():
            Path("/proc/sys", key).write_text(f"{value}\n")

    def set_up(self, sysctl: dict[str, str | int], resolver: str) -> None:
        """Make the namespace, in which all of this end's addresses are local."""
        self._etc.mkdir(parents=True)  # `ip netns exec` shows these files as those of /etc
        (self._etc / "resolv.conf").write_text(f"nameserver {resolver}\n")
        _ip("netns", "add", self.name)
        for key, value in (_SYSCTL | sysctl).items():
            self.sysctl(key, value)
        v4, v6 = PREFIXES[self.end]
        first = v4.replace("0.0/16", "0.1/32")
        lines = f"""\
tuntap add dev {DEVICE} mode tun
link set {DEVICE} mtu {MTU} txqueuelen 20000
link set lo up
address add {first} dev lo
address add {v6.replace("/64", "1/128")} dev lo
link set {DEVICE} up
route add local {v4} dev lo
route add local {v6} dev lo
route add default dev {DEVICE}
route add ::/0 dev {DEVICE}
"""
        words = ["ip", "-n", self.name, "-batch", "-"]
        subprocess.run(words, input=lines.encode(), check=True, timeout=20)

    def kernel_drops(self) -> int:
        """Return how many packets the kernel dropped before the relay read them."""
        with self.entered():
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
        (columns,) = [line.split(":")[1].split() for line in lines if DEVICE in line]
        return int(columns[11])

    def remove(self) -> None:
        """End what was started in here, and the namespace."""
        for process in self._processes:
            _end(process)
        _delete(self.name)

    def _inside(self, words: list[str | Path]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *map(str, words)]


class Laboratory:
    """Two namespaces, `client` and `server`, and the relay between them.

    Within the `with` block, programs run over it. After it (or after `stop`), `capture` is what the
    relay mirrored (pcap, nanoseconds, raw IP) and `log` is what it did to each packet.
    """

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan = plan
        self.directory = directory
        self.capture = directory / "tap.pcap"
        self.client = Namespace("client")
        self.server = Namespace("server")
        self.kernel_drops = 0
        """Packets that the kernel dropped before the relay read them; the log lacks them."""
        self._relay: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Laboratory":
        _remove_leftovers()
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self.client.set_up(self.plan.client_sysctl, self.plan.resolver)
            self.server.set_up(self.plan.server_sysctl, self.plan.resolver)
            self._start_relay()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._remove()

    def stop(self, settle_s: float = 0.3) -> None:
        """End the relay once what is under way had `settle_s`; capture and log are whole then."""
        relay = self._relay
        if relay is None:
            return
        self._relay = None
        time.sleep(settle_s)
        self.kernel_drops = self.client.kernel_drops() + self.server.kernel_drops()
        relay.stdin.close()
        try:
            code = relay.wait(timeout=RELAY_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            relay.kill()
            code = relay.wait()
        if code != 0:
            raise RuntimeError(f"the relay failed: {self._relay_errors()}")

    @functools.cached_property
    def log(self) -> Log:
        """What became of each packet, in order of arrival. Stops the relay if it still runs."""
        self.stop()
        return read_log(self.directory / "relay.log")

    def _start_relay(self) -> None:
        words = [sys.executable, "-m", "tests.system.laboratory.relay"]
        words += [self.client.name, self.server.name, str(self.directory.resolve())]
        with (self.directory / "relay.err").open("wb") as errors:
            relay = subprocess.Popen(
                words,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._relay = relay
        plan = pickle.dumps(self.plan)
        relay.stdin.write(len(plan).to_bytes(4) + plan)
        relay.stdin.flush()
        if relay.stdout.readline() != b"ready\n":  # the relay ends by itself if it cannot start
            raise RuntimeError(f"the relay did not start: {self._relay_errors()}")

    def _relay_errors(self) -> str:
        return (self.directory / "relay.err").read_text(errors="replace").strip()

    def _remove(self) -> None:
        if self._relay is not None:
            self._relay.kill()
            self._relay.wait()
            self._relay = None
        self.client.remove()
        self.server.remove()


_numbers = itertools.count(1)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=20)


def _delete(name: str) -> None:
    """Delete a laboratory's namespace, and end what still runs in it."""
    words = ["ip", "netns", "pids", name]
    listed = subprocess.run(words, capture_output=True, text=True, check=False)
    for pid in listed.stdout.split():  # daemons that left their group
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    shutil.rmtree(_ETC / name, ignore_errors=True)


def _end(process: subprocess.Popen[Any]) -> None:
    """End a process and its group: asked first, killed after two seconds."""
    for order, wait_s in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, order)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=wait_s)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _remove_leftovers() -> None:
    """Remove namespaces of laboratories whose process was killed."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        made = re.fullmatch(r"lab-(\d+)-.*", name)
        if made and not Path("/proc", made[1]).exists():
            _delete(name)
