"""Opening a spool after whatever happened to it: what is pending, settled and lost.

Nothing found on disk is fatal. A torn tail is cut off, a damaged segment is set aside in
quarantine/ and its sound records are written anew, and every sequence that cannot be accounted
for becomes a gap.
"""

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from probe.spool import segment
from probe.spool.segment import Entry, Scan
from probe.spool.state import Gap, State

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recovered:
    """A spool's content: the pending entries, and the sound segments with the oldest first."""

    state: State
    entries: list[Entry]
    segments: list[Path]
    lost: list[Gap]
    damaged_segments: int


def recover(directory: Path, state: State | None, new_epoch: int) -> Recovered:
    """Return what the spool in `directory` holds, and mend what needs mending (`OSError`).

    `new_epoch` names the spool if nothing on disk does.
    """
    scans = [(path, segment.scan(path)) for path in segment.segment_paths(directory / "segments")]
    epoch = _epoch(state, [scan for _, scan in scans], new_epoch)
    if state is None and scans:
        log.warning("spool state=lost path=%s: unsettled batches will be sent again", directory)
    kept: list[tuple[Path, Scan]] = []
    damaged = 0
    for position, (path, scan) in enumerate(scans):
        last = position == len(scans) - 1
        if scan.epoch not in (epoch, None):
            set_aside(directory, path, f"belongs to epoch {scan.epoch}, not {epoch}")
            damaged += 1
        elif scan.damaged or (scan.torn and not last):
            kept.append((path, _rewrite(directory, path, scan, epoch)))
            damaged += 1
        else:
            if scan.torn:
                _cut(path, scan, epoch)
            kept.append((path, scan))
    return _account(kept, state, epoch, damaged)


def _epoch(state: State | None, scans: list[Scan], new_epoch: int) -> int:
    if not scans:  # no telling which sequences were used: a new name for what comes
        return new_epoch
    if state is not None:
        return state.epoch
    return next((scan.epoch for scan in scans if scan.epoch is not None), new_epoch)


def _account(
    kept: list[tuple[Path, Scan]], state: State | None, epoch: int, damaged: int
) -> Recovered:
    entries = [entry for _, scan in kept for entry in scan.entries]
    if state is None or state.epoch != epoch:
        first = kept[0][1].first_sequence if kept else 0
        state = State(epoch, next_sequence=first, floor=first)
    ends = [state.next_sequence, *(_end(scan) for _, scan in kept)]
    next_sequence = max(ends)
    settled = {n for low, high in state.settled for n in range(low, high + 1)}
    pending = [e for e in entries if e.sequence >= state.floor and e.sequence not in settled]
    known = settled | {entry.sequence for entry in pending}
    lost = missing(known, state.floor, next_sequence)
    gaps = [Gap(low, high, "damaged" if damaged else "interrupted") for low, high in lost]
    for gap in gaps:
        log.warning("spool lost=%d..%d reason=%s", gap.from_sequence, gap.to_sequence, gap.reason)
    return Recovered(
        State(epoch, next_sequence, state.floor, [*state.settled, *lost], [*state.gaps, *gaps]),
        pending,
        [path for path, _ in kept],
        gaps,
        damaged,
    )


def _end(scan: Scan) -> int:
    """Return the sequence after the last one the segment can have used.

    A torn record used one, and was lost with it: its sequence is not given to another batch.
    """
    after = scan.entries[-1].sequence + 1 if scan.entries else scan.first_sequence
    torn_record = scan.torn and scan.epoch is not None
    return after + 1 if torn_record else after


def missing(known: Iterable[int], start: int, end: int) -> list[tuple[int, int]]:
    """Return the ranges (both ends included) of [start, end) that `known` leaves out."""
    inside = sorted(number for number in set(known) if start <= number < end)
    edges = [start - 1, *inside, end]
    return [(low + 1, high - 1) for low, high in pairwise(edges) if high - low > 1]


def _cut(path: Path, scan: Scan, epoch: int) -> None:
    """Cut a torn tail off; a segment whose header was torn gets a new one."""
    with path.open("r+b") as file:
        if scan.epoch is None:
            file.write(segment.encode_header(epoch, scan.first_sequence))
        file.truncate(max(scan.good_bytes, segment.HEADER_BYTES))
        os.fsync(file.fileno())


def _rewrite(directory: Path, path: Path, scan: Scan, epoch: int) -> Scan:
    """Put the damaged segment's sound records in its place, and keep it in the quarantine."""
    payloads = [(entry, segment.read_payload(entry)) for entry in scan.entries]
    records = [
        segment.encode_record(entry.sequence, entry.created_at, payload)
        for entry, payload in payloads
        if payload is not None
    ]
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(b"".join([segment.encode_header(epoch, scan.first_sequence), *records]))
        os.fsync(file.fileno())
    kept = directory / "quarantine" / path.name
    kept.unlink(missing_ok=True)
    kept.hardlink_to(path)
    note(kept, "damaged: some bytes do not match their checksum")
    draft.replace(path)
    return replace(segment.scan(path), torn=scan.torn)


def set_aside(directory: Path, path: Path, reason: str) -> None:
    """Move `path` to the quarantine with a note that says why."""
    target = directory / "quarantine" / path.name
    path.replace(target)
    note(target, reason)
    log.warning("spool quarantined=%s reason=%r", target, reason)


def note(target: Path, reason: str) -> None:
    """Write beside the quarantined file `target` why it is there."""
    text = json.dumps({"reason": reason}) + "\n"
    target.with_name(target.name + ".json").write_text(text, encoding="utf-8")
