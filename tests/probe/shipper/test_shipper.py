"""What the shipper does with each answer of a collector."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import generate_latest

from probe.config import ProbeConfig
from probe.errors import ConfigError, ShipperError
from probe.metrics import Metrics
from probe.record.codec import body_from_rows, seal
from probe.shipper import CollectorClient, Shipper, Verdict
from probe.shipper.client import interpret
from probe.spool import Spool

ROW = {
    "session_id": "00000000000000ab",
    "record_kind": "final",
    "capture_point": "tap",
    "transport": "tcp",
}


def sealed(epoch: int, sequence: int, gaps: list[dict[str, Any]]) -> bytes:
    return seal(
        body_from_rows([ROW]),
        probe_id="test-probe",
        epoch=epoch,
        sequence=sequence,
        created_at=1,
        gaps=gaps,
    )


@asynccontextmanager
async def shipping(
    config: ProbeConfig, batches: int, metrics: Metrics | None = None
) -> AsyncIterator[tuple[Shipper, Spool]]:
    """Ship `batches` batches while the block runs."""
    with Spool(config.spool) as spool:
        for _ in range(batches):
            spool.append(sealed)
        async with CollectorClient(config.collector) as client:
            shipper = Shipper(
                spool,
                client,
                metrics or Metrics(),
                in_flight=config.collector.in_flight,
                longest_retry_s=0.05,
                jitter=lambda low, high: low,
            )
            task = asyncio.create_task(shipper.run())
            yield shipper, spool
            task.cancel()


async def ship_all(config: ProbeConfig, batches: int) -> tuple[dict[str, int], str]:
    """Ship everything; return what was lost, and the metrics."""
    metrics = Metrics()
    async with shipping(config, batches, metrics) as (shipper, spool), asyncio.timeout(20):
        await shipper.drained()
        assert spool.status().pending_batches == 0
        return spool.status().lost, generate_latest(metrics.registry).decode()


async def test_every_batch_arrives_as_it_was_stored(collector, probe_config):
    lost, metrics = await ship_all(probe_config(collector.url), 5)
    assert sorted(collector.batches) == [0, 1, 2, 3, 4]
    assert lost == {}
    assert collector.requests[0]["Content-Type"] == "application/msgpack"
    assert collector.requests[0]["Content-Encoding"] == "zstd"
    assert collector.requests[0]["Authorization"] == "Bearer probe-token"
    assert 'qoe_probe_batches_sent_total{answer="stored"} 5.0' in metrics


async def test_at_most_in_flight_batches_are_sent_at_once(collector, probe_config):
    collector.delay_s = 0.05
    await ship_all(probe_config(collector.url, in_flight=3), 9)
    assert collector.most_at_once == 3
    assert len(collector.batches) == 9


@pytest.mark.parametrize("status", [401, 403, 408, 429, 500, 502, 503, 301, 204])
async def test_a_batch_is_kept_and_tried_again_after(collector, probe_config, status):
    collector.answers = [web.Response(status=status) for _ in range(3)]
    lost, metrics = await ship_all(probe_config(collector.url, in_flight=1), 1)
    assert (list(collector.batches), lost) == ([0], {})
    assert len(collector.requests) == 4
    assert 'qoe_probe_batches_sent_total{answer="retry"} 3.0' in metrics


async def test_a_connection_that_breaks_is_tried_again(collector, probe_config):
    collector.answers = ["abort", "abort"]
    lost, _ = await ship_all(probe_config(collector.url, in_flight=1), 2)
    assert (sorted(collector.batches), lost) == ([0, 1], {})


@pytest.mark.parametrize("status", [400, 409, 413, 415])
async def test_a_batch_refused_for_good_is_quarantined(
    collector, probe_config, tmp_path: Path, status
):
    problem = {"title": "Wrong", "detail": "the column x is odd"}
    collector.answers = [web.json_response(problem, status=status)]
    lost, _ = await ship_all(probe_config(collector.url, in_flight=1), 2)
    assert (list(collector.batches), lost) == ([1], {"refused": 1})
    (note,) = (tmp_path / "spool" / "quarantine").glob("*.json")
    assert f"{status} Wrong: the column x is odd" in note.read_text()


async def test_a_renewed_token_is_read_again(collector, probe_config, tmp_path: Path):
    config = probe_config(collector.url, in_flight=1)
    collector.token = "renewed"
    async with shipping(config, 1) as (shipper, _):
        await collector.requested.wait()
        (tmp_path / "token").write_text("renewed")
        async with asyncio.timeout(10):
            await shipper.drained()
    assert list(collector.batches) == [0]


async def test_a_collector_that_does_not_answer_is_not_waited_for_for_ever(collector, probe_config):
    collector.delay_s = 30
    async with shipping(probe_config(collector.url, timeout="100ms"), 1) as (_, spool):
        await asyncio.sleep(0.6)
        assert len(collector.requests) > 1
        assert spool.status().pending_batches == 1


async def test_the_next_url_is_tried_when_one_is_down(collector, probe_config, unused_tcp_port):
    down = f"http://127.0.0.1:{unused_tcp_port}"
    lost, _ = await ship_all(probe_config(down, collector.url, in_flight=1), 3)
    assert (sorted(collector.batches), lost) == ([0, 1, 2], {})


async def test_retry_after_goes_before_the_schedule(collector, probe_config):
    collector.answers = [web.Response(status=503, headers={"Retry-After": "1"})]
    async with shipping(probe_config(collector.url, in_flight=1), 1) as (shipper, _):
        await asyncio.sleep(0.5)
        assert len(collector.requests) == 1
        async with asyncio.timeout(10):
            await shipper.drained()
    assert list(collector.batches) == [0]


async def test_hurrying_cuts_a_long_wait_short(collector, probe_config):
    collector.answers = [web.Response(status=503, headers={"Retry-After": "600"})]
    async with shipping(probe_config(collector.url, in_flight=1), 1) as (shipper, _):
        await collector.requested.wait()
        shipper.hurry()
        async with asyncio.timeout(10):
            await shipper.drained()


async def test_a_batch_that_gives_way_is_not_waited_for(collector, probe_config):
    collector.answers = [web.Response(status=503) for _ in range(1000)]
    async with shipping(probe_config(collector.url, in_flight=1), 1) as (shipper, spool):
        await collector.requested.wait()
        spool.refuse(0, "taken away")
        async with asyncio.timeout(10):
            await shipper.drained()


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, b'{"duplicate": false}', Verdict.STORED),
        (200, b'{"duplicate": true}', Verdict.DUPLICATE),
        (200, b"not json", Verdict.STORED),
        (200, b"[" * 100_000, Verdict.STORED),
        (409, b"", Verdict.REFUSED),
        (418, b"", Verdict.RETRY),
    ],
)
def test_answers_mean_what_the_interface_says(status, body, verdict):
    assert interpret(status, body, None).verdict is verdict


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("999999999999", 3600.0),
        ("-5", None),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
    ],
)
def test_retry_after_is_bounded(header, seconds):
    assert interpret(503, b"", header).retry_after_s == seconds


def test_secrets_that_cannot_be_used_stop_the_start(
    probe_config: Callable[..., ProbeConfig], tmp_path: Path
):
    config = probe_config("http://127.0.0.1:1")
    (tmp_path / "token").write_bytes(b"two words")
    with pytest.raises(ShipperError, match="is not a token"):
        CollectorClient(config.collector)
    (tmp_path / "token").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        CollectorClient(config.collector)
