"""POST /api/v1/batches on a real server: stored once, refused for the right reason, never stuck.

The writer here stands for the store so that its failures can be chosen; with the real store the
same is shown in tests/collector/test_service.py.
"""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zstandard
from aiohttp.test_utils import TestClient, TestServer

from collector.errors import StoreError
from collector.identity import tokens
from collector.identity.authentication import Authenticator
from collector.identity.operations import Role
from collector.identity.state import StateDatabase
from collector.ingest import accepted, decoding
from collector.ingest.endpoint import PATH, BatchEndpoint, IngestLimits
from collector.metrics import Metrics
from collector.service.application import build_application
from collector.store import StoredBatch
from probe.record import codec

MIB = 1 << 20
LIMITS = IngestLimits(
    max_sent=1 * MIB,
    max_decoded=16 * MIB,
    in_flight=4 * MIB,
    concurrency=2,
    body_timeout_s=2.0,
    store_timeout_s=5.0,
)
MSGPACK = {"Content-Type": "application/msgpack"}


def batch(sequence: int = 1, rows: int = 3, probe_id: str = "edge-1", **fields: Any) -> bytes:
    row = {"record_kind": "final", "capture_point": "s1u", "transport": "tcp", **fields}
    return codec.seal(
        codec.body_from_rows([row] * rows),
        probe_id=probe_id,
        epoch=1_700_000_000_000,
        sequence=sequence,
        created_at=1_700_000_000_000_000_000,
    )


