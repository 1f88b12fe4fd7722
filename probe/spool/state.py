"""The spool's state: what is settled already, in a file of two slots.

Slots of 64 KiB are allocated when the file is made and overwritten in place, so that a full disk
cannot keep the spool from recording what it may delete. A slot is

    CRC-32 of all that follows, u32; generation, u64; length, u32; JSON of that length

and the newest sound slot counts. A write goes to the slot that is not the last durable one; so
however a crash tears it, the last durable state remains.
"""

import json
import os
import struct
import zlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

SLOT_BYTES: Final = 64 << 10
FORMAT: Final = 1
_HEAD: Final = struct.Struct("<IQI")
_MAX_SETTLED: Final = 10_000_000  # sequences that the ranges of a sound state may name


@dataclass(frozen=True)
class Gap:
    """Sequences that no batch will ever bear, and the batch that says so, if one does yet."""

    from_sequence: int
    to_sequence: int
    reason: str
    announced_in: int | None = None


@dataclass(frozen=True)
class State:
    """What the segments alone do not say.

    Every sequence below `floor` is settled: acknowledged, refused or lost; of those from `floor`
    on, `settled` lists ranges, both ends included.
    """

    epoch: int
    next_sequence: int
    floor: int
    settled: list[tuple[int, int]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)


class StateFile:
    """The two slots on disk."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it (`OSError`)."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(self._fd, 0, 2 * SLOT_BYTES)
        slots = [_decode(os.pread(self._fd, SLOT_BYTES, slot * SLOT_BYTES)) for slot in (0, 1)]
        newest = max((0, 1), key=lambda slot: _age(slots[slot]))
        found = slots[newest]
        self._generation = found[0] if found else 0
        self.state = found[1] if found else None
        self._durable_slot = newest
        os.fdatasync(self._fd)  # what was read may not have reached the disk yet

    def write(self, state: State, *, durable: bool) -> None:
        """Write `state`; if `durable`, return once it survives a power cut (`OSError`)."""
        slot = 1 - self._durable_slot
        self._generation += 1
        os.pwrite(self._fd, _encode(self._generation, state), slot * SLOT_BYTES)
        if durable:
            os.fdatasync(self._fd)
            self._durable_slot = slot

    def close(self) -> None:
        os.close(self._fd)


def read_state(path: Path) -> State | None:
    """Return the newest sound state in the file, without changing it; None if there is none."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    slots = [_decode(data[start : start + SLOT_BYTES]) for start in (0, SLOT_BYTES)]
    newest = max(slots, key=_age)
    return newest[1] if newest else None


def _age(slot: tuple[int, State] | None) -> int:
    return slot[0] if slot else -1


def _encode(generation: int, state: State) -> bytes:
    document = json.dumps({"format": FORMAT, **asdict(state)}, separators=(",", ":")).encode()
    if len(document) > SLOT_BYTES - _HEAD.size:
        return _encode(generation, _shortened(state))
    tail = _HEAD.pack(0, generation, len(document))[4:] + document
    return struct.pack("<I", zlib.crc32(tail)) + tail


def _shortened(state: State) -> State:
    """Forget half of what makes the state too long: acknowledgements only cost a second sending."""
    if state.settled:
        return replace(state, settled=state.settled[: len(state.settled) // 2])
    return replace(state, gaps=_joined(state.gaps))


def _joined(gaps: list[Gap]) -> list[Gap]:
    """Join neighbours into one gap: more than is lost may be said to be, never less."""
    pairs = zip(gaps[::2], gaps[1::2], strict=False)
    joined = [replace(a, to_sequence=b.to_sequence, announced_in=None) for a, b in pairs]
    return joined + gaps[len(joined) * 2 :]


def _decode(slot: bytes) -> tuple[int, State] | None:
    if len(slot) < _HEAD.size:
        return None
    checksum, generation, length = _HEAD.unpack_from(slot)
    end = _HEAD.size + length
    if end > len(slot) or zlib.crc32(slot[4:end]) != checksum:
        return None
    try:
        return generation, _from_document(json.loads(slot[_HEAD.size : end]))
    except (ValueError, TypeError, KeyError):
        return None


def _from_document(document: dict[str, Any]) -> State:
    if document.pop("format") != FORMAT:
        raise ValueError("another format")
    settled = [(int(low), int(high)) for low, high in document.pop("settled")]
    gaps = [Gap(**gap) for gap in document.pop("gaps")]
    if sum(high - low + 1 for low, high in settled) > _MAX_SETTLED:
        raise ValueError("more settled sequences than can be")
    return State(**document, settled=settled, gaps=gaps)
