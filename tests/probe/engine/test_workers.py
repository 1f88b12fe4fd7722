"""Any number of workers gives the same output, byte for byte."""

import ipaddress
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from probe.cli import main
from probe.cli.replay import limits_reached, replay_to
from probe.config import workers_for
from probe.record.codec import Batch, decode, rows
from probe.simulate.arguments import VIEWS
from tests.probe.engine.conftest import Result, run_engine
from tests.probe.engine.packets import MINUTE, MS, SECOND, Capture
from tests.probe.engine.quic import Connection

COUNTS = (2, 3, 7)
CONFIG = """\
probe_id: many
active_timeout: 10s
attribution:
  subscriber_prefixes: [10.0.0.0/8, "2001:db8::/32"]
"""


# No message tells a device's address: whose a tunnel is that was given away shows in packets alone,
# and a worker sees its own subscribers' (ADR 31).
WITHOUT_ADDRESSES = ("s1u+s1ap", "n3+n2")


def carried(batches: bytes) -> Counter[tuple[str, str]]:
    """Return packets and bytes by session and direction."""
    sums: Counter[tuple[str, str]] = Counter()
    for batch in unpacked(batches):
        for row in rows(batch):
            for figure in ("packets_up", "packets_down", "bytes_up", "bytes_down"):
                sums[row["session_id"], figure] += row[figure] or 0
    return +sums


def unpacked(batches: bytes) -> Iterator[Batch]:
    """Return the batches that stand one behind the other."""
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(batches)
    start = 0
    while start < len(batches):
        unpacker.skip()
        yield decode(batches[start : unpacker.tell()])
        start = unpacker.tell()


def replayed(capture: Path, workers: int, config: Path | None = None) -> bytes:
    output = capture.with_suffix(f".{workers}.msgpack")
    replay_to(
        [capture],
        form="msgpack",
        output=output,
        config_file=config,
        site_key_file=None,
        workers=workers,
    )
    return output.read_bytes()


def simulated(directory: Path, view: str, *more: str) -> Path:
    pytest.importorskip("scapy")
    capture = directory / "network.pcap"
    arguments = ["simulate", str(capture), "--view", view, "--duration", "90s", *more]
    assert main([*arguments, "--subscribers", "60", "--cells", "12"]) == 0
    return capture


@pytest.mark.parametrize("view", VIEWS)
def test_a_mobile_network_is_told_alike_by_any_number_of_workers(view: str, tmp_path: Path) -> None:
    moves = ["--handovers", "30", "--restarts", "1"] if "+" in view else []
    capture = simulated(tmp_path, view, *moves)
    config = tmp_path / "probe.yaml"
    config.write_text(CONFIG)
    for chosen in (None, config):
        alone = replayed(capture, 1, chosen)
        assert len(alone) > 10_000
        for workers in COUNTS:
            shared = replayed(capture, workers, chosen)
            if view in WITHOUT_ADDRESSES:
                assert carried(shared) == carried(alone), f"{workers} workers"
            else:
                assert shared == alone, f"{workers} workers"


def test_that_a_limit_was_reached_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture = simulated(tmp_path, "sgi")
    config = tmp_path / "probe.yaml"
    config.write_text("limits: {flows: 16}\n")
    replayed(capture, 3)
    assert "limits were reached" not in capsys.readouterr().err
    replayed(capture, 3, config)
    assert "limits were reached (flows_evicted" in capsys.readouterr().err


def test_reached_limits_are_named() -> None:
    counters = {"flows": 7, "flows_evicted": 2, "names_shed": 0, "pairs_shed": 1}
    assert limits_reached(counters) == "flows_evicted 2, pairs_shed 1"
    assert limits_reached({"flows": 7}) == ""


def test_small_files_and_streams_have_one_worker_by_themselves(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"x" * 1000)
    with large.open("wb") as file:
        file.truncate(1 << 30)
    cores = min(len(os.sched_getaffinity(0)), 8)
    assert workers_for([str(small)], None) == 1
    assert workers_for(["-"], None) == 1
    assert workers_for([str(small), str(large)], None) == cores
    assert workers_for([str(small)], 5) == 5


@pytest.mark.parametrize("number", ["0", "65", "-1", "many", ""])
def test_a_wrong_number_of_workers_is_bad_usage(
    number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["replay", "any.pcap", f"--workers={number}"])
    assert ended.value.code == 2
    assert "is not a number from 1 to 64" in capsys.readouterr().err


def part_of(address: str, parts: int) -> int:
    """Return which of `parts` has a private IPv4 address (docs/adr/0031-shards.md)."""
    key = int(ipaddress.IPv4Address(address))
    return (key * 0x9E3779B1 % (1 << 32) >> 16) % parts


def moving(tmp_path: Path, address: str, port: int, workers: int) -> Result:
    """Replay a QUIC connection that goes on from another address and port of its client."""
    capture = Capture()
    connection = Connection(capture, client_address="10.0.0.1")
    now = connection.open(MINUTE, 20 * MS, 30 * MS)
    connection.down(now + 20 * MS, connection.server.one_rtt())
    connection.client_address, connection.client_port = address, port
    connection.up(now + 40 * SECOND, connection.client.one_rtt())
    connection.down(now + 40 * SECOND + 20 * MS, connection.server.one_rtt())
    path = tmp_path / "capture.pcap"
    path.write_bytes(capture.pcap())
    return run_engine([str(path)], workers=workers)


def name_after(result: Result, port: int) -> object:
    return next(row["server_name"] for row in result.rows if row["client_port"] == port)


def test_a_connection_that_changes_its_port_is_told_alike(tmp_path: Path) -> None:
    alone = moving(tmp_path, "10.0.0.1", 50000, 1)
    assert name_after(alone, 50000) == "video.example"
    for workers in COUNTS:
        assert moving(tmp_path, "10.0.0.1", 50000, workers).bodies == alone.bodies


def test_a_connection_that_changes_its_part_is_not_known_again(tmp_path: Path) -> None:
    others = [f"10.0.0.{host}" for host in range(2, 40)]
    near = next(other for other in others if part_of(other, 2) == part_of("10.0.0.1", 2))
    far = next(other for other in others if part_of(other, 2) != part_of("10.0.0.1", 2))
    for other, name in ((near, "video.example"), (far, None)):
        assert name_after(moving(tmp_path, other, 50000, 1), 50000) == "video.example"
        assert name_after(moving(tmp_path, other, 50000, 2), 50000) == name
