"""Batches as a probe makes them, and a store on a real embedded engine."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from collector.store import Store, StoredBatch, StoreOptions
from probe.record import codec

Row = dict[str, Any]
RECEIVED = 1_795_000_000 * 10**9  # November 2026


def row(number: int, start_ns: int, **fields: Any) -> Row:
    """Return a record of one second that begins at `start_ns`."""
    return {
        "session_id": f"{number:016x}",
        "record_kind": "final",
        "interval_index": 0,
        "capture_point": "s1u",
        "flow_start_time": codec.time_to_text(start_ns),
        "start_time": codec.time_to_text(start_ns),
        "end_time": codec.time_to_text(start_ns + 10**9),
        "transport": "tcp",
        "bytes_up": 100 + number,
        "bytes_down": 1000 + number,
        "flags": [],
    } | fields


def batch(
    rows: list[Row], sequence: int = 1, received_at: int = RECEIVED, **body: Any
) -> StoredBatch:
    """Return `rows` sealed, sent and decoded."""
    head = {name: body.pop(name) for name in ("health", "gaps") if name in body}
    sealed = codec.seal(
        codec.body_from_rows(rows, **body),
        probe_id="probe-1",
        epoch=1_790_000_000_000,
        sequence=sequence,
        created_at=received_at - 10**9,
        **head,
    )
    return StoredBatch(codec.decode(sealed), received_at)


def services(server_name: str | None, app_protocol: str | None) -> tuple[str | None, str]:
    """Name the service of one server and the class of one protocol."""
    service = "Example" if server_name == "www.example.com" else None
    return service, "web" if service or app_protocol == "tls" else "other"


@pytest.fixture
def make_row() -> Callable[..., Row]:
    return row


@pytest.fixture
def make_batch() -> Callable[..., StoredBatch]:
    return batch


@pytest.fixture
def options(tmp_path: Path) -> StoreOptions:
    return StoreOptions(path=tmp_path / "store")


@pytest.fixture
async def store(options: StoreOptions):
    opened = Store.open(options, services)
    yield opened
    await opened.close()


@pytest.fixture
def count(store: Store) -> Callable[..., Awaitable[Any]]:
    async def ask(expression: str, table: str = "sessions") -> Any:
        return (await store.fetch(f"SELECT {expression} AS value FROM {table}", {}))[0]["value"]

    return ask
