"""The engine beside its peers and a reference walk, over the same captures: `make bench` runs this.

The captures are generated (10 s of a site with 20,000 subscribers, plain and in GTP-U). The walk is
C: mode 1 reads headers, 2 adds a flow table, 3 adds timestamp round trips. The engine is measured
through its own front door, `qoe-probe replay --format msgpack`, the start of Python included. Peers
are run where they are installed; docs/performance.md says what each of them measures.

Packets per CPU-second vary with the neighbours of a shared machine: compare within one run only.
Instructions (user mode) do not; they come from callgrind, and the start of a program is taken off
by the difference between two captures. Callgrind runs code as a processor without SHA instructions
would.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
GENERATOR = Path(os.environ.get("EDGEQOE_SHARED", ROOT.parent / "shared")) / "bench"
DEFAULT_PACKETS = 4_500_000
COUNTED_PACKETS = (200_000, 600_000)  # captures between which instructions are counted
SLOW_PACKETS = 200_000  # a peer that takes minutes for millions reads so many
VIEWS = ("sgi", "s1u")
WALKS = {1: "walk: headers", 2: "walk: and flow table", 3: "walk: and timestamp RTT"}
ENGINE = "qoe-probe replay"


@dataclass(frozen=True)
class Peer:
    """Another program over the same packets."""

    words: tuple[str, ...]  # CAPTURE stands for the file
    views: tuple[str, ...] = ("sgi",)  # most see a tunnel's outer header only
    is_slow: bool = False


PEERS = {
    "softflowd": Peer(("softflowd", "-r", "CAPTURE")),
    "argus": Peer(("argus", "-r", "CAPTURE", "-w", "/dev/null")),
    "mercury": Peer(("mercury", "-r", "CAPTURE", "-f", "/dev/null")),
    "tcptrace": Peer(("tcptrace", "-l", "-r", "-n", "CAPTURE"), is_slow=True),
    "nfstream": Peer(
        (
            sys.executable,
            "-c",
            "import sys, nfstream\nfor _ in nfstream.NFStreamer(sys.argv[1], n_meters=1): pass",
            "CAPTURE",
        ),
        is_slow=True,
    ),
    "tshark": Peer(
        (
            *("tshark", "-n", "-r", "CAPTURE", "-T", "fields"),
            *("-e", "tcp.analysis.ack_rtt", "-e", "tcp.analysis.retransmission"),
            *("-e", "tls.handshake.extensions_server_name"),
        ),
        views=VIEWS,
        is_slow=True,
    ),
}


@dataclass(frozen=True)
class Run:
    """One program over one capture."""

    name: str
    packets_per_cpu_second: float
    cpu_s: float
    wall_s: float
    resident_mb: float
    instructions_per_packet: float | None = None


def main() -> int:
    arguments = _arguments()
    if not (GENERATOR / "Makefile").is_file():
        print(f"nothing to measure with: no traffic generator in {GENERATOR}", file=sys.stderr)
        return 1
    if arguments.instructions and shutil.which("valgrind") is None:
        print("instructions are not counted: valgrind is not installed", file=sys.stderr)
        arguments.instructions = False
    for view in VIEWS:
        _print_table(view, arguments.packets, list(_measure(view, arguments)))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The engine beside its peers.")
    parser.add_argument("--packets", type=int, default=DEFAULT_PACKETS, help="of each capture")
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many runs counts")
    parser.add_argument("--output", type=Path, default=Path("/tmp/edgeqoe-bench"), help="directory")
    parser.add_argument("--no-peers", action="store_true", help="measure the engine and the walk")
    parser.add_argument("--instructions", action="store_true", help="count them too, by callgrind")
    return parser.parse_args()


def capture_of(view: str, packets: int, output: Path) -> Path:
    """Return the capture of `packets` packets of a view, made unless it is there."""
    if packets != DEFAULT_PACKETS:
        output = output.with_name(f"{output.name}-{packets}")
    capture = output / f"{view}.pcap"
    if not capture.is_file():
        print(f"generating two captures of {packets} packets in {output}", flush=True)
        words = ["make", "-s", "-C", str(GENERATOR), f"OUT={output}", f"N={packets}", "traffic"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return capture


def programs(view: str, output: Path, *, peers: bool) -> Iterator[tuple[str, Peer]]:
    """Yield what there is to run over a view, the reference walk and the engine first."""
    for mode, name in WALKS.items():
        yield name, Peer((str(output / "limit"), str(mode), "CAPTURE"))
    probe = str(Path(sys.executable).with_name("qoe-probe"))
    yield ENGINE, Peer((probe, "replay", "CAPTURE", "--format", "msgpack"))
    if peers:
        known = PEERS.items()
        yield from ((name, peer) for name, peer in known if view in peer.views and _is_here(peer))


def _is_here(peer: Peer) -> bool:
    if peer.words[0] != sys.executable:
        return shutil.which(peer.words[0]) is not None
    return importlib.util.find_spec("nfstream") is not None


def _measure(view: str, arguments: argparse.Namespace) -> Iterator[Run]:
    capture = capture_of(view, arguments.packets, arguments.output)
    for name, program in programs(view, capture.parent, peers=not arguments.no_peers):
        packets, file = arguments.packets, capture
        if program.is_slow and packets > SLOW_PACKETS:
            packets = SLOW_PACKETS
            file = capture_of(view, packets, arguments.output)
        instructions = None
        if arguments.instructions and not program.is_slow:
            instructions = _instructions_per_packet(view, program, arguments.output)
        runs = [
            _run(name, _command(program, file), packets, instructions)
            for _ in range(arguments.repeat)
        ]
        yield max(runs, key=lambda run: run.packets_per_cpu_second)


def _command(program: Peer, capture: Path) -> list[str]:
    return [str(capture) if word == "CAPTURE" else word for word in program.words]


def _run(name: str, command: list[str], packets: int, instructions: float | None) -> Run:
    start = os.times().elapsed
    quiet = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_WRONLY, 0) for fd in (1, 2)]
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed with status {status}")
    cpu_s = usage.ru_utime + usage.ru_stime
    wall_s = os.times().elapsed - start
    return Run(name, packets / cpu_s, cpu_s, wall_s, usage.ru_maxrss / 1024, instructions)


def _instructions_per_packet(view: str, program: Peer, output: Path) -> float | None:
    few, many = (
        instructions(_command(program, capture_of(view, packets, output)))
        for packets in COUNTED_PACKETS
    )
    if few is None or many is None:
        return None
    return (many - few) / (COUNTED_PACKETS[1] - COUNTED_PACKETS[0])


def instructions(command: list[str]) -> int | None:
    """Return the instructions that a program takes in user mode, as callgrind counts them.

    None where callgrind does not know an instruction of the program, as of one built for this
    very processor.
    """
    # What the script at the front of `qoe-probe` would start is started by name: an interpreter.
    front = [sys.executable] if command[0].endswith("qoe-probe") else []
    words = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *front, *command]
    done = subprocess.run(
        words, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    collected = re.search(r"Collected : (\d+)", done.stderr)
    return int(collected[1]) if done.returncode == 0 and collected is not None else None


def _print_table(view: str, packets: int, runs: list[Run]) -> None:
    print(f"\n{view}.pcap, {packets} packets")
    print(
        f"{'':26}{'Mpackets / CPU s':>18}{'CPU s':>8}{'wall s':>8}{'RSS MB':>8}{'ratio':>8}"
        f"{'instr / packet':>16}"
    )
    reference = next(run for run in runs if run.name == ENGINE).packets_per_cpu_second
    for run in runs:
        rate, counted = run.packets_per_cpu_second, run.instructions_per_packet
        print(
            f"{run.name:26}{rate / 1e6:18.2f}{run.cpu_s:8.2f}{run.wall_s:8.2f}"
            f"{run.resident_mb:8.0f}{rate / reference:8.2f}"
            f"{'' if counted is None else f'{counted:,.0f}':>16}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
