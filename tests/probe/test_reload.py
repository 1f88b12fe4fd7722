"""SIGHUP: a running probe reads its attribution map again, and a faulty map changes nothing."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from probe.record.codec import rows
from tests.probe.conftest import TOKEN
from tests.probe.engine.packets import ACK, MINUTE, MS, SECOND, Capture, Dialogue

PROBE = [sys.executable, "-c", "import sys; from probe.cli import main; sys.exit(main())"]
OLD, NEW = "001-01-0000001", "001-01-0000002"
FILLER = 10_000  # packets: the engine looks for a new map each some thousand


def cells(path: Path, cell_id: str, client: str = "10.0.0.0/24") -> None:
    path.write_text(f"client_prefix,cell_id\n{client},{cell_id}\n")


class Fed:
    """`qoe-probe run` that captures what the test writes to its standard input."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[str] = []
        self._head = True

    async def feed(self, capture: Capture) -> None:
        data = capture.pcap()
        self.process.stdin.write(data if self._head else data[24:])
        self._head = False
        await self.process.stdin.drain()

    async def until(self, text: str) -> None:
        """Read the log until a line holds `text`."""
        async with asyncio.timeout(30):
            while not any(text in line for line in self.log):
                line = (await self.process.stderr.readline()).decode()
                assert line, "\n".join(self.log)
                self.log.append(line)

    async def reload(self, says: str) -> None:
        self.log.clear()
        self.process.send_signal(signal.SIGHUP)
        await self.until(says)

    async def end(self) -> int:
        self.process.stdin.close()
        async with asyncio.timeout(30):
            return await self.process.wait()


@pytest.fixture
async def probe(collector, tmp_path: Path) -> AsyncIterator[Fed]:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "key").write_text("site key")
    cells(tmp_path / "map.csv", OLD)
    config = tmp_path / "probe.yaml"
    config.write_text(
        'probe_id: p\ncapture: [{file: "-", capture_point: s1u}]\nsite_key_file: key\n'
        "spool: {path: spool}\nmetrics: {listen: 127.0.0.1:0}\nattribution: {map: map.csv}\n"
        f"collector: {{urls: [{collector.url}], token_file: token}}\n"
    )
    process = await asyncio.create_subprocess_exec(
        *PROBE, "run", "--config", str(config),
        stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    yield Fed(process)
    if process.returncode is None:
        process.kill()
        await process.wait()


def opening(port: int, start_ns: int) -> Capture:
    capture = Capture()
    Dialogue(capture, client_port=port).open(start_ns)
    return capture


def filler(port: int, start_ns: int) -> Capture:
    """Return more of the flow of `port`, enough for the engine to look for a new map."""
    capture = Capture()
    flow = Dialogue(capture, client_port=port, client_sequence=1001, server_sequence=9001)
    for number in range(FILLER):
        flow.up(start_ns + number * MS // 10, ACK)
    return capture


def cells_by_port(collector) -> dict[int, str]:
    found = [row for batch in collector.batches.values() for row in rows(batch)]
    return {row["client_port"]: row["cell_id"] for row in found}


async def test_flows_after_a_reload_are_of_the_new_map(probe, collector, tmp_path):
    await probe.feed(opening(1, MINUTE))
    await probe.until("started=yes")
    cells(tmp_path / "map.csv", NEW)
    await probe.reload("reloaded=yes rules=1")
    await probe.feed(filler(1, MINUTE + SECOND))
    await probe.feed(opening(2, MINUTE + 3 * SECOND))
    assert await probe.end() == 0
    assert cells_by_port(collector) == {1: OLD, 2: NEW}


async def test_a_faulty_map_is_told_by_line_and_the_old_one_stays(probe, collector, tmp_path):
    await probe.feed(opening(1, MINUTE))
    await probe.until("started=yes")
    (tmp_path / "map.csv").write_text("client_prefix,cell_id\n10.0.0.0/24,x\n10.0.0.1/8,y\n")
    await probe.reload("the map from before stays in force")
    told = "".join(probe.log)
    assert "map.csv:2: [0].cell_id: another form is needed, got 'x'" in told
    assert "map.csv:3: [1].client_prefix: has host bits set" in told
    (tmp_path / "map.csv").unlink()
    await probe.reload("the map from before stays in force")
    await probe.feed(filler(1, MINUTE + SECOND))
    await probe.feed(opening(2, MINUTE + 3 * SECOND))
    assert await probe.end() == 0
    assert cells_by_port(collector) == {1: OLD, 2: OLD}


async def test_no_identity_of_a_faulty_map_reaches_the_log(probe, tmp_path):
    await probe.feed(opening(1, MINUTE))
    await probe.until("started=yes")
    (tmp_path / "map.csv").write_text(
        "client_prefix,subscriber\n10.0.0.0/24,262019876543210\n10.1.0.0/24,imsi:26201987654321l\n"
    )
    await probe.reload("the map from before stays in force")
    told = "".join(probe.log)
    assert "map.csv:2" in told
    assert "map.csv:3" in told
    assert "26201987654321" not in told
