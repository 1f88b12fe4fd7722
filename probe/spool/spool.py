"""The spool itself: append, read, acknowledge. The layout on disk is in `segment` and `state`.

A batch has its sequence before it is sealed, because the sequence stands inside it: `append` takes
a function that seals. What is stored is what is sent: zstd-compressed msgpack.

Promises:

- A batch is shown to the shipper only once it has been synced, so no crash can give its sequence
  to another batch: (probe_id, epoch, sequence) names one content for ever.
- Acknowledgements need not survive a crash; the batch is then sent again, which is harmless.
- Every sequence is stored, acknowledged, or announced as a gap. A gap is announced in the next
  batch, and again if that batch is lost too. (Two sequences that were written but not yet synced
  when the power failed are given anew: nobody has seen them.)
- The segments never take more than `max_size`; the oldest batches give way, a segment at a time.
"""

import fcntl
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import zstandard

from probe.config import SpoolConfig
from probe.errors import SpoolBusyError, SpoolError, SpoolWriteError
from probe.record.codec import MAX_DECODED_BYTES
from probe.spool import recovery, segment
from probe.spool.segment import Entry
from probe.spool.state import Gap, State, StateFile

log = logging.getLogger(__name__)

COMPRESSION_LEVEL: Final = 3
MAX_ANNOUNCED_GAPS: Final = 1000  # in one batch; the rest waits for the next
QUARANTINE_SHARE: Final = 16  # quarantine/ may take this part of max_size

Seal = Callable[[int, int, list[dict[str, Any]]], bytes]


class GapReason(StrEnum):
    """Why a sequence will never arrive."""

    SPOOL_FULL = "spool_full"  # gave way to newer batches
    TOO_OLD = "too_old"  # exceeded max_age
    DISK_FULL = "disk_full"  # could not be written
    TOO_LARGE = "too_large"  # exceeds the contract's bounds
    REFUSED = "refused"  # the collector refused it for good; it is in quarantine/
    DAMAGED = "damaged"  # the disk lost it
    INTERRUPTED = "interrupted"  # a crash cut its writing short


@dataclass
class _Segment:
    path: Path
    size: int
    newest: int  # created_at of the last record, ns
    pending: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class SpoolStatus:
    """What a spool holds now, and what happened since it was opened."""

    epoch: int
    next_sequence: int
    pending_batches: int
    pending_bytes: int
    stored_bytes: int
    oldest_created_at: int | None
    unannounced_gaps: int
    damaged_segments: int
    lost: dict[str, int]  # batches by GapReason


