"""The batch: many session records in one msgpack map, column by column.

Layout of a batch (schema_version 2):

    {schema_version, probe_id, epoch, sequence, created_at,        integers, text, ns
     rows, columns: {name: column}, links: [...], paths: [...],
     health: {...}, ledger: [...], gaps: [...]}

A column is `{type, width, data, nulls?, values?, lengths?, base?, step?, from?}`. What `data` holds
is packed: of the rows that are not null only, and of each number its `width` lowest bytes only (0
to 8), byte by byte: first the lowest byte of every number, then the next one of every number.

- `u8` .. `u64`, `i64`, `f32`: `data` holds the numbers, packed.
- `dictionary`: `values` lists the distinct values (text or bytes); `data` holds indexes into it,
  packed.
- `binary`: `lengths` holds the lengths, packed, at most 65,535; `data` is the values end to end.

The numbers of a `u64` column that is never null may be differences: the value is `base` (0) plus
the number times `step` (1), plus, where `from` names a column, that column's value in the same row;
where it names the column itself, the value of the row before; all modulo 2^64. `from` names a
column that stands before this one in the schema.

`nulls` is a bitmap, least significant bit first, a set bit for each null row and 0 as padding;
absent if no row is null. A column whose rows are all null is absent. Columns that the reader does
not know are ignored, so newer probes can talk to older collectors; a known column with another type
is an error.

Columns without `width` are plain, as schema_version 1 had them all: `data` holds `rows`
little-endian numbers of the type's width, or indexes 1, 2 or 4 bytes wide, the least width that can
index `values`; `lengths` holds `rows` little-endian u16; null rows hold 0. They may stand beside
packed ones.

The engine emits the part it knows, the *body* `{rows, columns, links, paths, ledger}`; `seal` adds
the head. Everything in this module treats its input as hostile: what is wrong raises `BatchError`.
"""

import array
import ipaddress
import itertools
import math
import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgpack

from probe.errors import BatchError
from probe.record.enums import RecordFlag
from probe.record.schema import (
    COLUMN_BY_NAME,
    COLUMNS,
    SCHEMA_VERSION,
    Column,
    Meaning,
    WireType,
)

MAX_SENT_BYTES: Final = 8 << 20
MAX_DECODED_BYTES: Final = 64 << 20
MAX_ROWS: Final = 65_536
MAX_TEXT_BYTES: Final = 1024  # longest single dictionary value
MAX_NESTED_ITEMS: Final = 65_536  # entries of one list or map inside a batch
# Entries of all lists and maps together, an own cost for each list and map added: 64 MiB of empty
# maps would otherwise unpack to 4.6 GB and hold the interpreter for 16 s. A full batch needs 2.5 M.
MAX_ITEMS: Final = 4_000_000
_CONTAINER_COST: Final = 16
MAX_DEPTH: Final = 8  # of lists and maps inside links, paths, health, ledger and gaps
# A 64-bit count from here on is no measurement: 400 Gbit/s take two days to reach it, and no
# interval is longer than minutes. The bound keeps sums over 2,000 such records below 2^64.
MAX_COUNT: Final = 1 << 53

_TYPECODE: Final = {
    WireType.U8: "B",
    WireType.U16: "H",
    WireType.U32: "I",
    WireType.U64: "Q",
    WireType.I64: "q",
    WireType.F32: "f",
}
_SMALL_MAP: Final = 0x80  # msgpack's fixmap, whose head holds the number of entries
_SMALL_MAP_ENTRIES: Final = 0x0F
_MODULUS: Final = 1 << 64
_INDEX_TYPECODE: Final = {1: "B", 2: "H", 4: "I"}

Row = dict[str, Any]


@dataclass(frozen=True)
class ColumnData:
    """The values of one column of a batch, checked to be well formed.

    `data` holds little-endian numbers of the type's width, or indexes of the least width that can
    index `values`, or byte strings end to end with their `lengths` as little-endian u16: of every
    row, or, where `dense`, of the rows that are not null.
    """

    type: WireType
    data: bytes
    nulls: bytes | None = None
    values: list[str] | list[bytes] | None = None
    lengths: bytes | None = None
    dense: bool = False


