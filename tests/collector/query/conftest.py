"""A network of known sessions in a real store, and a client of the read operations."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from collector.errors import ProblemError
from collector.identity.maps import CellEntry, DeviceEntry, Maps, MapsInForce, RanNodeEntry
from collector.identity.operations import Operation
from collector.metrics import Metrics
from collector.qoe import Models, ServiceMap
from collector.query import operations
from collector.store import Store, StoredBatch, StoreOptions
from probe.record import codec

Row = dict[str, Any]
ROOT = Path(__file__).parents[3]
START = 1_794_996_000 * 10**9  # 2026-11-18T10:00:00Z
NOW = START + 7200 * 10**9
MODELS = Models.load(ROOT / "configs/models/default.yaml")
SERVICES = ServiceMap.load(ROOT / "configs/services.yaml")

GOOD_CELLS = [f"001-01-000000{n}" for n in range(1, 5)]
BAD_CELL = "001-01-0000009"
BAD_SUBSCRIBER = "f" * 32

LABELS = Maps(
    cells={
        BAD_CELL: CellEntry(
            cell_id=BAD_CELL, name="Harbour 3", site="Harbour", region="North",
            latitude=54.3, longitude=10.1, azimuth=240.0,
        )
    },
    ran_nodes={
        "gnb-7": RanNodeEntry(ran_node_id="gnb-7", name="gNB seven", site="Hill", vendor="Acme")
    },
    devices={
        "35209900": DeviceEntry(imei_tac="35209900", device_model="Phone 1", device_os="OS 2")
    },
)  # fmt: skip


def subscriber(number: int) -> str:
    return f"{number:032x}"


def bucket_of(us: float) -> int:
    import math

    return min(255, max(0, math.floor(math.log(us / 50) / math.log(1.05))))


def histogram(samples_us: list[float]) -> dict[str, int]:
    found: dict[str, int] = {}
    for sample in samples_us:
        name = str(bucket_of(sample))
        found[name] = found.get(name, 0) + 1
    return found


def session(rng: random.Random, number: int) -> Row:
    """Return one session; the bad cell is slow and lossy, the bad subscriber very slow."""
    cell = rng.choice([*GOOD_CELLS, BAD_CELL])
    bad_subscriber = rng.random() < 0.1
    median = 400_000 if bad_subscriber else 250_000 if cell == BAD_CELL else 40_000
    samples = [median * rng.lognormvariate(0, 0.3) for _ in range(8)]
    failed = rng.random() < (0.3 if cell == BAD_CELL else 0.02)
    start = START + rng.randrange(3600 * 10**9)
    named = rng.random() < 0.5
    return {
        "session_id": f"{number:016x}",
        "record_kind": "final",
        "interval_index": 0,
        "capture_point": "s1u",
        "flow_start_time": codec.time_to_text(start),
        "start_time": codec.time_to_text(start),
        "end_time": codec.time_to_text(start + 10**9),
        "transport": "tcp",
        "client_ip": "10.0.0.0",
        "server_ip": "2001:db8::1" if named else "192.0.2.7",
        "server_port": 443,
        "subscriber_id": BAD_SUBSCRIBER if bad_subscriber else subscriber(rng.randrange(30)),
        "cell_id": cell,
        "rat": "lte",
        "apn": "internet",
        "qos_class": 9,
        "app_protocol": "tls",
        "server_name": "r1.googlevideo.com" if named else "www.example.org",
        "ech": 1 if named else None,
        "rtt_client_histogram": histogram(samples),
        "rtt_client_samples": len(samples),
        "bytes_up": rng.randrange(10_000),
        "bytes_down": rng.randrange(1_000_000),
        "payload_up": 1,
        "payload_down": 2,
        "packets_up": 100,
        "packets_down": 200,
        "lost_before_tap_up": 0,
        "lost_after_tap_down": rng.randrange(30) if cell == BAD_CELL else 0,
        "outcome": "failed" if failed else "ok",
        "failure_cause": rng.choice(["connect_timeout", "tls_timeout"]) if failed else None,
        "failure_stage": "connect" if failed else None,
        "failure_side": "access" if failed else None,
        "evidence": ["syn_unanswered", "twice"] if failed else None,
        "flags": ["one_way"] if number % 10 == 0 else [],
    }


def network() -> list[Row]:
    rng = random.Random(11)
    rows = [session(rng, number) for number in range(600)]
    for number, row in enumerate(rows[:150]):  # the same sessions as a second place sees them
        rows.append(row | {"capture_point": "sgi", "session_id": f"{10_000 + number:016x}"})
    rows.append(  # a later interval of a session that began in another cell
        rows[0] | {"interval_index": 1, "cell_id": GOOD_CELLS[0], "outcome": None,
                   "failure_cause": None, "failure_stage": None, "failure_side": None,
                   "evidence": None}
    )  # fmt: skip
    rows.append(  # signalling
        {"session_id": "00000000000fffff", "record_kind": "transaction", "interval_index": 0,
         "capture_point": "s1u", "transport": "udp", "procedure": "create_session",
         "outcome": "failed", "failure_cause": "gtp_apn_unknown", "failure_stage": "signalling",
         "flow_start_time": codec.time_to_text(START), "flags": [],
         "start_time": codec.time_to_text(START), "end_time": codec.time_to_text(START)}
    )  # fmt: skip
    rows.append(  # nothing is known of this one
        {"session_id": "00000000000ffff0", "record_kind": "final", "interval_index": 0,
         "capture_point": "s1u", "transport": "icmp", "flags": ["missed_start"], "bytes_up": 7,
         "flow_start_time": codec.time_to_text(START), "start_time": codec.time_to_text(START),
         "end_time": codec.time_to_text(START)}
    )  # fmt: skip
    return rows


def entry(
    rows: list[Row], sequence: int = 1, probe_id: str = "probe-1", **body: Any
) -> StoredBatch:
    sealed = codec.seal(
        codec.body_from_rows(rows, **body),
        probe_id=probe_id,
        epoch=1_790_000_000_000,
        sequence=sequence,
        created_at=NOW,
        health={"cpu": 0.25},
    )
    return StoredBatch(codec.decode(sealed), NOW + sequence)


class Api:
    """Asks the operations over HTTP, as a client does."""

    def __init__(self, client: TestClient, listed: list[Operation]) -> None:
        self._client = client
        self.operations = {operation.route: operation for operation in listed}

    async def ask(self, path: str, status: int = 200, **parameters: Any) -> Any:
        """Return the answer; `from_` stands for `from`, a list for a repeated parameter."""
        pairs = [
            (name.rstrip("_"), str(value))
            for name, given in parameters.items()
            for value in (given if isinstance(given, list) else [given])
        ]
        async with self._client.get(f"/api/v1{path}", params=pairs) as response:
            answer = await response.json(content_type=None)
            assert response.status == status, answer
            return answer


@web.middleware
async def _problems(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        return await handler(request)
    except ProblemError as error:
        problem = {"title": error.title, "status": error.status, "detail": error.detail}
        return web.json_response(problem, status=error.status)


async def serve(
    store: Store, now: Callable[[], int], preferred: tuple[str, ...] = ()
) -> tuple[Api, TestClient]:
    app = web.Application(middlewares=[_problems])
    maps = MapsInForce(lambda: LABELS, Metrics("test"))
    listed = operations(store, MODELS, maps, preferred, clock=now)
    for operation in listed:
        app.router.add_route(operation.method, operation.path, operation.handler)
    client = TestClient(TestServer(app))
    await client.start_server()
    return Api(client, listed), client


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return network()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> Path:
    """Return a store on disk that holds the network, written once for a module."""
    import asyncio

    path = tmp_path_factory.mktemp("query") / "store"

    async def fill() -> None:
        store = Store.open(StoreOptions(path=path), SERVICES.classify)
        ledger = [{"interface": "eth1", "received": 90, "shed": {"flows": 4}}]
        one, two = subscriber(1), subscriber(77)
        await store.insert([entry(rows[:400], 1, ledger=ledger)], "a")
        await store.insert([entry(rows[400:], 4, links=[{"from": two, "to": one}])], "b")
        await store.insert([entry([], 1, probe_id="probe-0", ledger=ledger)], "c")
        await store.close()

    asyncio.run(fill())
    return path


@pytest.fixture
async def api(directory: Path):
    store = Store.open(StoreOptions(path=directory), SERVICES.classify)
    opened, client = await serve(store, lambda: NOW)
    yield opened
    await client.close()
    await store.close()


@pytest.fixture
async def empty_api(tmp_path: Path):
    store = Store.open(StoreOptions(path=tmp_path / "store"), SERVICES.classify)
    opened, client = await serve(store, lambda: NOW)
    yield opened
    await client.close()
    await store.close()


@pytest.fixture
async def asked_about(tmp_path: Path):
    """Give a function that stores batches of rows, to ask about."""
    store = Store.open(StoreOptions(path=tmp_path / "store"), SERVICES.classify)
    opened, client = await serve(store, lambda: NOW)

    async def stored(*batches: list[Row]) -> Api:
        for number, rows in enumerate(batches):
            await store.insert([entry(rows, number)], str(number))
        return opened

    yield stored
    await client.close()
    await store.close()


@pytest.fixture
def known() -> dict[str, Any]:
    return {
        "start": START,
        "now": NOW,
        "good_cells": GOOD_CELLS,
        "bad_cell": BAD_CELL,
        "bad_subscriber": BAD_SUBSCRIBER,
        "services": SERVICES,
    }
