"""The rooms of one collector, opened from its configuration and wired to each other."""

import asyncio
import fcntl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final, TypeVar

from collector import __version__, portal, query
from collector.config import ChdbStore, CollectorConfig, ConfigError, Incidents
from collector.errors import StoreError
from collector.identity import tokens
from collector.identity.authentication import Authenticator
from collector.identity.lookup import Lookup
from collector.identity.maps import Maps, MapsInForce, load_maps
from collector.identity.operations import Operation
from collector.identity.state import StateDatabase
from collector.incident import book
from collector.incident.evaluation import Evaluator, Rules
from collector.incident.incident import Patience
from collector.incident.judgement import SHARE_KINDS, Kind, Thresholds
from collector.incident.operations import IncidentEndpoint
from collector.ingest import accepted
from collector.ingest.endpoint import BatchEndpoint, IngestLimits
from collector.metrics import Metrics
from collector.qoe import Models, ServiceMap
from collector.service.description import described
from collector.service.health import Health
from collector.store import Store, StoreOptions
from probe.settings import read_secret

T = TypeVar("T")

_STATE_STEPS: Final = (
    ("identity", tokens.STEPS),
    ("ingest", accepted.STEPS),
    ("incident", book.STEPS),
)


@dataclass(frozen=True)
class Rooms:
    """What a running collector consists of."""

    config: CollectorConfig
    database: StateDatabase
    store: Store
    metrics: Metrics
    authenticator: Authenticator
    evaluator: Evaluator
    maps: MapsInForce
    operations: list[Operation]


@asynccontextmanager
async def opened(config: CollectorConfig) -> AsyncIterator[Rooms]:
    """Open state and store and wire the rooms; close them in the reverse order.

    Raises `CollectorError` if something cannot be opened, `ConfigError` for files without use.
    """
    site_key = read_secret(config.site_key_file) if config.site_key_file else None
    models = load_models(config)
    metrics = Metrics(__version__)
    maps = await asyncio.to_thread(MapsInForce, partial(load_identity_maps, config), metrics)
    database = await asyncio.to_thread(open_state, config)
    try:
        store = await asyncio.to_thread(open_store, config)
        try:
            batches = BatchEndpoint(store, database, metrics, _ingest_limits(config))
            try:
                yield _wired(
                    config,
                    database=database,
                    store=store,
                    models=models,
                    maps=maps,
                    metrics=metrics,
                    batches=batches,
                    site_key=site_key,
                )
            finally:
                await asyncio.to_thread(batches.close)
        finally:
            await store.close()
    finally:
        await asyncio.to_thread(database.close)


def open_state(config: CollectorConfig) -> StateDatabase:
    """Open the state file, its tables brought to this version. Blocks."""
    database = StateDatabase.open(config.state_path)
    try:
        for room, steps in _STATE_STEPS:
            database.migrate(room, steps)
    except BaseException:
        database.close()
        raise
    return database


def open_store(config: CollectorConfig) -> Store:
    """Open the store, which migrates it. Blocks."""
    if isinstance(config.store, ChdbStore):
        _refuse_locked(config.store.path)
    return Store.open(store_options(config), load_services(config).classify)


