"""The collector's configuration, `collector.yaml`: typed, frozen, checked before a start."""

import ipaddress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from probe.errors import ConfigError
from probe.record import codec
from probe.settings import (
    Duration,
    FilePath,
    Listen,
    ListenAddress,
    SecretFile,
    Section,
    Size,
    Url,
    load,
    parse_listen,
    secret_problems,
)

__all__ = ["CollectorConfig", "ConfigError", "file_problems", "load_config"]

_MIB = 1 << 20

CapturePoint = Annotated[str, Field(min_length=1, max_length=128)]


class ChdbStore(Section):
    """The embedded store: ClickHouse in this process, its files under `path`."""

    engine: Literal["chdb"]
    path: FilePath


class ClickHouseStore(Section):
    """A ClickHouse cluster, reached over HTTP."""

    engine: Literal["clickhouse"]
    urls: tuple[Url, ...] = Field(min_length=1)
    cluster: str | None = None
    database: str = Field(default="edgeqoe", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    user: str = "default"
    password_file: SecretFile | None = None


class Retention(Section):
    """How long each kind of data is kept, counted from when the collector received it."""

    raw: Duration = timedelta(days=30)
    rollups: Duration = timedelta(days=400)
    # A probe whose spool held a batch for longer than this would have it stored twice.
    accepted: Duration = timedelta(days=90)
    audit: Duration = timedelta(days=365)
    incidents: Duration = timedelta(days=365)


class Tls(Section):
    """HTTPS; with `client_ca_file` a client must show a certificate of that authority too."""

    certificate_file: FilePath
    key_file: SecretFile
    client_ca_file: FilePath | None = None


class MapFiles(Section):
    """Identity maps: what cells, base stations and devices are called (CSV or YAML)."""

    cells: FilePath | None = None
    ran_nodes: FilePath | None = None
    devices: FilePath | None = None


class Limits(Section):
    """Bounds of what requests may cost."""

    max_sent: Size = codec.MAX_SENT_BYTES
    max_decoded: Size = codec.MAX_DECODED_BYTES
    in_flight: Size = 64 * _MIB
    concurrent_batches: int = Field(default=4, ge=1, le=64)
    body_timeout: Duration = timedelta(seconds=30)
    store_timeout: Duration = timedelta(seconds=60)
    drain_timeout: Duration = timedelta(seconds=30)
    query_threads: int = Field(default=2, ge=1, le=64)
    query_timeout: Duration = timedelta(seconds=30)
    query_memory: Size = 1 << 30

    @field_validator("max_sent")
    @classmethod
    def _within_contract(cls, value: int) -> int:
        if value > codec.MAX_SENT_BYTES:
            raise ValueError("must be at most 8MiB, the largest batch that a probe may send")
        return value

    @field_validator("max_decoded")
    @classmethod
    def _decoded_within_contract(cls, value: int) -> int:
        if value > codec.MAX_DECODED_BYTES:
            raise ValueError("must be at most 64MiB, the largest batch that a probe may make")
        return value

    @field_validator("in_flight")
    @classmethod
    def _holds_one(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("max_sent", 0):
            raise ValueError("must be at least max_sent, or no chunked batch would be admitted")
        return value


Share = Annotated[float, Field(gt=0, le=1)]


class AttributionShares(Section):
    """Which part of the bytes of a capture point should be known to be whose and where."""

    subscriber: Share | None = None
    cell: Share | None = None
    ran_node: Share | None = None


class Incidents(Section):
    """When a cell's trouble becomes an incident. A *window* is `window` long, on its multiples."""

    enabled: bool = True
    every: Duration = timedelta(minutes=1)
    window: Duration = timedelta(minutes=5)
    settle: Duration = timedelta(minutes=2)  # how late records may come
    min_attempts: int = Field(default=50, ge=1)
    min_subscribers: int = Field(default=3, ge=1)
    failure_ratio: float = Field(default=0.2, gt=0, le=1)
    qoe_below: float = Field(default=40.0, ge=0, le=100)
    close_after: int = Field(default=3, ge=1)  # good windows in a row
    forget_after: int = Field(default=36, ge=1)  # windows in a row with too little to say
    attribution: dict[CapturePoint, AttributionShares] = Field(default_factory=dict)
    attribution_min_bytes: Size = _MIB

    @field_validator("window")
    @classmethod
    def _whole_minutes(cls, value: timedelta) -> timedelta:
        if value % timedelta(minutes=1) or timedelta(hours=1) % value:
            raise ValueError("must be whole minutes that divide an hour; allowed: 1m, 5m, 15m, ...")
        return value


class CollectorConfig(Section):
    """All of `collector.yaml`."""

    listen: Listen = parse_listen("127.0.0.1:8642")
    open_on_loopback: bool = False
    store: Annotated[ChdbStore | ClickHouseStore, Field(discriminator="engine")]
    state: FilePath | None = Field(default=None, validate_default=True)
    site_key_file: SecretFile | None = None
    models: FilePath | None = None
    services: FilePath | None = None
    maps: MapFiles = MapFiles()
    capture_points: tuple[CapturePoint, ...] = ()
    retention: Retention = Retention()
    tls: Tls | None = None
    limits: Limits = Limits()
    incidents: Incidents = Incidents()

    @field_validator("open_on_loopback")
    @classmethod
    def _only_on_loopback(cls, value: bool, info: ValidationInfo) -> bool:
        listen = info.data.get("listen")
        if value and isinstance(listen, ListenAddress) and not is_loopback(listen.host):
            raise ValueError(
                f"read endpoints may be open only while listen is a loopback address, not {listen}"
            )
        return value

    @field_validator("state")
    @classmethod
    def _beside_some_store(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None and isinstance(info.data.get("store"), ClickHouseStore):
            raise ValueError("this key is required with a ClickHouse store")
        return value

    @property
    def state_path(self) -> Path:
        """Return the SQLite file of tokens, audit and accepted batches."""
        if self.state is not None:
            return self.state
        assert isinstance(self.store, ChdbStore)
        return self.store.path.with_name(self.store.path.name + ".state.sqlite")

    @property
    def admin_socket_path(self) -> Path:
        """Return the Unix socket on which a running collector takes local commands."""
        return self.state_path.with_name(self.state_path.name + ".admin")


def load_config(path: Path) -> CollectorConfig:
    """Return the configuration in `path`; `ConfigError` names every problem in it."""
    return load(path, CollectorConfig)


def file_problems(config: CollectorConfig) -> list[str]:
    """Return a line for each file that the configuration names and that cannot be read."""
    named = {"models": config.models, "services": config.services}
    if config.tls is not None:
        named["tls.certificate_file"] = config.tls.certificate_file
        named["tls.client_ca_file"] = config.tls.client_ca_file
    problems = [f"{key}: {text}" for key, path in named.items() if (text := _unreadable(path))]
    return secret_problems(config) + problems


def _unreadable(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"{path}: cannot be read: {error.strerror or error}"
    return None


def is_loopback(host: str) -> bool:
    """Say whether `host` is localhost or a loopback address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
