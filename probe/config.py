"""The probe's configuration, `probe.yaml`; docs/configuration-probe.md explains every key."""

import json
import os
import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Discriminator, Field, PlainValidator, Tag, model_validator

from probe.errors import ConfigError
from probe.settings import (
    Address,
    Duration,
    FilePath,
    Listen,
    ListenAddress,
    Prefix,
    SecretFile,
    Section,
    Size,
    Url,
    load,
    parse_duration,
    secret_problems,
    text_like,
)
from probe.settings.capture_filter import Program, compile_filter
from probe.settings.identities import CellId, Name, TrackingArea
from probe.settings.rows import load_rows

ClientAddress = Literal["full", "prefix", "none"]

# ------------------------------------------------------------------------------------ attribution

SubscriberIdentity = Annotated[
    str, text_like(r"(imsi|msisdn):[0-9]{5,15}", "imsi:001010000000001, msisdn:49170123456")
]
Rat = Annotated[str, text_like(r"[a-z0-9_]{1,16}", "a short name in lower case")]
Apn = Annotated[str, text_like(r"[a-z0-9][a-z0-9.-]{0,99}", "an APN in lower case")]


class AttributionRule(Section):
    """What packets that match every given key (the first four fields) belong to.

    Texts are the 3GPP identities of docs/record.md: `cell_id` an ECGI (7 hex digits), NCGI (9) or
    CGI (4-4), upper case; `tracking_area` with 4 or 6 hex digits.
    """

    client_prefix: Prefix | None = None
    vlan: Annotated[int, Field(ge=0, le=4094)] | None = None
    teid: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)] | None = None
    gtpu_address: Address | None = None
    subscriber: SubscriberIdentity | None = None
    cell_id: CellId | None = None
    ran_node_id: Name | None = None
    tracking_area: TrackingArea | None = None
    rat: Rat | None = None
    apn: Apn | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "AttributionRule":
        values = [getattr(self, name) for name in _RULE_COLUMNS]
        if all(value is None for value in values[:_RULE_KEYS]):
            raise ValueError(f"a key is required; allowed: {', '.join(_RULE_COLUMNS[:_RULE_KEYS])}")
        if all(value is None for value in values[_RULE_KEYS:]):
            raise ValueError(
                f"nothing is attributed; allowed: {', '.join(_RULE_COLUMNS[_RULE_KEYS:])}"
            )
        return self


_RULE_COLUMNS: Final = list(AttributionRule.model_fields)
_RULE_KEYS: Final = 4  # the columns that select packets; the others say what these belong to


def load_attribution_map(path: Path) -> tuple[AttributionRule, ...]:
    """Return the rules of an attribution map, a CSV file with a header or a YAML list.

    Raises `ConfigError` with a line for each problem (see `load_rows`).
    """
    return load_rows(path, AttributionRule)


def _map_kind(value: object) -> str:
    return "rules" if isinstance(value, list | tuple) else "file"


class Attribution(Section):
    """Whose traffic is it, and in which cell: what the packets themselves do not say."""

    subscriber_prefixes: tuple[Prefix, ...] = ()
    ran_prefixes: tuple[Prefix, ...] = ()
    map: Annotated[
        Annotated[FilePath, Tag("file")] | Annotated[tuple[AttributionRule, ...], Tag("rules")],
        Discriminator(_map_kind),
    ] = ()

    def rules(self) -> tuple[AttributionRule, ...]:
        """Return the rules, read from the map's file if one is named (`ConfigError`)."""
        return load_attribution_map(self.map) if isinstance(self.map, Path) else self.map


# ---------------------------------------------------------------------------------------- capture


MAX_WORKERS: Final = 64


class InterfaceCapture(Section):
    """Live capture on a network interface."""

    interface: Annotated[str, text_like(r"[^\s/:]{1,15}", "a name as ip link shows it")]
    capture_point: Name
    outgoing: bool = False  # true on a host that watches its own traffic: a mirror only receives
    workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)] = 1
    ring_size: Annotated[Size, Field(ge=2 << 20, le=2 << 30)] = 64 << 20
    filter: str | None = None
    timestamps: Literal["kernel", "hardware"] = "kernel"

    def filter_program(self) -> dict[str, Program] | None:
        """Return the filter as the engine takes it (`ValueError`)."""
        return None if self.filter is None else compile_filter(self.filter)


