"""A look into a spool directory without opening it: nothing is locked, mended or written."""

from dataclasses import dataclass
from pathlib import Path

from probe.errors import SpoolError
from probe.spool import segment
from probe.spool.state import read_state


@dataclass(frozen=True)
class PendingBatch:
    """A batch that waits for the collector. `payload` is zstd-compressed msgpack."""

    sequence: int
    created_at: int
    compressed_bytes: int
    payload: bytes | None


@dataclass(frozen=True)
class SpoolSurvey:
    """What a spool directory holds at this moment."""

    epoch: int | None
    next_sequence: int
    pending: list[PendingBatch]
    stored_bytes: int
    segments: int
    unsound_segments: int
    gaps: int
    quarantined: int


def survey(directory: Path, *, payloads: bool = False) -> SpoolSurvey:
    """Return what the spool in `directory` holds; with `payloads`, the batches too.

    A process may be writing meanwhile, so the last batch may be missing. Raises `SpoolError`.
    """
    if not (directory / "segments").is_dir():
        raise SpoolError(f"spool {directory}: is not a spool directory")
    try:
        return _survey(directory, payloads)
    except OSError as error:
        raise SpoolError(f"spool {directory}: {error.strerror or error}") from error


def _survey(directory: Path, payloads: bool) -> SpoolSurvey:
    state = read_state(directory / "state")
    paths = segment.segment_paths(directory / "segments")
    scans = [segment.scan(path) for path in paths]
    floor = state.floor if state else 0
    settled = {n for low, high in (state.settled if state else []) for n in range(low, high + 1)}
    entries = [entry for scan in scans for entry in scan.entries]
    pending = [e for e in entries if e.sequence >= floor and e.sequence not in settled]
    epochs = [state.epoch] if state else [scan.epoch for scan in scans if scan.epoch is not None]
    return SpoolSurvey(
        epoch=epochs[0] if epochs else None,
        next_sequence=max([floor, *(entry.sequence + 1 for entry in entries)]),
        pending=[_pending(entry, payloads) for entry in pending],
        stored_bytes=sum(path.stat().st_size for path in paths),
        segments=len(paths),
        unsound_segments=sum(scan.damaged for scan in scans),
        gaps=len(state.gaps) if state else 0,
        quarantined=len([p for p in (directory / "quarantine").iterdir() if p.suffix != ".json"]),
    )


def _pending(entry: segment.Entry, payloads: bool) -> PendingBatch:
    payload = segment.read_payload(entry) if payloads else None
    return PendingBatch(entry.sequence, entry.created_at, entry.length, payload)