class Spool:
    """One process's hold on a spool directory. Safe to call from several threads."""

    def __init__(self, config: SpoolConfig, now_ns: Callable[[], int] = time.time_ns) -> None:
        """Open the directory, or make it, and mend what a crash left.

        Raises `SpoolBusyError` where another process holds it, `SpoolError` where it is unusable.
        """
        self._config = config
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._lock_fd = self._fd = -1
        self._active: _Segment | None = None
        self._gaps: list[Gap] = []
        self._compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
        self._lost: Counter[str] = Counter()
        try:
            self._make_directories(config.path)
            self._lock_fd = _take_lock(config.path)
            self._open(config.path)
        except OSError as error:
            raise SpoolError(f"spool {config.path}: {_reason(error)}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------ what it holds

    @property
    def epoch(self) -> int:
        """Unix ms of the spool's creation."""
        return self._epoch

    def status(self) -> SpoolStatus:
        """Return counts for metrics and for people."""
        with self._lock:
            entries = self._pending.values()
            return SpoolStatus(
                epoch=self._epoch,
                next_sequence=self._next_sequence,
                pending_batches=len(self._pending),
                pending_bytes=sum(entry.length for entry in entries),
                stored_bytes=self._stored_bytes(),
                oldest_created_at=min((entry.created_at for entry in entries), default=None),
                unannounced_gaps=sum(gap.announced_in is None for gap in self._gaps),
                damaged_segments=self._damaged_segments,
                lost=dict(self._lost),
            )

    def next_after(self, sequence: int) -> int | None:
        """Return the lowest pending sequence above `sequence` (-1: any) that is safe to send."""
        with self._lock:
            start = max(sequence + 1, self._floor)
            return next((n for n in range(start, self._synced) if n in self._pending), None)

    def read(self, sequence: int) -> bytes | None:
        """Return the compressed batch, or None if the spool does not hold it (any longer).

        Raises `SpoolError` where reading may succeed later (too many open files, for one).
        """
        with self._lock:
            entry = self._pending.get(sequence)
            if entry is None:
                return None
            try:
                payload = segment.read_payload(entry)
            except OSError as error:
                raise SpoolError(f"spool {self._config.path}: {_reason(error)}") from error
            if payload is None:
                self._lose(sequence, GapReason.DAMAGED)
                self._save()
            return payload

    # -------------------------------------------------------------------------------- what changes

    def append(self, seal: Seal) -> int:
        """Store the batch that `seal(epoch, sequence, gaps)` returns, and return its sequence.

        Raises `SpoolWriteError` where it cannot be stored; its sequence is then a gap. What `seal`
        raises passes through, and uses no sequence.
        """
        with self._lock:
            sequence, created_at = self._next_sequence, self._now_ns()
            announced = [gap for gap in self._gaps if gap.announced_in is None]
            announced = announced[:MAX_ANNOUNCED_GAPS]
            sealed = seal(self._epoch, sequence, [_announcement(gap) for gap in announced])
            self._next_sequence += 1
            try:
                self._store(sequence, created_at, self._compressed(sealed))
            except _TooLargeError as error:
                raise self._write_error(sequence, GapReason.TOO_LARGE, str(error)) from None
            except OSError as error:
                raise self._write_error(sequence, GapReason.DISK_FULL, _reason(error)) from error
            self._gaps = [
                replace(gap, announced_in=sequence) if gap in announced else gap
                for gap in self._gaps
            ]
            return sequence

    def sync(self) -> None:
        """Make every appended batch survive a power cut (`SpoolWriteError`)."""
        with self._lock:
            try:
                self._sync()
            except OSError as error:
                raise SpoolWriteError(f"spool {self._config.path}: {_reason(error)}") from error

    def acknowledge(self, sequence: int) -> bool:
        """Forget a batch that the collector has; False if it was not pending."""
        with self._lock:
            if sequence not in self._pending:
                return False
            self._gaps = [gap for gap in self._gaps if gap.announced_in != sequence]
            self._settle(sequence)
            self._save()
            return True

    def refuse(self, sequence: int, reason: str) -> bool:
        """Move a batch that the collector will never take to quarantine/; False if not pending."""
        with self._lock:
            entry = self._pending.get(sequence)
            if entry is None:
                return False
            self._quarantine(entry, reason)
            self._lose(sequence, GapReason.REFUSED)
            self._save()
            return True

    def close(self) -> None:
        """Sync and release the directory. Calling it again does nothing."""
        with self._lock:
            if self._lock_fd < 0:
                return
            try:
                self._sync()
                self._state_file.write(self._state(), durable=True)
            except OSError as error:
                log.error("spool close failed: %s", _reason(error))
            self._close_active()
            self._state_file.close()
            os.close(self._lock_fd)
            self._lock_fd = -1

    # ------------------------------------------------------------------------------------- opening

    def _make_directories(self, directory: Path) -> None:
        for name in ("segments", "quarantine"):
            (directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    def _open(self, directory: Path) -> None:
        try:
            self._state_file = StateFile(directory / "state")
            for draft in (directory / "segments").glob("*.draft"):
                draft.unlink()
            new_epoch = self._now_ns() // 1_000_000
            self._adopt(recovery.recover(directory, self._state_file.state, new_epoch))
        except BaseException:
            os.close(self._lock_fd)
            raise

    def _adopt(self, recovered: recovery.Recovered) -> None:
        state = recovered.state
        self._epoch, self._next_sequence, self._floor = (
            state.epoch,
            state.next_sequence,
            state.floor,
        )
        self._settled = {n for low, high in state.settled for n in range(low, high + 1)}
        self._gaps = list(state.gaps)
        self._damaged_segments = recovered.damaged_segments
        for gap in recovered.lost:
            self._lost[gap.reason] += gap.to_sequence - gap.from_sequence + 1
        self._pending = {entry.sequence: entry for entry in recovered.entries}
        self._segments = [_segment(path, recovered.entries) for path in recovered.segments]
        self._forget_lost_announcements()
        self._advance_floor()
        if self._segments:
            self._continue_segment(self._segments[-1])
        else:
            self._start_segment(self._next_sequence)
        self._synced = self._next_sequence
        self._state_file.write(self._state(), durable=True)
        for old in self._segments[:-1]:
            self._remove_if_settled(old)

    def _forget_lost_announcements(self) -> None:
        """A gap whose batch did not survive the crash waits to be announced again."""
        self._gaps = [
            replace(gap, announced_in=None) if gap.announced_in not in self._pending else gap
            for gap in self._gaps
        ]

    def _continue_segment(self, last: _Segment) -> None:
        self._fd = os.open(last.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        os.fdatasync(self._fd)  # records of an earlier process may not have reached the disk yet
        self._active = last

    # ------------------------------------------------------------------------------------- writing

    def _compressed(self, sealed: bytes) -> bytes:
        if len(sealed) > MAX_DECODED_BYTES:
            raise _TooLargeError(f"{len(sealed)} bytes exceed {MAX_DECODED_BYTES}")
        payload = self._compressor.compress(sealed)
        largest = min(segment.MAX_PAYLOAD_BYTES, self._config.max_size // 2)
        if len(payload) > largest:
            raise _TooLargeError(f"{len(payload)} compressed bytes exceed {largest}")
        return payload

    def _store(self, sequence: int, created_at: int, payload: bytes) -> None:
        record = segment.encode_record(sequence, created_at, payload)
        active = self._segment_for(len(record), sequence)
        self._make_room(len(record), created_at)
        offset = active.size + segment.RECORD_OVERHEAD
        self._write(active, record)
        active.newest = created_at
        active.pending.add(sequence)
        self._pending[sequence] = Entry(active.path, sequence, created_at, offset, len(payload))
        if self._config.fsync == "always":
            self._synced = self._next_sequence

    def _write(self, active: _Segment, record: bytes) -> None:
        """Write all of `record` or nothing (`OSError`)."""
        try:
            _write_all(self._fd, record)
            if self._config.fsync == "always":
                os.fdatasync(self._fd)
        except OSError:
            self._undo_write(active)
            raise
        active.size += len(record)

    def _undo_write(self, active: _Segment) -> None:
        try:
            os.ftruncate(self._fd, active.size)
        except OSError:  # leave the bytes for the recovery to sort out, and write elsewhere
            self._close_active()

    def _segment_for(self, needed: int, sequence: int) -> _Segment:
        active = self._active
        if active is not None:
            empty = active.size <= segment.HEADER_BYTES
            if empty or active.size + needed <= self._config.segment_size:
                return active
        return self._start_segment(sequence)

    def _start_segment(self, first: int) -> _Segment:
        """Sync and end the active segment and begin one at sequence `first` (`OSError`)."""
        if self._active is not None:
            os.fdatasync(self._fd)
            self._synced = first
            ended = self._active
            self._close_active()
            self._remove_if_settled(ended)
        path = segment.segment_path(self._config.path / "segments", first)
        self._fd = _create(path, segment.encode_header(self._epoch, first))
        self._active = _Segment(path, segment.HEADER_BYTES, 0)
        self._segments.append(self._active)
        return self._active

    def _close_active(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._active = -1, None

    def _sync(self) -> None:
        if self._fd >= 0:
            os.fdatasync(self._fd)
        self._synced = self._next_sequence

    # ------------------------------------------------------------------------------- giving way

    def _make_room(self, needed: int, now_ns: int) -> None:
        while self._segments and self._stored_bytes() + needed > self._config.max_size:
            if not self._drop_oldest(GapReason.SPOOL_FULL):
                break
        if self._config.max_age is None:
            return
        horizon = now_ns - int(self._config.max_age.total_seconds() * 1e9)
        while len(self._segments) > 1 and self._segments[0].newest < horizon:
            self._drop_oldest(GapReason.TOO_OLD)

    def _drop_oldest(self, reason: GapReason) -> bool:
        """Drop the oldest segment that is not being written; False if there is none."""
        oldest = self._segments[0]
        if oldest is self._active:
            return False
        for sequence in sorted(oldest.pending):
            self._lose(sequence, reason)
        self._remove_if_settled(oldest)
        return True

    def _stored_bytes(self) -> int:
        return sum(each.size for each in self._segments)

    def _remove_if_settled(self, old: _Segment) -> None:
        """Delete a segment that nothing needs; what was in it must be known as settled first."""
        if old.pending or old is self._active or old not in self._segments:
            return
        self._segments.remove(old)
        try:
            self._state_file.write(self._state(), durable=True)
        except OSError as error:
            log.error("spool state not written: %s", _reason(error))
        try:
            old.path.unlink(missing_ok=True)
        except OSError as error:
            log.error("spool segment=%s not deleted: %s", old.path, _reason(error))

    # --------------------------------------------------------------------------- what is settled

    def _settle(self, sequence: int) -> None:
        entry = self._pending.pop(sequence, None)
        self._settled.add(sequence)
        self._advance_floor()
        if entry is None:
            return
        holder = next(each for each in self._segments if each.path == entry.path)
        holder.pending.discard(sequence)
        self._remove_if_settled(holder)

    def _advance_floor(self) -> None:
        while self._floor in self._settled:
            self._settled.remove(self._floor)
            self._floor += 1

    def _lose(self, sequence: int, reason: GapReason) -> None:
        """Settle a sequence that will never arrive, and what its batch was to announce with it."""
        self._lost[reason] += 1
        self._gaps = [
            replace(gap, announced_in=None) if gap.announced_in == sequence else gap
            for gap in self._gaps
        ]
        first = sequence
        if self._gaps and _precedes(self._gaps[-1], sequence, reason):
            first = self._gaps.pop().from_sequence
        self._gaps.append(Gap(first, sequence, reason))
        self._settle(sequence)

    def _write_error(self, sequence: int, reason: GapReason, why: str) -> SpoolWriteError:
        self._lose(sequence, reason)
        self._save()
        return SpoolWriteError(f"spool {self._config.path}: batch {sequence} is lost: {why}")

    def _state(self) -> State:
        settled = sorted(self._settled)
        return State(
            self._epoch, self._next_sequence, self._floor, _ranges(settled), list(self._gaps)
        )

    def _save(self) -> None:
        try:
            self._state_file.write(self._state(), durable=False)
        except OSError as error:
            log.error("spool state not written: %s", _reason(error))

    # -------------------------------------------------------------------------------- quarantine

    def _quarantine(self, entry: Entry, reason: str) -> None:
        directory = self._config.path / "quarantine"
        target = directory / f"{self._epoch}-{entry.sequence:020d}.msgpack.zst"
        try:
            target.write_bytes(segment.read_payload(entry) or b"")
            recovery.note(target, reason)
            _trim(directory, self._config.max_size // QUARANTINE_SHARE)
        except OSError as error:
            log.error("spool quarantine=%s not written: %s", target, _reason(error))
        log.warning("spool refused=%d reason=%r kept=%s", entry.sequence, reason, target)


class _TooLargeError(Exception):
    """A batch exceeds the bounds of the contract or of this spool."""


def _announcement(gap: Gap) -> dict[str, Any]:
    return {
        "from_sequence": gap.from_sequence,
        "to_sequence": gap.to_sequence,
        "reason": str(gap.reason),
    }


def _precedes(gap: Gap, sequence: int, reason: GapReason) -> bool:
    return (gap.to_sequence, gap.reason, gap.announced_in) == (sequence - 1, reason, None)


def _segment(path: Path, entries: list[Entry]) -> _Segment:
    own = [entry for entry in entries if entry.path == path]
    newest = max((entry.created_at for entry in own), default=0)
    return _Segment(path, path.stat().st_size, newest, {entry.sequence for entry in own})


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Return the ascending `numbers` as ranges, both ends included."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _create(path: Path, header: bytes) -> int:
    """Return the open new file `path` that begins with `header` and survives a power cut."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write_all(fd, header)
        os.fdatasync(fd)
        sync_directory(path.parent)
    except OSError:
        os.close(fd)
        path.unlink(missing_ok=True)
        raise
    return fd


def sync_directory(path: Path) -> None:
    """Make what was created, renamed or removed there last (`OSError`)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _take_lock(directory: Path) -> int:
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise SpoolBusyError(f"spool {directory}: in use by process {holder}") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _trim(directory: Path, most_bytes: int) -> None:
    """Delete the oldest quarantined files until the rest fits."""
    files = sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    total = sum(path.stat().st_size for path in files)
    for path in files:
        if total <= most_bytes:
            return
        total -= path.stat().st_size
        path.unlink()
