"""The agent's street with an engine made in the test and a real HTTP collector."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from probe.agent import Agent, EngineKit, build_engine, capture_options, run_agent
from probe.config import FileCapture, ProbeConfig
from probe.errors import BatchError, CaptureError, ProbeError
from probe.metrics import Metrics, start_metrics_server
from probe.record.codec import body_from_rows, rows
from probe.settings import ListenAddress
from probe.spool import Spool


class EngineFaultError(Exception):
    pass


class ScriptedEngine:
    """Hands over bodies like the native engine; one given as an exception is raised."""

    def __init__(self, bodies: list[Any], *, endless: bool = False, on_stop: tuple = ()) -> None:
        self.bodies = deque(bodies)
        self.endless = endless
        self.on_stop = on_stop
        self.started = False
        self.stopped = threading.Event()

    def start(self) -> None:
        self.started = True

    def next_body(self, timeout_s: float) -> bytes | None:
        if not self.bodies:
            if not self.finished():
                self.stopped.wait(timeout_s)
            return None
        body = self.bodies.popleft()
        if isinstance(body, Exception):
            raise body
        return body

    def finished(self) -> bool:
        return not self.bodies and (self.stopped.is_set() or not self.endless)

    def stop(self) -> None:
        if not self.stopped.is_set():
            self.bodies.extend(self.on_stop)
            self.stopped.set()

    def progress(self) -> None:
        return None

    def save_bearers(self) -> bytes:
        return b"who is who"

    def load_bearers(self, sealed: bytes) -> None:
        self.loaded = sealed

    def captures(self) -> list[Any]:
        return []

    def counters(self) -> dict[str, int]:
        return {"packets": 42}

    def loads(self) -> list[tuple[str, str, int, int]]:
        return [("tap", "content", 60, 700_000_000)]

    def take_load_steps(self) -> list[tuple[str, int, str, str, str, int, int]]:
        return []

    def hold_memory(self, is_short: bool) -> None:
        self.held = is_short


def body(*numbers: int) -> bytes:
    common = {"record_kind": "final", "capture_point": "tap", "transport": "tcp"}
    return body_from_rows([{"session_id": f"{number:016x}", **common} for number in numbers])


def sessions(collector) -> list[int]:
    batches = (collector.batches[sequence] for sequence in sorted(collector.batches))
    return [int(row["session_id"], 16) for batch in batches for row in rows(batch)]


def wait_until(true: Callable[[], object]) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    pytest.fail("it did not happen")


async def run(config: ProbeConfig, engine: ScriptedEngine) -> tuple[int, Agent]:
    with Spool(config.spool) as spool:
        agent = Agent(config, engine, EngineFaultError, spool)
        async with asyncio.timeout(20):
            return await agent.run(), agent


async def test_captures_from_files_end_once_everything_is_acknowledged(collector, probe_config):
    collector.delay_s = 0.05
    code, _ = await run(probe_config(collector.url), ScriptedEngine([body(1, 2), body(3)]))
    assert (code, sessions(collector)) == (0, [1, 2, 3])
    batch = collector.batches[0]
    assert batch.probe_id == "test-probe"
    assert batch.created_at > 0
    assert {"version", "rss_bytes", "host_cpu_percent", "spool_free_bytes"} <= batch.health.keys()


async def test_what_an_earlier_run_left_is_shipped_first(collector, probe_config, unused_tcp_port):
    config = probe_config(f"http://127.0.0.1:{unused_tcp_port}", live=True)
    engine = ScriptedEngine([body(1)], endless=True)
    with Spool(config.spool) as spool:
        agent = Agent(config, engine, EngineFaultError, spool)
        task = asyncio.create_task(agent.run())
        await asyncio.to_thread(wait_until, lambda: spool.status().pending_batches)
        agent.stop()
        async with asyncio.timeout(10):
            assert await task == 0, "a collector that is away is no failure of the probe"
    code, _ = await run(probe_config(collector.url), ScriptedEngine([body(2)]))
    assert (code, sessions(collector)) == (0, [1, 2])
    assert collector.batches[0].epoch == collector.batches[1].epoch


async def test_a_stop_loses_nothing_that_the_engine_still_holds(collector, probe_config):
    config = probe_config(collector.url, live=True)
    engine = ScriptedEngine([body(1)], endless=True, on_stop=(body(2), body(3)))
    with Spool(config.spool) as spool:
        agent = Agent(config, engine, EngineFaultError, spool)
        task = asyncio.create_task(agent.run())
        await collector.stored.wait()
        agent.stop()
        async with asyncio.timeout(10):
            assert await task == 0
        assert spool.status().pending_batches == 0
    assert sessions(collector) == [1, 2, 3]


async def test_a_stop_waits_for_a_silent_collector_only_so_long(collector, probe_config):
    collector.delay_s = 60
    config = probe_config(collector.url, live=True, stop_timeout="200ms")
    with Spool(config.spool) as spool:
        agent = Agent(config, ScriptedEngine([body(1)], endless=True), EngineFaultError, spool)
        task = asyncio.create_task(agent.run())
        await collector.requested.wait()
        agent.stop()
        async with asyncio.timeout(5):
            assert await task == 0
        assert spool.status().pending_batches == 1


async def test_a_second_stop_does_not_wait_for_the_collector(collector, probe_config):
    collector.delay_s = 60
    config = probe_config(collector.url, live=True, stop_timeout="1h")
    with Spool(config.spool) as spool:
        agent = Agent(config, ScriptedEngine([body(1)], endless=True), EngineFaultError, spool)
        task = asyncio.create_task(agent.run())
        await collector.requested.wait()
        agent.stop()
        agent.stop()
        async with asyncio.timeout(5):
            assert await task == 0


async def test_records_before_a_failing_source_arrive_and_the_exit_code_says_it(
    collector, probe_config
):
    engine = ScriptedEngine([body(1), EngineFaultError("x.pcap: cut short"), body(2)])
    code, agent = await run(probe_config(collector.url), engine)
    assert (code, sessions(collector)) == (1, [1, 2])
    assert agent.failure == "x.pcap: cut short"


async def test_an_unusable_body_is_counted_and_the_rest_goes_on(collector, probe_config):
    engine = ScriptedEngine([body(1), b"\xc1", body(2)])
    config = probe_config(collector.url)
    metrics = Metrics()
    with Spool(config.spool) as spool:
        await Agent(config, engine, EngineFaultError, spool, metrics).run()
    assert sessions(collector) == [1, 2]
    assert metrics.registry.get_sample_value("qoe_probe_bodies_unusable_total") == 1


async def test_a_refused_batch_of_a_file_makes_the_run_fail(collector, probe_config):
    collector.answers = [aiohttp.web.Response(status=400)]
    code, _ = await run(
        probe_config(collector.url, in_flight=1), ScriptedEngine([body(1), body(2)])
    )
    assert (code, sessions(collector)) == (1, [2])


async def test_an_engine_that_cannot_start_is_one_clear_error(collector, probe_config):
    engine = ScriptedEngine([])

    def refuse() -> None:
        raise EngineFaultError("eth1: no such interface")

    engine.start = refuse
    with pytest.raises(CaptureError, match="eth1: no such interface"):
        await run(probe_config(collector.url), engine)


async def test_metrics_and_health_are_served(probe_config, unused_tcp_port):
    metrics = Metrics()
    metrics.show_counters("engine", lambda: {"packets": 7})
    metrics.show_by_reason("batches_lost", "lost", lambda: {"disk_full": 2})
    state = {"well": True}
    listen = ListenAddress("127.0.0.1", unused_tcp_port)
    runner = await start_metrics_server(metrics, listen, lambda: state["well"])
    try:
        async with aiohttp.ClientSession(f"http://{listen}") as session:
            text = await (await session.get("/metrics")).text()
            assert "qoe_probe_engine_packets_total 7.0" in text
            assert 'qoe_probe_batches_lost_total{reason="disk_full"} 2.0' in text
            assert (await session.get("/healthz")).status == 200
            state["well"] = False
            assert (await session.get("/healthz")).status == 503
        with pytest.raises(ProbeError, match=r"metrics\.listen"):
            await start_metrics_server(Metrics(), listen, lambda: True)
    finally:
        await runner.cleanup()


def kit(engine: Any = None, span: tuple[int, int, int] = (0, 0, 0)) -> EngineKit:
    def walk(files: list[str]) -> tuple[int, int, int]:
        if any("broken" in name for name in files):
            raise EngineFaultError("broken.pcap: not a capture")
        return span

    return EngineKit(lambda options, key: engine, EngineFaultError, walk)


def test_time_now_moves_the_last_packet_to_the_start(probe_config, tmp_path):
    config = probe_config("http://127.0.0.1:1")
    moved = FileCapture(files=(tmp_path / "a", tmp_path / "b"), capture_point="x", time="now")
    config = config.model_copy(update={"capture": (moved, *config.capture)})
    first, second = capture_options(config, kit(span=(100, 900, 5)), now_ns=5000)
    assert first["time_offset_ns"] == 4100
    assert first["files"] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert second["time_offset_ns"] == 0
    (empty, _) = capture_options(config, kit(span=(0, 0, 0)), now_ns=5000)
    assert empty["time_offset_ns"] == 0


def test_a_capture_that_cannot_be_walked_is_a_clear_error(probe_config, tmp_path):
    capture = FileCapture(file=tmp_path / "broken.pcap", capture_point="x", time="now")
    config = probe_config("http://127.0.0.1:1").model_copy(update={"capture": (capture,)})
    with pytest.raises(CaptureError, match="not a capture"):
        build_engine(config, kit())


async def test_run_agent_builds_everything_from_the_configuration(collector, probe_config):
    config = probe_config(collector.url)
    assert await run_agent(config, kit(ScriptedEngine([body(5)]))) == 0
    assert sessions(collector) == [5]
    with Spool(config.spool) as spool:  # the spool was released
        assert spool.status().pending_batches == 0


def test_the_scripted_bodies_are_what_the_contract_says():
    with pytest.raises(BatchError):
        body_from_rows([{"nonsense": 1}])
