"""Engine throughput beside a reference walk over the same captures: `make bench` runs this.

The captures are generated (10 s of a site with 20,000 subscribers, plain and in GTP-U). The walk is
C: mode 1 reads headers, 2 adds a flow table, 3 adds timestamp round trips. The engine is measured
through its own front door, `qoe-probe replay --format msgpack`, the start of Python included.
Packets per CPU-second vary with the neighbours of a shared machine: compare within one run only.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
GENERATOR = Path(os.environ.get("EDGEQOE_SHARED", ROOT.parent / "shared")) / "bench"
DEFAULT_PACKETS = 4_500_000
VIEWS = ("sgi", "s1u")
WALKS = {1: "walk: headers", 2: "walk: and flow table", 3: "walk: and timestamp RTT"}


@dataclass(frozen=True)
class Run:
    """One program over one capture."""

    name: str
    packets_per_cpu_second: float
    cpu_s: float
    wall_s: float
    resident_mb: float


def main() -> int:
    arguments = _arguments()
    if not (GENERATOR / "Makefile").is_file():
        print(f"nothing to measure with: no traffic generator in {GENERATOR}", file=sys.stderr)
        return 1
    output = _traffic(arguments.packets, arguments.output)
    for view in VIEWS:
        _print_table(view, arguments.packets, list(_measure(output, view, arguments)))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Engine throughput beside a reference walk.")
    parser.add_argument("--packets", type=int, default=DEFAULT_PACKETS, help="of each capture")
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many runs counts")
    parser.add_argument("--output", type=Path, default=Path("/tmp/edgeqoe-bench"), help="directory")
    return parser.parse_args()


def _traffic(packets: int, output: Path) -> Path:
    """Return the directory of captures of `packets` packets, made unless they are there."""
    if packets != DEFAULT_PACKETS:
        output = output.with_name(f"{output.name}-{packets}")
    if not all((output / f"{view}.pcap").is_file() for view in VIEWS):
        print(f"generating two captures of {packets} packets in {output}", flush=True)
        words = ["make", "-s", "-C", str(GENERATOR), f"OUT={output}", f"N={packets}", "traffic"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return output


def _measure(output: Path, view: str, arguments: argparse.Namespace) -> Iterator[Run]:
    capture = output / f"{view}.pcap"
    for mode, name in WALKS.items():
        walk = [str(output / "limit"), str(mode), str(capture)]
        yield _best(name, walk, arguments)
    replay = [str(Path(sys.executable).with_name("qoe-probe")), "replay", str(capture)]
    yield _best("qoe-probe replay", [*replay, "--format", "msgpack"], arguments)


def _best(name: str, command: list[str], arguments: argparse.Namespace) -> Run:
    runs = [_run(name, command, arguments.packets) for _ in range(arguments.repeat)]
    return max(runs, key=lambda run: run.packets_per_cpu_second)


def _run(name: str, command: list[str], packets: int) -> Run:
    start = os.times().elapsed
    quiet = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_WRONLY, 0) for fd in (1, 2)]
    child = os.posix_spawn(command[0], command, os.environ, file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed with status {status}")
    cpu_s = usage.ru_utime + usage.ru_stime
    wall_s = os.times().elapsed - start
    return Run(name, packets / cpu_s, cpu_s, wall_s, usage.ru_maxrss / 1024)


def _print_table(view: str, packets: int, runs: list[Run]) -> None:
    print(f"\n{view}.pcap, {packets} packets")
    print(f"{'':26}{'Mpackets / CPU s':>18}{'CPU s':>8}{'wall s':>8}{'RSS MB':>8}{'ratio':>8}")
    reference = runs[-2].packets_per_cpu_second  # the walk that does most
    for run in runs:
        rate = run.packets_per_cpu_second
        print(
            f"{run.name:26}{rate / 1e6:18.2f}{run.cpu_s:8.2f}{run.wall_s:8.2f}"
            f"{run.resident_mb:8.0f}{rate / reference:8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