_MOST_BY_ITSELF: Final = 8
_SHARED_FROM_BYTES: Final = 16 << 20  # a second of one core; less is over before threads pay


def workers_for(files: Sequence[str], wanted: int | None) -> int:
    """Return how many threads are to measure the flows of `files`: as many as are `wanted`.

    By itself: one where they are small or their size is not known (a stream), else one for each
    core that this process may use, up to eight.
    """
    if wanted is not None:
        return wanted
    sizes = [Path(file).stat().st_size if Path(file).is_file() else 0 for file in files]
    if sum(sizes) < _SHARED_FROM_BYTES:
        return 1
    return min(len(os.sched_getaffinity(0)), _MOST_BY_ITSELF)


class FileCapture(Section):
    """Capture files: one, several, or those of a directory; "-" is standard input.

    `time: now` moves the packets so that the last one falls on the moment of the start.
    """

    file: FilePath | None = None
    files: Annotated[tuple[FilePath, ...], Field(min_length=1)] | None = None
    directory: FilePath | None = None
    capture_point: Name
    time: Literal["original", "now"] = "original"
    workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)] | None = None  # None: by size and cores

    @model_validator(mode="after")
    def _one_source(self) -> "FileCapture":
        given = [name for name in _FILE_SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "exactly one source is required; allowed: interface, " + ", ".join(_FILE_SOURCES)
            )
        if self.time == "now" and any(str(path) == "-" for path in self.paths()):
            raise ValueError("time: now needs files that can be read twice, not standard input")
        return self

    def paths(self) -> tuple[Path, ...]:
        """Return what the configuration names; a directory stands for itself."""
        single = self.file or self.directory
        return (single,) if single is not None else self.files or ()


_FILE_SOURCES: Final = ("file", "files", "directory")
_LIVE_KEYS: Final = ("interface", "outgoing", "ring_size", "filter", "timestamps")


def _capture_kind(value: object) -> str:
    """Tell a live capture from files, in spite of a slip of the pen in the key that decides."""
    if isinstance(value, dict):
        known = (*_LIVE_KEYS, *_FILE_SOURCES, "time", "workers")
        near = [match for key in value for match in get_close_matches(str(key), known, 1)]
        live = any(key in _LIVE_KEYS for key in near)
    else:
        live = isinstance(value, InterfaceCapture)
    return "interface capture" if live else "file capture"


Capture = Annotated[
    Annotated[InterfaceCapture, Tag("interface capture")]
    | Annotated[FileCapture, Tag("file capture")],
    Discriminator(_capture_kind),
]

_CAPTURE_MAGIC: Final = (
    b"\xa1\xb2\xc3\xd4",  # pcap, microseconds, and the same for the other byte order ...
    b"\xd4\xc3\xb2\xa1",
    b"\xa1\xb2\x3c\x4d",  # ... nanoseconds
    b"\x4d\x3c\xb2\xa1",
    b"\x0a\x0d\x0d\x0a",  # pcapng
    b"\x28\xb5\x2f\xfd",  # zstd
    b"\x1f\x8b",  # gzip
    b"snoop\0\0\0",
)


def capture_files(paths: Iterable[Path]) -> list[str]:
    """Return the files to open for `paths`: of a directory, its captures in the order of names.

    Inside a directory, files that do not begin like a capture are left out; a file that is named
    itself never is. Raises `ConfigError` for a directory that cannot be read or holds none.
    """
    files: list[str] = []
    for path in paths:
        files += _directory_files(path) if path.is_dir() else [str(path)]
    return files


def _directory_files(directory: Path) -> list[str]:
    try:
        files = [str(path) for path in sorted(directory.iterdir()) if _is_capture(path)]
    except OSError as error:
        raise ConfigError([f"{directory}: cannot be read: {error.strerror or error}"]) from None
    if not files:
        raise ConfigError([f"{directory}: holds no capture file"])
    return files


def _is_capture(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8).startswith(_CAPTURE_MAGIC)


# ------------------------------------------------------------------------------- limits and spool


Shedding = Literal["auto", "nothing", "content", "round_trips"]