class RecordingWriter:
    """Keeps what it is told to insert, by token, like a store that knows its tokens."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.calls: list[str] = []
        self.failure: Exception | None = None
        self.delay_s = 0.0

    async def insert(self, entries: Sequence[StoredBatch], token: str) -> None:
        self.calls.append(token)
        await asyncio.sleep(self.delay_s)
        if self.failure is not None:
            raise self.failure
        self.rows.setdefault(token, sum(entry.batch.rows for entry in entries))


class Served:
    def __init__(self, path: Path, limits: IngestLimits = LIMITS) -> None:
        self.database = StateDatabase.open(path)
        self.database.migrate("identity", tokens.STEPS)
        self.database.migrate("ingest", accepted.STEPS)
        self.writer = RecordingWriter()
        self.metrics = Metrics("test")
        self.endpoint = BatchEndpoint(self.writer, self.database, self.metrics, limits)
        application = build_application(
            self.endpoint.operations(),
            Authenticator(self.database),
            self.metrics,
            open_on_loopback=True,
        )
        self.client = TestClient(TestServer(application))
        with self.database.transaction() as connection:
            self.token = tokens.create(connection, Role.PROBE, "edge-1")

    async def start(self) -> None:
        await self.client.start_server()

    async def close(self) -> None:
        await self.client.close()
        self.endpoint.close()
        self.database.close()

    async def send(self, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
        sent = {"Authorization": f"Bearer {self.token}", **MSGPACK, **headers}
        async with self.client.post(PATH, data=body, headers=sent) as response:
            return response.status, await response.json(content_type=None)

    def counted(self, outcome: str) -> float:
        return (
            self.metrics.registry.get_sample_value(
                "qoe_collector_batches_total", {"outcome": outcome}
            )
            or 0.0
        )


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path / "state.sqlite")
    await served.start()
    yield served
    await served.close()


async def test_a_batch_is_stored_under_its_name_and_acknowledged(served: Served) -> None:
    assert await served.send(batch()) == (200, {"duplicate": False})
    assert served.writer.rows == {"edge-1/1700000000000/1": 3}
    assert served.counted("accepted") == 1


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("zstd", zstandard.compress), ("gzip", gzip.compress), ("identity", bytes)],
)
async def test_each_content_encoding_is_taken(served: Served, encoding: str, compress: Any) -> None:
    status, _ = await served.send(compress(batch()), **{"Content-Encoding": encoding})
    assert status == 200
    assert served.writer.rows == {"edge-1/1700000000000/1": 3}


async def test_the_same_batch_again_is_a_duplicate_and_stored_once(served: Served) -> None:
    await served.send(batch())
    compressed = zstandard.compress(batch())
    for _ in range(3):
        answer = await served.send(compressed, **{"Content-Encoding": "zstd"})
        assert answer == (200, {"duplicate": True})
    assert served.writer.calls == ["edge-1/1700000000000/1"]
    assert served.counted("duplicate") == 3


async def test_the_same_name_with_other_content_is_a_conflict(served: Served) -> None:
    await served.send(batch(rows=3))
    status, problem = await served.send(batch(rows=4))
    assert (status, problem["title"]) == (409, "Conflict")
    assert served.writer.rows == {"edge-1/1700000000000/1": 3}
    assert served.counted("conflict") == 1


async def test_many_sendings_at_once_are_stored_once(served: Served) -> None:
    served.writer.delay_s = 0.05
    answers = await asyncio.gather(*(served.send(batch()) for _ in range(8)))
    assert sorted(answer["duplicate"] for _, answer in answers) == [False] + [True] * 7
    assert served.writer.calls == ["edge-1/1700000000000/1"]


async def test_a_duplicate_is_known_after_a_restart(tmp_path: Path) -> None:
    for duplicate in (False, True):
        served = Served(tmp_path / "state.sqlite")
        await served.start()
        assert await served.send(batch()) == (200, {"duplicate": duplicate})
        await served.close()


async def test_a_batch_that_the_store_failed_is_not_acknowledged_and_can_come_again(
    served: Served,
) -> None:
    served.writer.failure = StoreError("disk full at /var/lib/secret")
    status, problem = await served.send(batch())
    assert status == 503
    assert "secret" not in str(problem)
    assert served.counted("failed") == 1
    served.writer.failure = None
    assert await served.send(batch()) == (200, {"duplicate": False})


async def test_a_crash_between_insert_and_mark_repeats_the_token(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("collector.ingest.accepted.mark", crash)
        assert (await served.send(batch()))[0] >= 500
    assert await served.send(batch()) == (200, {"duplicate": False})
    assert served.writer.calls == ["edge-1/1700000000000/1"] * 2
    assert served.writer.rows == {"edge-1/1700000000000/1": 3}


def nest(depth: int) -> Any:
    return {"x": nest(depth - 1)} if depth else 1


def changed(rows: int = 9, **replaced: Any) -> bytes:
    """Return a batch with fields of its head, or by `columns` parts of a column, replaced."""
    content = msgpack.unpackb(batch(rows=rows, bytes_up=5, apn="x"), strict_map_key=False)
    for name, data in replaced.pop("columns", {}).items():
        content["columns"][name] |= data
    return msgpack.packb(content | replaced)


GARBAGE = {
    "empty": b"",
    "random": bytes(range(256)) * 16,
    "text": b'{"probe_id": "edge-1"}',
    "not a map": b"\xc0",
    "cut short": batch()[:-7],
    "trailing": batch() + b"\0",
    "key of bytes": changed(health={b"x": 1}),
    "key of bytes inside": changed(ledger=[{"dropped": [{b"x": 1}]}]),
    "infinite": changed(gaps=[{"x": [float("inf")]}]),
    "no number": changed(links=[{"x": float("nan")}]),
    "nested too deep": changed(paths=[nest(codec.MAX_DEPTH)]),
    "nulls beyond the rows": changed(
        columns={"apn": {"values": [], "data": bytes(9), "nulls": b"\xfe\xff"}}
    ),
    "count of an age": changed(1, columns={"bytes_up": {"data": (1 << 53).to_bytes(8, "little")}}),
}


def test_what_is_just_within_the_bounds_is_read() -> None:
    data = ((1 << 53) - 1).to_bytes(8, "little")
    deep = codec.decode(
        changed(1, columns={"bytes_up": {"data": data}}, health=nest(codec.MAX_DEPTH))
    )
    assert next(codec.rows(deep))["bytes_up"] == (1 << 53) - 1


def test_a_float_that_is_no_number_is_null_in_a_row() -> None:
    rows = codec.rows(codec.decode(batch(rows=1, video_confidence=float("nan"))))
    assert next(rows)["video_confidence"] is None


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_400_with_the_reason(served: Served, body: bytes) -> None:
    status, problem = await served.send(body)
    assert (status, problem["title"]) == (400, "Malformed batch")
    assert problem["detail"]
    assert served.writer.calls == []
    assert served.counted("malformed") == 1


@pytest.mark.parametrize("encoding", ["zstd", "gzip"])
async def test_what_does_not_decompress_is_400(served: Served, encoding: str) -> None:
    compress = {"zstd": zstandard.compress, "gzip": gzip.compress}[encoding]
    whole = compress(batch())
    for body in (b"", b"garbage", whole[:-9], whole + b"tail", whole + compress(b"more")):
        status, _ = await served.send(body, **{"Content-Encoding": encoding})
        assert status == 400
    assert served.writer.calls == []


async def test_a_batch_too_large_as_sent_is_413_announced_or_not(served: Served) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield bytes(MIB // 16)

    for body in (bytes(MIB + 1), chunks()):
        status, problem = await served.send(body)
        assert (status, problem["status"]) == (413, 413)
    assert served.counted("too_large") == 2


@pytest.mark.parametrize("encoding", ["zstd", "gzip"])
async def test_a_bomb_is_413_and_takes_no_memory(served: Served, encoding: str) -> None:
    compress = {"zstd": zstandard.compress, "gzip": gzip.compress}[encoding]
    bomb = compress(bytes(128 * MIB))
    assert len(bomb) < MIB
    status, _ = await served.send(bomb, **{"Content-Encoding": encoding})
    assert status == 413
    assert served.counted("too_large") == 1


async def test_another_content_type_is_415(served: Served) -> None:
    for kind in ("application/json", "text/plain", "application/octet-stream"):
        status, _ = await served.send(batch(), **{"Content-Type": kind})
        assert status == 415
    assert served.counted("unsupported") == 3


async def test_an_unknown_content_encoding_is_415(served: Served) -> None:
    for encoding in ("br", "zstd, zstd", "deflate"):
        status, _ = await served.send(batch(), **{"Content-Encoding": encoding})
        assert status == 415


async def test_a_batch_of_another_probe_is_403(served: Served) -> None:
    status, _ = await served.send(batch(probe_id="edge-2"))
    assert status == 403
    assert served.writer.calls == []
    assert served.counted("foreign") == 1


async def test_a_batch_without_a_token_is_401_even_where_reading_is_open(served: Served) -> None:
    async with served.client.post(PATH, data=batch(), headers=MSGPACK) as response:
        assert response.status == 401
    assert served.writer.calls == []


async def test_more_than_the_budget_is_asked_to_come_again(tmp_path: Path) -> None:
    served = Served(tmp_path / "state.sqlite", replace(LIMITS, in_flight=2 * len(batch()) + 1))
    await served.start()
    served.writer.delay_s = 0.3
    headers = {"Authorization": f"Bearer {served.token}", **MSGPACK}

    async def send(sequence: int) -> tuple[int, str | None]:
        body = batch(sequence)
        async with served.client.post(PATH, data=body, headers=headers) as response:
            return response.status, response.headers.get("Retry-After")

    answers = await asyncio.gather(*(send(sequence) for sequence in range(1, 5)))
    assert sorted(answers, key=str) == [(200, None)] * 2 + [(503, "2")] * 2
    assert served.counted("busy") == 2
    gauge = served.metrics.registry.get_sample_value("qoe_collector_in_flight_bytes")
    assert gauge == 0
    assert (await send(9))[0] == 200
    await served.close()


async def test_a_body_that_comes_too_slowly_is_given_up(tmp_path: Path) -> None:
    served = Served(tmp_path / "state.sqlite", replace(LIMITS, body_timeout_s=0.2))
    await served.start()

    async def slow() -> AsyncIterator[bytes]:
        yield b"\x80"
        await asyncio.sleep(1.0)
        yield b"\x80"

    assert (await served.send(slow()))[0] == 408
    await served.close()


async def _raw(served: Served, head: str, body: bytes) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection(served.client.host, served.client.port)
    common = (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {served.token}\r\n"
        "Content-Type: application/msgpack\r\n"
    )
    writer.write(f"{common}{head}\r\n\r\n".encode())
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.write(body)
    await writer.drain()
    await asyncio.sleep(0.1)
    return writer


async def _until_nothing_is_held(served: Served) -> None:
    async with asyncio.timeout(5):
        gauge = "qoe_collector_in_flight_bytes"
        while served.metrics.registry.get_sample_value(gauge):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_client_that_goes_away_leaves_nothing_held(served: Served) -> None:
    writer = await _raw(served, "Content-Length: 500000", bytes(1000))
    gauge = "qoe_collector_in_flight_bytes"
    assert served.metrics.registry.get_sample_value(gauge) == 500_000
    writer.close()
    await _until_nothing_is_held(served)
    assert (served.counted("incomplete"), served.counted("failed")) == (1, 0)
    assert (await served.send(batch()))[0] == 200


async def test_a_broken_chunked_body_leaves_nothing_held(served: Served) -> None:
    writer = await _raw(served, "Transfer-Encoding: chunked", b"4\r\nabcd\r\nnot a size\r\n")
    await _until_nothing_is_held(served)
    writer.close()
    assert (served.counted("incomplete"), served.counted("failed")) == (1, 0)
    assert (await served.send(batch()))[0] == 200


async def test_decoding_a_large_batch_does_not_hold_up_other_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(body: bytes, encoding: str, max_decoded: int) -> decoding.DecodedBatch:
        time.sleep(1.0)  # as on a slower machine: the thread stands still, the loop must not
        return decode(body, encoding, max_decoded)

    decode = decoding.decode
    monkeypatch.setattr(decoding, "decode", slow)
    limits = replace(LIMITS, max_sent=8 * MIB, in_flight=32 * MIB, max_decoded=64 * MIB)
    served = Served(tmp_path / "state.sqlite", limits)
    await served.start()
    body = zstandard.compress(batch(rows=60_000))
    sending = asyncio.create_task(served.send(body, **{"Content-Encoding": "zstd"}))
    answered = 0
    longest = 0.0
    while not sending.done():
        start = time.perf_counter()
        async with served.client.get("/nowhere") as response:
            assert response.status == 404
        answered += 1
        longest = max(longest, time.perf_counter() - start)
    assert await sending == (200, {"duplicate": False})
    assert served.writer.rows == {"edge-1/1700000000000/1": 60_000}
    assert answered > 20
    assert longest < 0.5, f"a request waited {longest:.3f} s"
    await served.close()
