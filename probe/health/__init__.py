"""The probe host's health, measured once for each batch.

One snapshot costs about a millisecond: a few reads of /proc and one `statvfs`. A value that
the host does not give is left out; no clock offset is claimed, since nothing here measures it.
"""

import os
import time
from pathlib import Path
from typing import Any

import psutil

from probe import __version__


class HealthMeter:
    """Takes snapshots of this process and its host. Use it from one thread."""

    def __init__(self, spool_path: Path) -> None:
        self._spool_path = spool_path
        self._process = psutil.Process()
        self._started = time.monotonic()
        self._process.cpu_percent()  # the first call only sets the start of the measured span
        psutil.cpu_percent()

    def snapshot(self) -> dict[str, Any]:
        """Return the health map of a batch; units stand in the names.

        `process_cpu_percent` and `host_cpu_percent` cover the time since the snapshot before.
        """
        health: dict[str, Any] = {
            "version": __version__,
            "uptime_s": int(time.monotonic() - self._started),
            "host_cpu_percent": psutil.cpu_percent(),
            "host_memory_percent": psutil.virtual_memory().percent,
            "load_1m": os.getloadavg()[0],
            "cpus": os.cpu_count() or 1,
        }
        with self._process.oneshot():
            health["process_cpu_percent"] = self._process.cpu_percent()
            health["rss_bytes"] = self._process.memory_info().rss
            health["open_files"] = self._process.num_fds()
            health["threads"] = self._process.num_threads()
        health |= _spool_space(self._spool_path)
        temperature = _hottest()
        return health if temperature is None else health | {"temperature_c": temperature}


def _spool_space(path: Path) -> dict[str, int]:
    try:
        space = os.statvfs(path)
    except OSError:
        return {}
    return {
        "spool_free_bytes": space.f_bavail * space.f_frsize,
        "spool_free_files": space.f_favail,
    }


def _hottest() -> float | None:
    """Return the highest temperature any sensor of the host shows, degrees Celsius."""
    try:
        sensors = psutil.sensors_temperatures()
    except (AttributeError, OSError, RuntimeError):
        return None
    readings = [reading.current for group in sensors.values() for reading in group]
    return max(readings, default=None)
