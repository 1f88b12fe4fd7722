"""What a packet and a record cost, as ratios within one run: never seconds.

The traffic is the benchmark's, made here in small; without its generator there is nothing to run.
"""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest
import zstandard

from probe.record import codec
from probe.spool.spool import COMPRESSION_LEVEL
from tests.bench.bench_engine import GENERATOR, capture_of

FEW, MANY = 200_000, 600_000
QOE_PROBE = str(Path(sys.executable).with_name("qoe-probe"))


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """Return a function that gives the capture of a view with so many packets."""
    if not (GENERATOR / "Makefile").is_file():
        pytest.skip(f"no traffic generator in {GENERATOR}")
    directory = tmp_path_factory.mktemp("bench") / "traffic"
    return lambda view, packets: capture_of(view, packets, directory)


def replay(capture: Path) -> list[str]:
    return [QOE_PROBE, "replay", str(capture), "--format", "msgpack"]


def cpu_s(command: list[str]) -> float:
    """Return the least CPU time of three runs: what else runs here only adds to it."""
    return min(_cpu_s_once(command) for _ in range(3))


def _cpu_s_once(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cpu_s_of_packets(command: Callable[[Path], list[str]], few: Path, many: Path) -> float:
    """Return the CPU time of the packets by which the captures differ: no start of a program."""
    return max(cpu_s(command(many)) - cpu_s(command(few)), 1e-3)


def test_a_packet_costs_no_more_than_so_many_walks_over_its_headers(
    captures: Callable[[str, int], Path],
):
    few, many = captures("sgi", FEW), captures("sgi", MANY)
    walk = str(many.parent / "limit")
    engine = cpu_s_of_packets(replay, few, many)
    reference = cpu_s_of_packets(lambda capture: [walk, "3", str(capture)], few, many)
    assert engine < 100 * reference


def test_a_tunnel_does_not_double_what_a_packet_costs(captures: Callable[[str, int], Path]):
    plain, tunnelled = (
        cpu_s_of_packets(replay, captures(view, FEW), captures(view, MANY))
        for view in ("sgi", "s1u")
    )
    assert tunnelled < 2 * plain


def test_a_record_takes_at_most_80_bytes_on_the_wire(captures: Callable[[str, int], Path]):
    done = subprocess.run(replay(captures("sgi", MANY)), check=True, capture_output=True)
    compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
    sent = rows = 0
    for sealed in batches(done.stdout):
        sent += len(compressor.compress(sealed))
        rows += codec.decode(sealed).rows
    assert rows > 20_000
    assert sent / rows <= 80


def batches(stream: bytes) -> list[bytes]:
    """Return the batches that stand end to end in a stream."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(stream), raw=False)
    unpacker.feed(stream)
    found, start = [], 0
    while start < len(stream):
        unpacker.skip()
        found.append(stream[start : unpacker.tell()])
        start = unpacker.tell()
    return found