def _refuse_locked(path: Path) -> None:
    """Raise `StoreError` if another process has the embedded store open, or it cannot be read.

    The engine would refuse too, but without a reason. It holds an flock on its file `status`.
    """
    try:
        with (path / "status").open("rb") as status:
            fcntl.flock(status, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return
    except BlockingIOError:
        raise StoreError(
            f"store.path {path}: another process has it open, and it admits one"
        ) from None
    except OSError as error:
        raise StoreError(f"store.path {path}: {error.strerror or error}") from error


def load_models(config: CollectorConfig) -> Models:
    """Return the configured models, else those that come with the collector."""
    return (
        Models.load(config.models)
        if config.models
        else _packaged("default_model.yaml", Models.load)
    )


def load_services(config: CollectorConfig) -> ServiceMap:
    """Return the configured services, else those that come with the collector."""
    if config.services:
        return ServiceMap.load(config.services)
    return _packaged("default_services.yaml", ServiceMap.load)


def load_identity_maps(config: CollectorConfig) -> Maps:
    """Return the configured identity maps, empty where none is named."""
    return load_maps(config.maps.cells, config.maps.ran_nodes, config.maps.devices)


def _packaged(name: str, load: Callable[[Path], T]) -> T:
    with as_file(files("collector.qoe") / name) as path:
        return load(path)


def content_problems(config: CollectorConfig) -> list[str]:
    """Return a line for each fault in the files that the configuration names."""
    problems: list[str] = []
    loads: tuple[Callable[[CollectorConfig], object], ...] = (
        load_models,
        load_services,
        load_identity_maps,
    )
    for load in loads:
        try:
            load(config)
        except ConfigError as error:
            problems += error.problems
    return problems


def store_options(config: CollectorConfig) -> StoreOptions:
    """Return the store's options of the configuration."""
    common: dict[str, Any] = {
        "raw_retention_s": _seconds(config.retention.raw),
        "rollup_retention_s": _seconds(config.retention.rollups),
        "query_threads": config.limits.query_threads,
        "query_timeout_s": _seconds(config.limits.query_timeout),
        "query_memory_bytes": config.limits.query_memory,
    }
    store = config.store
    if isinstance(store, ChdbStore):
        return StoreOptions(engine="chdb", path=store.path, **common)
    password = read_secret(store.password_file).decode() if store.password_file else ""
    return StoreOptions(
        engine="clickhouse",
        urls=store.urls,
        cluster=store.cluster,
        user=store.user,
        password=password,
        database=store.database,
        **common,
    )


def _wired(
    config: CollectorConfig,
    *,
    database: StateDatabase,
    store: Store,
    models: Models,
    maps: MapsInForce,
    metrics: Metrics,
    batches: BatchEndpoint,
    site_key: bytes | None,
) -> Rooms:
    evaluator = Evaluator(store, models, database, metrics, rules=_rules(config))
    health = Health(
        {
            "store": partial(store.fetch, "SELECT 1", {}),
            "state": partial(database.read, lambda connection: connection.execute("SELECT 1")),
        },
        metrics,
    )
    operations = [
        *health.operations(),
        *batches.operations(),
        *Lookup(database, site_key).operations(),
        *IncidentEndpoint(database, evaluator).operations(),
        *query.operations(store, models, maps, config.capture_points),
        *portal.operations(),
    ]
    operations.append(described(operations))
    authenticator = Authenticator(database)
    return Rooms(config, database, store, metrics, authenticator, evaluator, maps, operations)


def _ingest_limits(config: CollectorConfig) -> IngestLimits:
    limits = config.limits
    return IngestLimits(
        max_sent=limits.max_sent,
        max_decoded=limits.max_decoded,
        in_flight=limits.in_flight,
        concurrency=limits.concurrent_batches,
        body_timeout_s=limits.body_timeout.total_seconds(),
        store_timeout_s=limits.store_timeout.total_seconds(),
    )


def _rules(config: CollectorConfig) -> Rules:
    incidents = config.incidents
    return Rules(
        width_s=_seconds(incidents.window),
        settle_s=_seconds(incidents.settle),
        thresholds=Thresholds(
            min_attempts=incidents.min_attempts,
            min_subscribers=incidents.min_subscribers,
            failure_ratio=incidents.failure_ratio,
            qoe_below=incidents.qoe_below,
            shares=_least_shares(incidents),
            min_bytes=incidents.attribution_min_bytes,
        ),
        patience=Patience(good=incidents.close_after, unknown=incidents.forget_after),
        preferred=config.capture_points,
    )


def _least_shares(incidents: Incidents) -> dict[tuple[str, Kind], float]:
    """Return the configured shares by capture point and kind, without those left out."""
    given = (
        (name, kind, getattr(shares, kind.removesuffix("_share")))
        for name, shares in incidents.attribution.items()
        for kind in SHARE_KINDS
    )
    return {(name, kind): least for name, kind, least in given if least is not None}


def _seconds(duration: timedelta) -> int:
    return max(1, int(duration.total_seconds()))
