"""What the threads of a process may do, as the kernel tells it (proc(5), status)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FILTERED: Final = 2  # Seccomp: 0 none, 1 strict, 2 filter


@dataclass(frozen=True)
class Privileges:
    """The most that any thread of the process may do."""

    uid: int
    capabilities: int  # effective and permitted ones, a bit each (capabilities(7))
    no_new_privileges: bool
    system_calls_filtered: bool

    @classmethod
    def of_process(cls, pid: int | str = "self") -> "Privileges":
        """Read what holds for all threads of a process now."""
        threads = [_fields(path) for path in _threads(pid)]
        capabilities = 0
        for fields in threads:
            capabilities |= int(fields["CapEff"], 16) | int(fields["CapPrm"], 16)
        return cls(
            uid=int(threads[0]["Uid"].split()[1]),
            capabilities=capabilities,
            no_new_privileges=all(fields["NoNewPrivs"] == "1" for fields in threads),
            system_calls_filtered=all(int(fields["Seccomp"]) == _FILTERED for fields in threads),
        )


def _threads(pid: int | str) -> Iterator[Path]:
    return Path(f"/proc/{pid}/task").glob("*/status")


def _fields(status: Path) -> dict[str, str]:
    lines = status.read_text(encoding="utf-8", errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
