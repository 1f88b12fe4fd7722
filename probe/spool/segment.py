"""Segment files: how batches lie on disk.

A spool directory holds

    lock            held with flock by the one process that uses the spool
    state           what is settled already (see `state`)
    segments/       00000000000000000001.seg, ... named by the first sequence they may hold
    quarantine/     batches the collector refused, damaged segments, each with a .json that says why

A segment is a header and records end to end; all integers are little-endian:

    header   magic "EQSPOOL" and the format version, 1 byte            8 bytes
             epoch, Unix ms                                            u64
             first sequence                                            u64
             CRC-32 of the 24 bytes before                             u32
             zero                                                      u32
    record   marker "\\xe6REC"                                         4 bytes
             length of the payload                                     u32
             sequence                                                  u64
             created_at, ns since the Unix epoch                       u64
             CRC-32 of length, sequence, created_at and payload        u32
             payload: the sealed batch, zstd-compressed                length bytes

Records are only ever appended, with rising sequences. A crash leaves at most a torn record at the
end of the last segment; the scan stops there. Bytes that fail their check with good records after
them are damage: the scan looks for the next marker whose record is sound and goes on.
"""

import errno
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAGIC: Final = b"EQSPOOL\x01"
MARKER: Final = b"\xe6REC"
MAX_PAYLOAD_BYTES: Final = 8 << 20  # the contract's bound of a batch as sent

_HEADER: Final = struct.Struct("<8sQQII")
_RECORD: Final = struct.Struct("<4sIQQI")
_CHECKED: Final = struct.Struct("<IQQ")
HEADER_BYTES: Final = _HEADER.size
RECORD_OVERHEAD: Final = _RECORD.size


@dataclass(frozen=True)
class Entry:
    """Where one batch lies: the payload's offset and length in the segment at `path`."""

    path: Path
    sequence: int
    created_at: int
    offset: int
    length: int


@dataclass(frozen=True)
class Scan:
    """What a segment file holds."""

    epoch: int | None  # None: the header is unreadable
    first_sequence: int
    entries: list[Entry]
    good_bytes: int  # the end of the last sound record
    damaged: bool  # unsound bytes stand before a sound record, or in the header
    torn: bool  # unsound bytes stand at the end


def segment_path(directory: Path, first_sequence: int) -> Path:
    """Return the path of the segment that begins with `first_sequence`."""
    return directory / f"{first_sequence:020d}.seg"


def segment_paths(directory: Path) -> list[Path]:
    """Return the segment files in `directory`, the oldest first."""
    return sorted(path for path in directory.glob("*.seg") if path.stem.isdecimal())


def encode_header(epoch: int, first_sequence: int) -> bytes:
    """Return the first bytes of a segment."""
    checksum = zlib.crc32(_HEADER.pack(MAGIC, epoch, first_sequence, 0, 0)[:24])
    return _HEADER.pack(MAGIC, epoch, first_sequence, checksum, 0)


def encode_record(sequence: int, created_at: int, payload: bytes) -> bytes:
    """Return the record that holds `payload`."""
    checked = _CHECKED.pack(len(payload), sequence, created_at)
    checksum = zlib.crc32(payload, zlib.crc32(checked))
    return _RECORD.pack(MARKER, len(payload), sequence, created_at, checksum) + payload


def read_payload(entry: Entry) -> bytes | None:
    """Return the payload of `entry`, or None if the disk no longer holds it unharmed.

    Raises `OSError` where the fault is not the disk's.
    """
    try:
        with entry.path.open("rb") as file:
            file.seek(entry.offset - RECORD_OVERHEAD)
            data = file.read(RECORD_OVERHEAD + entry.length)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EIO):
            return None
        raise
    found = _record_at(entry.path, data, 0)
    return data[RECORD_OVERHEAD:] if found and found.sequence == entry.sequence else None


def scan(path: Path) -> Scan:
    """Return what the segment at `path` holds; reads the whole file (`OSError`)."""
    data = path.read_bytes()
    epoch, first_sequence = _read_header(data)
    entries: list[Entry] = []
    offset, good_bytes, damaged = HEADER_BYTES, min(HEADER_BYTES, len(data)), False
    if epoch is None and len(data) >= HEADER_BYTES:  # shorter: torn while it was made
        damaged = True
    while offset < len(data):
        entry = _record_at(path, data, offset)
        if entry is not None and (not entries or entry.sequence > entries[-1].sequence):
            damaged = damaged or offset != good_bytes
            entries.append(entry)
            offset = good_bytes = entry.offset + entry.length
        else:
            offset = data.find(MARKER, offset + 1)
            offset = len(data) if offset < 0 else offset
    return Scan(
        epoch,
        int(path.stem) if first_sequence is None else first_sequence,
        entries,
        good_bytes,
        damaged,
        torn=good_bytes < len(data) or len(data) < HEADER_BYTES,
    )


def _read_header(data: bytes) -> tuple[int | None, int | None]:
    if len(data) < HEADER_BYTES:
        return None, None
    magic, epoch, first_sequence, checksum, _ = _HEADER.unpack_from(data)
    if magic != MAGIC or checksum != zlib.crc32(data[:24]):
        return None, None
    return epoch, first_sequence


def _record_at(path: Path, data: bytes, offset: int) -> Entry | None:
    """Return the entry of the record at `offset` of `data`, or None if none is sound there."""
    if len(data) - offset < RECORD_OVERHEAD:
        return None
    marker, length, sequence, created_at, checksum = _RECORD.unpack_from(data, offset)
    start = offset + RECORD_OVERHEAD
    if marker != MARKER or length > MAX_PAYLOAD_BYTES or start + length > len(data):
        return None
    checked = zlib.crc32(_CHECKED.pack(length, sequence, created_at))
    if zlib.crc32(memoryview(data)[start : start + length], checked) != checksum:
        return None
    return Entry(path, sequence, created_at, start, length)