def _parse_share(value: object) -> int:
    if isinstance(value, str) and (match := re.fullmatch(r"([0-9]{1,3})%", value)):
        share = int(match[1])
        if 1 <= share <= 100:
            return share
    raise ValueError("a share of one core; allowed: 1% to 100%")


CpuShare = Annotated[int, PlainValidator(_parse_share)]


class Limits(Section):
    """Bounds of the engine's memory and time. What exceeds them is shed by a rule and counted.

    With `memory`, tables that are not given a size of their own get theirs from it.
    """

    memory: Size | None = None
    cpu_share: CpuShare = 100  # percent of one core, for each live capture
    cpus: tuple[Annotated[int, Field(ge=0, le=1023)], ...] = ()
    shedding: Shedding = "auto"
    flows: Annotated[int, Field(ge=16, le=50_000_000)] = 500_000
    fragments: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    reassembly_bytes: Size = 64 << 20
    clients: Annotated[int, Field(ge=16, le=50_000_000)] = 500_000
    pairs: Annotated[int, Field(ge=16, le=50_000_000)] = 500_000
    names: Annotated[int, Field(ge=16, le=50_000_000)] = 200_000
    bearers: Annotated[int, Field(ge=16, le=50_000_000)] = 200_000
    copies: Annotated[int, Field(ge=0, le=1 << 24)] = 65_536


def _parse_fsync(value: object) -> timedelta | Literal["always"]:
    if value == "always":
        return "always"
    try:
        return parse_duration(value)
    except ValueError:
        raise ValueError("unknown value; allowed: always, or a duration such as 1s") from None


Fsync = Annotated[timedelta | Literal["always"], PlainValidator(_parse_fsync)]


class SpoolConfig(Section):
    """The directory that keeps batches until the collector has them."""

    path: FilePath
    max_size: Size = 2 << 30
    max_age: Duration | None = None
    segment_size: Size = 16 << 20
    fsync: Fsync = "always"

    @model_validator(mode="after")
    def _holds_segments(self) -> "SpoolConfig":
        if self.segment_size * 4 > self.max_size:
            raise ValueError("segment_size must be at most a quarter of max_size")
        return self


# -------------------------------------------------------------------------------------- collector


class ClientTls(Section):
    """How the collector is authenticated, and how the probe shows itself to it."""

    ca_file: FilePath | None = None
    certificate_file: FilePath | None = None
    key_file: SecretFile | None = None

    @model_validator(mode="after")
    def _complete(self) -> "ClientTls":
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together")
        return self


def _between_seconds(shortest: int, longest: int) -> AfterValidator:
    def check(value: timedelta) -> timedelta:
        if value % timedelta(seconds=1) or not shortest <= value.total_seconds() <= longest:
            raise ValueError(f"must be whole seconds; allowed: {shortest}s to {longest}s")
        return value

    return AfterValidator(check)


class CollectorConfig(Section):
    """Where batches go, and how they are cut and sent."""

    urls: Annotated[tuple[Url, ...], Field(min_length=1)]
    token_file: SecretFile
    timeout: Duration = timedelta(seconds=30)
    in_flight: Annotated[int, Field(ge=1, le=64)] = 4
    batch_rows: Annotated[int, Field(ge=1, le=65_536)] = 8192
    batch_interval: Annotated[Duration, _between_seconds(1, 3600)] = timedelta(seconds=10)
    longest_retry: Duration = timedelta(minutes=1)
    stop_timeout: Duration = timedelta(seconds=15)
    tls: ClientTls = ClientTls()


class Privileges(Section):
    """What the probe gives up once its sockets are open."""

    user: Name | None = None  # whom root goes on as
    drop_capabilities: bool = True
    filter_system_calls: bool = True
    reopen_interfaces: bool = False  # one that went away and comes back: keeps CAP_NET_RAW


class MetricsConfig(Section):
    listen: Listen = ListenAddress("127.0.0.1", 8643)


# ------------------------------------------------------------------------------------ the document


