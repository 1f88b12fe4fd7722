"""`qoe-probe replay`: captures in, session records out, the same bytes every time."""

import contextlib
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from probe.agent import PacketEngine, native_kit
from probe.cli.progress import Progress
from probe.cli.table import RecordTable
from probe.config import (
    ReplayConfig,
    capture_files,
    engine_options,
    load_replay_config,
    workers_for,
)
from probe.errors import CaptureError, ProbeError
from probe.record import codec
from probe.settings import read_secret

WELL_KNOWN_KEY: Final = b"edgeqoe: a well-known key, for replays only"
CAPTURE_POINT: Final = "replay"
TAKE_TIMEOUT_S: Final = 0.2
_NO_KEY: Final = "no site key file: pseudonyms come from a well-known key"


def replay_to(
    captures: Sequence[Path],
    *,
    form: str,
    output: Path | None,
    config_file: Path | None,
    site_key_file: Path | None,
    workers: int | None = None,
) -> int:
    """Write the records of `captures` to the file `output`, or to standard output.

    Raises `ConfigError`, or `ProbeError` after the records that could be had.
    """
    config = _config(config_file)
    key = _site_key(config, site_key_file)
    engine = _engine(captures, config, key.secret, workers)
    try:
        with _opened(output) as stream, Progress() as progress:
            batches = _batches(engine, config.probe_id, progress)
            _WRITERS[form](batches, stream)
            stream.flush()
    except CaptureError as error:  # a failure stays one line
        raise CaptureError(f"{error} ({_NO_KEY})" if key.well_known else str(error)) from error
    counters = engine.counters()
    if not counters["records"]:
        _warn(f"no session was found: {counters['packets']} packets could be read")
    if reached := limits_reached(counters):
        _warn(f"limits were reached ({reached}): the records depend on the number of workers")
    if key.well_known:
        _warn(_NO_KEY)
    return 0


def limits_reached(counters: Mapping[str, int]) -> str:
    """Name what a full table gave up before its time; empty where none was full."""
    reached = (name for name in _LIMITS if counters.get(name))
    return ", ".join(f"{name} {counters[name]}" for name in reached)


_LIMITS: Final = (
    "flows_evicted",
    "clients_shed",
    "attempts_shed",
    "pairs_shed",
    "names_shed",
    "quic_ids_shed",
    "bearers_shed",
    "transactions_shed",
    "icmp_homes_shed",
    "control_fragments_shed",
    "control_directions_shed",
)


def _warn(text: str) -> None:
    print(f"qoe-probe: warning: {text}", file=sys.stderr)


def replayed_rows(
    captures: Sequence[Path], *, config_file: Path | None, site_key_file: Path | None
) -> Iterator[codec.Row]:
    """Yield the records of `captures` in the form they have in JSON; errors as `replay_to`."""
    config = _config(config_file)
    engine = _engine(captures, config, _site_key(config, site_key_file).secret)
    with Progress() as progress:
        for batch in _batches(engine, config.probe_id, progress):
            yield from codec.rows(codec.decode(batch))


def _config(file: Path | None) -> ReplayConfig:
    return ReplayConfig() if file is None else load_replay_config(file)


@dataclass(frozen=True)
class _SiteKey:
    secret: bytes
    well_known: bool


def _site_key(config: ReplayConfig, file: Path | None) -> _SiteKey:
    chosen = file or config.site_key_file
    if chosen is None:
        return _SiteKey(WELL_KNOWN_KEY, well_known=True)
    return _SiteKey(read_secret(chosen), well_known=False)


def _engine(
    captures: Sequence[Path],
    config: ReplayConfig,
    site_key: bytes,
    workers: int | None = None,
) -> PacketEngine:
    kit = native_kit()
    files = capture_files(captures)
    points = {capture.capture_point for capture in config.capture}
    source = {
        "capture_point": points.pop() if len(points) == 1 else CAPTURE_POINT,
        "files": files,
        "time_offset_ns": 0,
        "workers": workers_for(files, workers),
    }
    options = engine_options(config, [source], client_address="full")
    try:
        engine = kit.engine(options, site_key)
        engine.start()
    except kit.error as error:
        raise CaptureError(str(error)) from error
    return engine


def _batches(engine: PacketEngine, probe_id: str, progress: Progress) -> Iterator[bytes]:
    """Yield sealed batches; a failing source is raised after the last one (`CaptureError`)."""
    sequence, failure = 0, None
    error_type = native_kit().error
    try:
        while True:
            try:
                body = engine.next_body(TAKE_TIMEOUT_S)
            except error_type as error:
                failure = failure or str(error)
                continue
            if body is not None:
                yield codec.seal(body, probe_id=probe_id, epoch=0, sequence=sequence, created_at=0)
                sequence += 1
            elif engine.finished():
                break
            progress.show(engine)
    finally:
        engine.stop()
    if failure is not None:
        raise CaptureError(failure)


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    """Give the stream to write to; failing to write is told by the name of the file."""
    try:
        if path is None:
            yield sys.stdout.buffer
        else:
            with path.open("wb") as file:
                yield file
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "standard output" if path is None else path
        raise ProbeError(f"{name}: cannot be written: {error.strerror}") from error


# ---------------------------------------------------------------------------------------- writers


def _write_msgpack(batches: Iterable[bytes], stream: BinaryIO) -> None:
    for batch in batches:
        stream.write(batch)


def _write_jsonl(batches: Iterable[bytes], stream: BinaryIO) -> None:
    for batch in batches:
        for row in codec.rows(codec.decode(batch)):
            stream.write(json_line(row))


def json_line(row: dict[str, Any]) -> bytes:
    """Return the record as one line of compact JSON, every field in it."""
    return json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _write_table(batches: Iterable[bytes], stream: BinaryIO) -> None:
    table = RecordTable()
    try:
        for batch in batches:
            for row in codec.rows(codec.decode(batch)):
                table.add(row)
    finally:  # what came before a failure is worth seeing
        text = io.TextIOWrapper(stream, encoding="utf-8", write_through=True)
        try:
            table.print(text)
        finally:
            text.detach()


_WRITERS: Final = {"jsonl": _write_jsonl, "table": _write_table, "msgpack": _write_msgpack}