@dataclass(frozen=True)
class Batch:
    """A decoded batch. (probe_id, epoch, sequence) names it for ever."""

    probe_id: str
    epoch: int  # Unix ms of the creation of the probe's spool
    sequence: int
    created_at: int  # ns since the Unix epoch, the probe's wall clock
    rows: int
    columns: dict[str, ColumnData]
    links: list[dict[str, Any]] = field(default_factory=list)
    paths: list[dict[str, Any]] = field(default_factory=list)
    health: dict[str, Any] = field(default_factory=dict)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION


# ------------------------------------------------------------------------------------- encoding


def seal(
    body: bytes,
    *,
    probe_id: str,
    epoch: int,
    sequence: int,
    created_at: int,
    health: Mapping[str, Any] | None = None,
    gaps: Iterable[Mapping[str, Any]] = (),
) -> bytes:
    """Return the batch that holds the engine's `body` under the given head.

    The body is taken in as it is, unread: it is most of the batch.
    """
    head = {
        "schema_version": SCHEMA_VERSION,
        "probe_id": probe_id,
        "epoch": epoch,
        "sequence": sequence,
        "created_at": created_at,
        "health": dict(health or {}),
        "gaps": [dict(gap) for gap in gaps],
    }
    entries = _small_map_size(body) + len(head)
    if entries > _SMALL_MAP_ENTRIES:
        raise BatchError(f"a body of more than {_SMALL_MAP_ENTRIES - len(head)} entries")
    return b"".join((bytes((_SMALL_MAP | entries,)), _pack(head)[1:], memoryview(body)[1:]))


def _small_map_size(body: bytes) -> int:
    """Return the entries of a msgpack map whose head is one byte, or raise `BatchError`."""
    if not body or body[0] & ~_SMALL_MAP_ENTRIES != _SMALL_MAP:
        raise BatchError("not a body of the engine")
    return body[0] & _SMALL_MAP_ENTRIES


def body_from_rows(
    rows: list[Row],
    *,
    links: Iterable[Mapping[str, Any]] = (),
    paths: Iterable[Mapping[str, Any]] = (),
    ledger: Iterable[Mapping[str, Any]] = (),
) -> bytes:
    """Return the body that holds `rows`, each in the form that `Batch` rows take in JSON, plain.

    Fields that a row leaves out are null; numbers that are not nullable default to 0. A field that
    is not in the schema raises `BatchError`, `probe_id` excepted: it belongs to the head.
    """
    for row in rows:
        if unknown := row.keys() - COLUMN_BY_NAME.keys() - {"probe_id"}:
            raise BatchError(f"unknown field {min(unknown)!r}")
    columns = {}
    for column in COLUMNS:
        encoded = _encode_column(column, [row.get(column.name) for row in rows])
        if encoded is not None:
            columns[column.name] = encoded
    return _pack(
        {
            "rows": len(rows),
            "columns": columns,
            "links": [dict(link) for link in links],
            "paths": [dict(path) for path in paths],
            "ledger": [dict(entry) for entry in ledger],
        }
    )


def _pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def _encode_column(column: Column, values: list[Any]) -> dict[str, Any] | None:
    if column.nullable and all(value is None for value in values):
        return None
    wire = [None if value is None else _FROM_JSON[column.meaning](value) for value in values]
    encoded: dict[str, Any] = {"type": str(column.wire)}
    if column.wire is WireType.DICTIONARY:
        distinct = list(dict.fromkeys(value for value in wire if value is not None))
        if not column.nullable and None in wire:
            raise BatchError(f"column {column.name}: a value is required")
        index = {value: position for position, value in enumerate(distinct)}
        encoded["values"] = distinct
        typecode = _INDEX_TYPECODE[index_width(len(distinct))]
        encoded["data"] = _little_endian(typecode, [index.get(value, 0) for value in wire])
    elif column.wire is WireType.BINARY:
        encoded["lengths"] = _little_endian("H", [len(value or b"") for value in wire])
        encoded["data"] = b"".join(value or b"" for value in wire)
    else:
        encoded["data"] = _little_endian(_TYPECODE[column.wire], [value or 0 for value in wire])
    if column.nullable and None in wire:
        encoded["nulls"] = _bitmap([value is None for value in wire])
    return encoded


