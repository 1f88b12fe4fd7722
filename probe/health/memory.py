"""How much memory the process may take: tables that fit in it, and a watch on what it takes.

What counts is the process's own memory (RssAnon, proc(5)). Capture rings and the files of the
program come on top; systemd's MemoryMax counts neither against the process alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from probe.config import Limits
from probe.errors import ConfigError

BASE_BYTES: Final = 100 << 20  # Python, libraries, batches on their way, the spool's index
_HELD_ABOVE: Final = 0.95  # of the limit: tables grow no more ...
_FREE_BELOW: Final = 0.85  # ... until this little is taken
_ROUGHLY: Final = 1000  # tables are sized in steps of this many entries


def sized(limits: Limits, bytes_each: Mapping[str, int]) -> Limits:
    """Return `limits` with the tables that were left open sized so that all fit `memory`.

    Tables that are given explicitly keep their size. Raises `ConfigError` if those, or the least
    that a table can be, do not fit.
    """
    if limits.memory is None:
        return limits
    given = {name for name in bytes_each if name in limits.model_fields_set}
    taken = BASE_BYTES + limits.reassembly_bytes + _bytes(limits, given, bytes_each)
    open_tables = bytes_each.keys() - given
    wanted = _bytes(limits, open_tables, bytes_each)
    share = (limits.memory - taken) / wanted if wanted else 1.0
    if share < _LEAST_SHARE or (not open_tables and taken > limits.memory):
        least = taken + int(wanted * _LEAST_SHARE)
        raise ConfigError(
            [
                f"limits.memory: {limits.memory >> 20} MiB is too little for the tables; allowed: "
                f"at least {(least >> 20) + 1} MiB, or smaller tables"
            ]
        )
    sizes = {name: _scaled(getattr(limits, name), share) for name in open_tables}
    return limits.model_copy(update=sizes)


_LEAST_SHARE: Final = 0.02  # of the default sizes: 10,000 flows
_MOST: Final = 50_000_000
_MOST_COPIES: Final = 1 << 24


def _scaled(entries: int, share: float) -> int:
    return max(16, min(int(entries * share) // _ROUGHLY * _ROUGHLY, _MOST_COPIES))


def _bytes(limits: Limits, tables: set[str], bytes_each: Mapping[str, int]) -> int:
    return sum(getattr(limits, name) * bytes_each[name] for name in tables)


def own_bytes(pid: int | str = "self") -> int:
    """Return the process's own resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    return 0


class MemoryWatch:
    """Says when memory is short, with a gap between the two lines so that it does not flutter."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self.is_short = False

    def look(self, taken: int) -> bool:
        """Take in what is taken now; return whether that changed anything."""
        if self._limit is None:
            return False
        line = _FREE_BELOW if self.is_short else _HELD_ABOVE
        before, self.is_short = self.is_short, taken > self._limit * line
        return self.is_short != before
