"""`qoe-probe doctor`: can this host capture, keep and ship, and if not, why not?"""

import asyncio
import ctypes
import os
import platform
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import aiohttp
import psutil

from probe.config import InterfaceCapture, ProbeConfig, SpoolConfig, content_problems
from probe.health.offloads import joining_offloads, switch_off_command

_CAP_NET_RAW: Final = 13  # capabilities(7)
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronized
_REACH_TIMEOUT_S: Final = 5.0
_SECCOMP_ACTIONS: Final = Path("/proc/sys/kernel/seccomp/actions_avail")
_FILTERED_MACHINES: Final = ("x86_64", "aarch64", "riscv64")
_FREE_MEMORY_BYTES: Final = 512 << 20  # for capture rings and the engine's tables


class Grade(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    grade: Grade
    what: str
    detail: str


def examine(config: ProbeConfig) -> int:
    """Print a line for each finding; return 1 if anything makes the probe unable to work."""
    findings = [*_findings(config)]
    for finding in findings:
        print(f"{finding.grade:<5} {finding.what}: {finding.detail}", flush=True)
    return 1 if any(finding.grade is Grade.FAIL for finding in findings) else 0


def _findings(config: ProbeConfig) -> Iterator[Finding]:
    for problem in content_problems(config):
        yield Finding(Grade.FAIL, "configuration", problem)
    live = [each for each in config.capture if isinstance(each, InterfaceCapture)]
    if live:
        yield _capability()
    yield from privilege_findings(config)
    for capture in live:
        yield from interface_findings(capture.interface)
    yield _memory()
    yield from spool_findings(config.spool)
    yield from asyncio.run(_collectors(config))
    yield _clock()


# ---------------------------------------------------------------------------------------- capture


def _capability() -> Finding:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    if int(effective.split()[1], 16) >> _CAP_NET_RAW & 1:
        return Finding(Grade.OK, "capability", "CAP_NET_RAW is held")
    advice = "CAP_NET_RAW is missing; run as the systemd unit does, or with sudo"
    return Finding(Grade.FAIL, "capability", advice)


def privilege_findings(config: ProbeConfig) -> Iterator[Finding]:
    """Yield what `run` will still be allowed once its sockets are open."""
    wanted = config.privileges
    if os.geteuid() == 0 and wanted.user is None:
        yield Finding(Grade.WARN, "user", "root; set privileges.user, or run as the systemd unit")
    elif os.geteuid() == 0:
        yield _user(str(wanted.user))
    else:
        yield Finding(Grade.OK, "user", f"uid {os.geteuid()}, not root")
    if wanted.drop_capabilities and wanted.reopen_interfaces:
        detail = "CAP_NET_RAW alone once the sockets are open, for interfaces that come back"
        yield Finding(Grade.OK, "capabilities", detail)
    elif wanted.drop_capabilities:
        yield Finding(Grade.OK, "capabilities", "none once the sockets are open")
    else:
        yield Finding(Grade.WARN, "capabilities", "kept: privileges.drop_capabilities is false")
    if not wanted.filter_system_calls:
        advice = "not filtered: privileges.filter_system_calls is false"
        yield Finding(Grade.WARN, "system calls", advice)
    elif not _SECCOMP_ACTIONS.exists():
        advice = "this kernel has no seccomp filters: set privileges.filter_system_calls to false"
        yield Finding(Grade.FAIL, "system calls", advice)
    elif platform.machine() not in _FILTERED_MACHINES:
        advice = f"no filter for {platform.machine()}: set privileges.filter_system_calls to false"
        yield Finding(Grade.FAIL, "system calls", advice)
    else:
        yield Finding(Grade.OK, "system calls", "filtered once the sockets are open")


def _user(name: str) -> Finding:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return Finding(Grade.FAIL, "user", f"privileges.user: there is no user {name}")
    return Finding(Grade.OK, "user", f"root now, {name} once it runs")


def interface_findings(name: str) -> Iterator[Finding]:
    """Yield what there is to say of the network interface `name`."""
    directory = Path("/sys/class/net") / name
    if not directory.exists():
        known = ", ".join(sorted(path.name for path in directory.parent.iterdir()))
        yield Finding(Grade.FAIL, name, f"there is no such interface; there are: {known}")
        return
    state = (directory / "operstate").read_text(encoding="ascii").strip()
    if state in ("up", "unknown"):  # loopback and tunnels never say up
        yield Finding(Grade.OK, name, f"is {state}")
    else:
        yield Finding(Grade.WARN, name, f"is {state}; set it up with: ip link set {name} up")
    yield _offloads(name)
    yield _drops(name, directory / "statistics")


def _offloads(name: str) -> Finding:
    """Offloads that join packets hide their count, their sizes and their times from a probe."""
    try:
        joined = joining_offloads(name)
    except OSError as error:
        return Finding(Grade.WARN, name, f"offloads cannot be read: {error.strerror}")
    if not joined:
        return Finding(Grade.OK, name, "no offload joins packets")
    command = switch_off_command(name, joined)
    return Finding(
        Grade.WARN, name, f"{', '.join(joined)} joins packets; switch it off with: {command}"
    )


def _drops(name: str, statistics: Path) -> Finding:
    counters = {
        counter: int((statistics / counter).read_text(encoding="ascii"))
        for counter in ("rx_dropped", "rx_missed_errors", "rx_fifo_errors")
    }
    lost = [f"{counter} {value}" for counter, value in counters.items() if value]
    if lost:
        return Finding(Grade.WARN, name, f"the interface has lost packets: {', '.join(lost)}")
    return Finding(Grade.OK, name, "the interface has lost no packet")


def _memory() -> Finding:
    free = int(psutil.virtual_memory().available)
    grade = Grade.OK if free >= _FREE_MEMORY_BYTES else Grade.WARN
    needed = _FREE_MEMORY_BYTES >> 20
    return Finding(
        grade, "memory", f"{free >> 20} MiB available, rings and tables want {needed} MiB"
    )


# ------------------------------------------------------------------------------ keeping and sending


def spool_findings(config: SpoolConfig) -> Iterator[Finding]:
    """Yield whether the spool's directory can be written and has the space it may take."""
    place = next(path for path in (config.path, *config.path.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        yield Finding(Grade.FAIL, "spool", f"{place} cannot be written: {error.strerror}")
        return
    yield Finding(Grade.OK, "spool", f"{place} can be written")
    used = sum(path.stat().st_size for path in config.path.glob("segments/*.seg"))
    room = shutil.disk_usage(place).free + used
    detail = f"{room >> 20} MiB of disk for at most {config.max_size >> 20} MiB"
    yield Finding(Grade.OK if room >= config.max_size else Grade.WARN, "spool", detail)


async def _collectors(config: ProbeConfig) -> list[Finding]:
    timeout = aiohttp.ClientTimeout(total=_REACH_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return [await _collector(session, url) for url in config.collector.urls]


async def _collector(session: aiohttp.ClientSession, url: str) -> Finding:
    try:
        async with session.get(f"{url}/healthz", allow_redirects=False) as response:
            grade = Grade.OK if response.status == 200 else Grade.WARN
            return Finding(grade, "collector", f"{url} answers {response.status}")
    except TimeoutError:
        return Finding(
            Grade.FAIL, "collector", f"{url} gives no answer in {_REACH_TIMEOUT_S:.0f} s"
        )
    except (aiohttp.ClientError, OSError) as error:
        return Finding(Grade.FAIL, "collector", f"{url}: {error}")


def _clock() -> Finding:
    """Ask the kernel whether something disciplines the clock (adjtimex(2), a query only)."""
    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(ctypes.create_string_buffer(512))
    if state < 0:
        return Finding(Grade.WARN, "clock", f"cannot be asked: {os.strerror(ctypes.get_errno())}")
    if state == _TIME_ERROR:
        advice = "is not synchronized; records of several probes will not line up: run chrony"
        return Finding(Grade.WARN, "clock", advice)
    return Finding(Grade.OK, "clock", "is synchronized")