def index_width(distinct: int) -> int:
    """Return the bytes of an index into a dictionary of `distinct` values: 1, 2 or 4."""
    return 1 if distinct <= 1 << 8 else 2 if distinct <= 1 << 16 else 4


def _little_endian(typecode: str, values: list[Any]) -> bytes:
    numbers = array.array(typecode, values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _bitmap(flags: list[bool]) -> bytes:
    bits = bytearray((len(flags) + 7) // 8)
    for position, flag in enumerate(flags):
        if flag:
            bits[position >> 3] |= 1 << (position & 7)
    return bytes(bits)


# ------------------------------------------------------------------------------------- decoding


def decode(data: bytes) -> Batch:
    """Return the batch in `data` with every known column checked, or raise `BatchError`.

    Bounds: `MAX_DECODED_BYTES`, `MAX_ROWS`, `MAX_NESTED_ITEMS`, `MAX_TEXT_BYTES`, `MAX_DEPTH`,
    `MAX_COUNT`. Head fields are type-checked; the entries of links, paths, ledger and gaps are
    maps whose content is left to the reader, but keys are text and floats finite, so that JSON
    can say it.
    """
    if len(data) > MAX_DECODED_BYTES:
        raise BatchError(f"batch of {len(data)} bytes exceeds {MAX_DECODED_BYTES}")
    head = _unpack(data)
    version = _integer(head, "schema_version")
    rows = _integer(head, "rows")
    if version < 1:
        raise BatchError(f"schema_version {version} is not 1 or later")
    if rows > MAX_ROWS:
        raise BatchError(f"{rows} rows exceed {MAX_ROWS}")
    return Batch(
        schema_version=version,
        probe_id=_probe_id(head),
        epoch=_integer(head, "epoch"),
        sequence=_integer(head, "sequence"),
        created_at=_integer(head, "created_at"),
        rows=rows,
        columns=_checked_columns(head.get("columns"), rows),
        health=_map(head, "health"),
        **{name: _maps(head, name) for name in ("links", "paths", "ledger", "gaps")},
    )


class _ItemBudget:
    """Counts what msgpack unpacks while it does, so that small bytes cannot become large memory."""

    def __init__(self) -> None:
        self._left = MAX_ITEMS

    def spend(self, container: Any) -> Any:
        """Return `container`, a list or map just unpacked, or raise `BatchError`."""
        self._left -= len(container) + _CONTAINER_COST
        if self._left < 0:
            raise BatchError(f"more than {MAX_ITEMS} items")
        return container


def _unpack(data: bytes) -> dict[str, Any]:
    budget = _ItemBudget()
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_str_len=MAX_TEXT_BYTES,
            max_bin_len=MAX_DECODED_BYTES,
            max_array_len=MAX_NESTED_ITEMS,
            max_map_len=MAX_NESTED_ITEMS,
            max_ext_len=0,
            list_hook=budget.spend,
            object_hook=budget.spend,
        )
    except Exception as error:  # msgpack raises many types on hostile bytes: all mean the same
        raise BatchError(f"not a msgpack batch: {str(error) or type(error).__name__}") from error
    if not isinstance(value, dict):
        raise BatchError("not a msgpack batch: the outermost value is not a map")
    return value


def _integer(head: dict[str, Any], name: str) -> int:
    value = head.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise BatchError(f"{name} must be an integer from 0 to 2^63-1")
    return value


def _probe_id(head: dict[str, Any]) -> str:
    value = head.get("probe_id")
    if not isinstance(value, str) or not 1 <= len(value) <= 128:
        raise BatchError("probe_id must be text of 1 to 128 characters")
    return value


def _map(head: dict[str, Any], name: str) -> dict[str, Any]:
    value = head.get(name, {})
    if not isinstance(value, dict):
        raise BatchError(f"{name} must be a map")
    _check_plain(value, name)
    return value


def _maps(head: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = head.get(name, [])
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise BatchError(f"{name} must be a list of maps")
    _check_plain(value, name)
    return value


def _check_plain(value: object, name: str, depth: int = 0) -> None:
    """Raise `BatchError` for what JSON cannot say, and for what is nested too deep to say it."""
    if isinstance(value, float) and not math.isfinite(value):
        raise BatchError(f"{name} holds a number that is not finite")
    if not isinstance(value, dict | list):
        return
    if depth >= MAX_DEPTH:
        raise BatchError(f"{name} is nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        raise BatchError(f"{name} holds a key that is not text")
    for item in value.values() if isinstance(value, dict) else value:
        _check_plain(item, name, depth + 1)


def _checked_columns(raw: object, rows: int) -> dict[str, ColumnData]:
    if not isinstance(raw, dict):
        raise BatchError("columns must be a map")
    columns: dict[str, ColumnData] = {}
    for column in COLUMNS:  # in this order: a column may count from one before it
        if column.name in raw:
            columns[column.name] = _checked_column(column, raw[column.name], rows, columns)
        elif not column.nullable:
            raise BatchError(f"column {column.name} is missing")
    return columns


_Fail = Callable[[str], BatchError]


def _checked_column(
    column: Column, raw: object, rows: int, before: Mapping[str, ColumnData]
) -> ColumnData:
    def fail(what: str) -> BatchError:
        return BatchError(f"column {column.name}: {what}")

    if not isinstance(raw, dict):
        raise fail("not a map")
    if raw.get("type") != column.wire:
        raise fail(f"type must be {column.wire}")
    dense = "width" in raw
    data, nulls = raw.get("data"), _checked_nulls(column, raw.get("nulls"), rows, fail)
    if not isinstance(data, bytes):
        raise fail("data must be bytes")
    entries = rows - int.from_bytes(nulls or b"", "little").bit_count() if dense else rows
    if column.wire is WireType.DICTIONARY:
        values = _checked_values(column, raw.get("values"), rows, fail)
        data = _checked_numbers(raw, "data", index_width(len(values)), entries, fail)
        indexes = _numbers(_INDEX_TYPECODE[index_width(len(values))], data)
        exist = bool(values) or dense or not _all_null(nulls, rows)
        if entries and exist and max(indexes) >= len(values):
            raise fail("an index exceeds values")
        return ColumnData(column.wire, data, nulls, values=values, dense=dense)
    if column.wire is WireType.BINARY:
        lengths = _checked_numbers(raw, "lengths", 2, entries, fail)
        sizes = _numbers("H", lengths)
        if sum(sizes) != len(data):
            raise fail("lengths do not add up to data")
        if column.meaning is Meaning.HISTOGRAM and any(size & 1 for size in sizes):
            raise fail("a histogram is pairs of bytes")
        return ColumnData(column.wire, data, nulls, lengths=lengths, dense=dense)
    data = _checked_numbers(
        raw, "data", array.array(_TYPECODE[column.wire]).itemsize, entries, fail
    )
    if dense and not raw.keys().isdisjoint(("base", "step", "from")):
        data = _added_up(column, raw, data, before, fail)
    counts = column.wire is WireType.U64 and column.meaning is Meaning.COUNT
    if counts and max(_numbers("Q", data), default=0) >= MAX_COUNT:
        raise fail("a count of 2^53 or more, which no interval can carry")
    return ColumnData(column.wire, data, nulls, dense=dense)


def _checked_nulls(column: Column, nulls: object, rows: int, fail: _Fail) -> bytes | None:
    if nulls is None:
        return None
    if not isinstance(nulls, bytes) or len(nulls) != (rows + 7) // 8:
        raise fail(f"nulls must be {(rows + 7) // 8} bytes")
    if not column.nullable:
        raise fail("must not hold nulls")
    if rows % 8 and nulls[-1] >> rows % 8:
        raise fail("nulls marks rows that do not exist")
    return nulls


def _checked_numbers(
    raw: dict[str, Any], name: str, itemsize: int, entries: int, fail: _Fail
) -> bytes:
    """Return `entries` little-endian numbers of `itemsize` bytes, sent packed or plain."""
    sent = raw.get(name)
    if not isinstance(sent, bytes):
        raise fail(f"{name} must be bytes")
    width = raw.get("width", itemsize)
    if not isinstance(width, int) or isinstance(width, bool) or not 0 <= width <= itemsize:
        raise fail(f"width must be 0 to {itemsize}")
    if len(sent) != width * entries:
        raise fail(f"{name} must be {width * entries} bytes")
    if "width" not in raw:
        return sent
    numbers = bytearray(itemsize * entries)
    for plane in range(width):
        numbers[plane::itemsize] = sent[plane * entries : (plane + 1) * entries]
    return bytes(numbers)


def _added_up(
    column: Column,
    raw: dict[str, Any],
    data: bytes,
    before: Mapping[str, ColumnData],
    fail: _Fail,
) -> bytes:
    """Return the values of which `data` holds the differences; see the layout."""
    if column.wire is not WireType.U64 or column.nullable:
        raise fail("only a u64 column that is never null may hold differences")
    base, step, origin = raw.get("base", 0), raw.get("step", 1), raw.get("from")
    for number in (base, step):
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < _MODULUS:
            raise fail("base and step must be integers from 0 to 2^64-1")
    differences = [base + step * number for number in _numbers("Q", data)]
    if origin == column.name:
        values: Iterable[int] = itertools.accumulate(differences)
    elif origin is None:
        values = differences
    elif isinstance(origin, str) and origin in before and _is_plain_u64(COLUMN_BY_NAME[origin]):
        values = map(operator.add, differences, _numbers("Q", before[origin].data))
    else:
        raise fail("from must name a u64 column before it that is never null, or itself")
    return _little_endian("Q", [value % _MODULUS for value in values])


def _is_plain_u64(column: Column) -> bool:
    return column.wire is WireType.U64 and not column.nullable


_WIDTHS_OF_BYTES: Final = {Meaning.IP: (4, 16), Meaning.PSEUDONYM: (16,)}


def _checked_values(column: Column, values: object, rows: int, fail: _Fail) -> list[Any]:
    if not isinstance(values, list) or len(values) > max(rows, 1):
        raise fail("values must be a list of at most one entry a row")
    widths = _WIDTHS_OF_BYTES.get(column.meaning)
    for value in values:
        if widths is None:
            if not isinstance(value, str) or "\0" in value:
                raise fail("values must be text without NUL")
        elif not isinstance(value, bytes) or len(value) not in widths:
            raise fail(f"values must be bytes of length {' or '.join(map(str, widths))}")
    return values


def _all_null(nulls: bytes | None, rows: int) -> bool:
    return nulls is not None and int.from_bytes(nulls, "little").bit_count() >= rows


def _numbers(typecode: str, data: bytes) -> "array.array[Any]":
    numbers = array.array(typecode)
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


# ----------------------------------------------------------------------------- rows, as in JSON


def rows(batch: Batch) -> Iterator[Row]:
    """Yield each record as a dict of every field of the schema, in the form it has in JSON."""
    names = ["probe_id", *COLUMN_BY_NAME]
    lists: list[list[Any]] = [[batch.probe_id] * batch.rows]
    for column in COLUMNS:
        data = batch.columns.get(column.name)
        lists.append(
            [None] * batch.rows if data is None else _json_values(column, data, batch.rows)
        )
    for values in zip(*lists, strict=True):
        yield dict(zip(names, values, strict=True))


def _json_values(column: Column, data: ColumnData, rows: int) -> list[Any]:
    convert = _TO_JSON[column.meaning]
    values: list[Any]
    if data.values is not None:
        presented = [convert(value) for value in data.values]
        width = index_width(len(data.values))
        values = [
            presented[index] if presented else None
            for index in _numbers(_INDEX_TYPECODE[width], data.data)
        ]
    elif data.lengths is not None:
        values, start = [], 0
        for size in _numbers("H", data.lengths):
            values.append(convert(data.data[start : start + size]))
            start += size
    else:
        values = [convert(value) for value in _numbers(_TYPECODE[data.type], data.data)]
    if data.type is WireType.F32:  # JSON has no number for what is not finite
        values = [value if math.isfinite(value) else None for value in values]
    return values if data.nulls is None else _with_nulls(values, data.nulls, rows, data.dense)


def _with_nulls(values: list[Any], nulls: bytes, rows: int, dense: bool) -> list[Any]:
    """Return a value for each row, None where it is null."""
    present = [not nulls[row >> 3] >> (row & 7) & 1 for row in range(rows)]
    if dense:
        following = iter(values)
        return [next(following) if here else None for here in present]
    return [value if here else None for value, here in zip(values, present, strict=True)]


def time_to_text(time_ns: int) -> str:
    """Return ns since the Unix epoch as RFC 3339 in UTC with nine decimals."""
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):  # past year 9999: no RFC 3339 text exists
        return "9999-12-31T23:59:59.999999999Z"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def time_from_text(text: str) -> int:
    """Return the ns since the Unix epoch of an RFC 3339 time, which may have nine decimals."""
    whole, _, tail = text.partition(".")
    digits = tail.rstrip("Z") if tail else ""
    moment = datetime.fromisoformat(whole.rstrip("Z")).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000_000 + int(digits.ljust(9, "0")[:9] or 0)


def _histogram_to_json(value: bytes) -> dict[str, int]:
    return {str(value[i]): value[i + 1] for i in range(0, len(value), 2)}


def _histogram_from_json(value: Mapping[str, int]) -> bytes:
    pairs = sorted((int(bucket), count) for bucket, count in value.items())
    return bytes(part for pair in pairs for part in pair)


def _flags_to_json(value: int) -> list[str]:
    return [str(flag.name).lower() for flag in RecordFlag if value & flag]


def _flags_from_json(value: Iterable[str]) -> int:
    return sum(RecordFlag[name.upper()] for name in value)


def _same(value: Any) -> Any:
    return value


_TO_JSON: Final[dict[Meaning, Callable[[Any], Any]]] = {
    Meaning.COUNT: _same,
    Meaning.VALUE: _same,
    Meaning.TEXT: _same,
    Meaning.TIME_NS: time_to_text,
    Meaning.SESSION_ID: lambda value: f"{value:016x}",
    Meaning.PSEUDONYM: bytes.hex,
    Meaning.IP: lambda value: str(ipaddress.ip_address(value)),
    Meaning.HISTOGRAM: _histogram_to_json,
    Meaning.CODES: lambda value: value.split(",") if value else [],
    Meaning.BOOLEAN: bool,
    Meaning.FLAGS: _flags_to_json,
}

_FROM_JSON: Final[dict[Meaning, Callable[[Any], Any]]] = {
    Meaning.COUNT: _same,
    Meaning.VALUE: _same,
    Meaning.TEXT: _same,
    Meaning.TIME_NS: time_from_text,
    Meaning.SESSION_ID: lambda value: int(value, 16),
    Meaning.PSEUDONYM: bytes.fromhex,
    Meaning.IP: lambda value: ipaddress.ip_address(value).packed,
    Meaning.HISTOGRAM: _histogram_from_json,
    Meaning.CODES: ",".join,
    Meaning.BOOLEAN: int,
    Meaning.FLAGS: _flags_from_json,
}