class ReplayConfig(Section):
    """`probe.yaml` as `replay` reads it: what only `run` needs may be left out."""

    probe_id: Name = "replay"
    capture: tuple[Capture, ...] = ()
    site_key_file: SecretFile | None = None
    client_address: ClientAddress | None = None  # None: prefix when live, full in a replay
    active_timeout: Annotated[Duration, _between_seconds(1, 3600)] = timedelta(seconds=60)
    attribution: Attribution = Attribution()
    limits: Limits = Limits()
    spool: SpoolConfig | None = None
    collector: CollectorConfig | None = None
    metrics: MetricsConfig = MetricsConfig()
    privileges: Privileges = Privileges()


class ProbeConfig(ReplayConfig):
    """`probe.yaml` as `run` needs it."""

    probe_id: Name
    capture: Annotated[tuple[Capture, ...], Field(min_length=1)]
    site_key_file: SecretFile
    spool: SpoolConfig
    collector: CollectorConfig


def load_probe_config(path: Path) -> ProbeConfig:
    """Return the configuration in the file `path`, or raise `ConfigError`."""
    return load(path, ProbeConfig)


def load_replay_config(path: Path) -> ReplayConfig:
    """Return the configuration in the file `path` for a replay, or raise `ConfigError`."""
    return load(path, ReplayConfig)


def content_problems(config: ProbeConfig) -> list[str]:
    """Return what is wrong with the files that `config` names, a line for each fault."""
    problems = secret_problems(config)
    for name in ("ca_file", "certificate_file"):
        path = getattr(config.collector.tls, name)
        if path is not None and not path.is_file():
            problems.append(f"collector.tls.{name}: {path}: there is no such file")
    for index, capture in enumerate(config.capture):
        problems += _capture_problems(f"capture[{index}]", capture)
    try:
        config.attribution.rules()
    except ConfigError as error:
        problems += error.problems
    return problems


def _capture_problems(key: str, capture: InterfaceCapture | FileCapture) -> list[str]:
    if isinstance(capture, InterfaceCapture):
        try:
            capture.filter_program()
        except ValueError as error:
            return [f"{key}.filter: {error}"]
        return []  # interfaces come and go: `doctor` looks at them
    missing = [path for path in capture.paths() if str(path) != "-" and not path.exists()]
    problems = [f"{key}: {path}: there is no such file" for path in missing]
    try:
        capture_files(path for path in capture.paths() if path.is_dir())
    except ConfigError as error:
        problems += [f"{key}: {problem}" for problem in error.problems]
    return problems


def engine_options(
    config: ReplayConfig,
    captures: Sequence[dict[str, Any]],
    *,
    client_address: ClientAddress,
    batch_rows: int | None = None,
    privileges: Privileges | None = None,
) -> str:
    """Return the engine's options (`probe/engine/_native.pyi`) as JSON text.

    `captures` are entries of the option of that name. `client_address` holds where the
    configuration leaves it open. Raises `ConfigError` if the attribution map cannot be used.
    """
    batches = config.collector
    interval = batches.batch_interval if batches else timedelta(seconds=10)
    limits = config.limits.model_dump(exclude={"memory", "cpu_share", "cpus"})
    return json.dumps(
        {
            "probe_id": config.probe_id,
            "captures": list(captures),
            "active_timeout_s": int(config.active_timeout.total_seconds()),
            "client_address": config.client_address or client_address,
            "batch_rows": batch_rows or (batches.batch_rows if batches else 8192),
            "batch_interval_s": int(interval.total_seconds()),
            "limits": limits | {"cpu_share_percent": config.limits.cpu_share},
            "cpus": list(config.limits.cpus),
            "drop_capabilities": privileges is not None and privileges.drop_capabilities,
            "keep_net_raw": privileges is not None and privileges.reopen_interfaces,
            "subscriber_prefixes": list(map(str, config.attribution.subscriber_prefixes)),
            "ran_prefixes": list(map(str, config.attribution.ran_prefixes)),
            "attribution": attribution_option(config.attribution.rules()),
        }
    )


def attribution_option(rules: Iterable[AttributionRule]) -> list[dict[str, Any]]:
    """Return the engine's option `attribution`: all keys of each rule, null where it has none."""
    return [_rule_option(rule) for rule in rules]


def _rule_option(rule: AttributionRule) -> dict[str, Any]:
    values = ((name, getattr(rule, name)) for name in _RULE_COLUMNS)
    return {
        name: value if value is None or isinstance(value, int | str) else str(value)
        for name, value in values
    }
