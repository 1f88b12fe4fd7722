"""From batches as sent to Arrow tables as stored, without a step per record.

Wire columns are little-endian buffers with bitmaps, which is nearly what Arrow uses: numbers are
taken as they are, dictionaries stay dictionaries, and only what the collector adds is computed,
once for each distinct value.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collector.store.aggregates import ADDRESS_SOURCE
from collector.store.tables import TEXT_KEYS
from probe.record.codec import Batch, ColumnData, index_width
from probe.record.schema import COLUMNS, Column, Meaning, WireType

# The service and its class of a server name and an application protocol, either of which may be
# unknown. Asked once for each distinct pair of a batch.
Classify = Callable[[str | None, str | None], tuple[str | None, str]]

NS_PER_DAY: Final = 86_400 * 10**9
# 2105-12-31T23:59:59.999999999Z: minutes and hours of rollups are 32-bit seconds and end in 2106.
# Packets claim later times only where a capture is damaged; such a time is stored as this one.
LAST_TIME_NS: Final = 49_673 * NS_PER_DAY - 1
_LAST_INT64: Final = np.uint64((1 << 63) - 1)

DAYS_PER_INSERT: Final = 90  # the engine refuses inserts that touch more than 100 partitions
ROWS_PER_INSERT: Final = 262_144
MAX_DAYS: Final = 1000  # of one batch: each day is files of its own, and a probe spans a few

_NUMPY: Final[dict[WireType, np.dtype[Any]]] = {
    WireType.U8: np.dtype("u1"),
    WireType.U16: np.dtype("<u2"),
    WireType.U32: np.dtype("<u4"),
    WireType.U64: np.dtype("<u8"),
    WireType.I64: np.dtype("<i8"),
    WireType.F32: np.dtype("<f4"),
}
_INDEX: Final[dict[int, np.dtype[Any]]] = {
    1: np.dtype("u1"),
    2: np.dtype("<u2"),
    4: np.dtype("<u4"),
}
_TIME: Final = pa.timestamp("ns", "UTC")
_MAP: Final = pa.map_(pa.uint8(), pa.uint8())

Array = Any  # pyarrow.Array; pyarrow has no type information
Indexes = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class StoredBatch:
    """A batch and when it arrived, in ns since the Unix epoch by the collector's clock.

    `received_at` must be the same each time the batch is given to the store.
    """

    batch: Batch
    received_at: int


def sessions_table(entries: Sequence[StoredBatch], classify: Classify) -> Any:
    """Return the records of all batches as one Arrow table; columns null throughout are absent."""
    present = {name for entry in entries for name in entry.batch.columns}
    columns = [column for column in COLUMNS if column.name in present]
    tables = [_batch_table(entry, columns, classify) for entry in entries if entry.batch.rows]
    return pa.concat_tables(tables).unify_dictionaries() if tables else None


def refusal(batch: Batch) -> str | None:
    """Return why the store should never be given `batch`, None if it may be."""
    data = batch.columns["start_time"].data
    days = len(np.unique(np.frombuffer(data, "<u8", batch.rows) // NS_PER_DAY))
    return f"records begin on {days} days, more than {MAX_DAYS}" if days > MAX_DAYS else None


@dataclass(frozen=True)
class Attributed:
    """Bytes of IP of a batch, and those of them that are known to be whose and where."""

    base: int
    subscriber: int
    cell: int
    ran_node: int


def attributed(batch: Batch) -> Attributed:
    """Return what `collector.store.aggregates.ATTRIBUTION` will count of `batch`."""
    total = sum(
        np.frombuffer(batch.columns[name].data, "<u8", batch.rows)
        for name in ("bytes_up", "bytes_down")
    )

    def of(known: Mask) -> int:
        return int(np.sum(total, where=known, dtype=np.uint64))

    sources = _texts(batch, "subscriber_source")
    named = [value != ADDRESS_SOURCE for value in sources.values]
    by_more = np.array([*named, False])[sources.indexes]  # the last is that of index -1, null
    return Attributed(
        base=of(np.ones(batch.rows, bool)),
        subscriber=of(by_more & _known(batch, "subscriber_id")),
        cell=of(_known(batch, "cell_id")),
        ran_node=of(_known(batch, "ran_node_id")),
    )


def _known(batch: Batch, name: str) -> Mask:
    """Return which rows have a value of the column `name` that is not empty."""
    texts = _texts(batch, name)
    known: Mask = np.array([*(bool(value) for value in texts.values), False])[texts.indexes]
    return known


def inserts(table: Any) -> Iterator[Any]:
    """Yield `table` in parts of at most 90 days and 262,144 rows, the same parts each time."""
    days = table.column("start_time").to_numpy().view(np.int64) // NS_PER_DAY
    distinct = np.unique(days)
    for first in range(0, len(distinct), DAYS_PER_INSERT):
        group = distinct[first : first + DAYS_PER_INSERT]
        part = table
        if len(group) < len(distinct):
            part = table.filter(pa.array((days >= group[0]) & (days <= group[-1])))
        for start in range(0, part.num_rows, ROWS_PER_INSERT):
            yield part.slice(start, ROWS_PER_INSERT)


def to_stream(table: Any) -> bytes:
    """Return `table` as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    stream: bytes = sink.getvalue().to_pybytes()
    return stream


def _batch_table(entry: StoredBatch, columns: Iterable[Column], classify: Classify) -> Any:
    batch = entry.batch
    arrays = {column.name: _array(column, batch) for column in columns}
    arrays |= _collector_arrays(entry, classify)
    return pa.table(arrays)


def _array(column: Column, batch: Batch) -> Array:
    data = batch.columns.get(column.name)
    if column.wire is WireType.DICTIONARY:
        return _dictionary(column, data, batch.rows)
    if data is None:
        return pa.nulls(batch.rows, _arrow_type(column))
    if column.meaning is Meaning.HISTOGRAM:
        return _histogram(data, batch.rows)
    return _number(column, data, batch.rows)


def _arrow_type(column: Column) -> Any:
    if column.meaning is Meaning.TIME_NS:
        return _TIME
    if column.meaning is Meaning.HISTOGRAM:
        return _MAP
    return pa.from_numpy_dtype(_NUMPY[column.wire].newbyteorder("="))


def _number(column: Column, data: ColumnData, rows: int) -> Array:
    valid = _valid(data, rows)
    values = _of_each_row(np.frombuffer(data.data, _NUMPY[column.wire]), data, valid)
    if column.meaning is Meaning.TIME_NS:
        last = _LAST_INT64 if column.nullable else np.uint64(LAST_TIME_NS)
        values = np.minimum(values, last).view(np.int64)
    elif column.wire is WireType.F32 and not np.isfinite(values).all():
        finite = np.isfinite(values)  # what is no number has no form in JSON
        valid = finite if valid is None else valid & finite
    return pa.array(values, _arrow_type(column), mask=None if valid is None else ~valid)


def _valid(data: ColumnData, rows: int) -> Mask | None:
    if data.nulls is None:
        return None
    bits = np.unpackbits(np.frombuffer(data.nulls, np.uint8), count=rows, bitorder="little")
    valid: Mask = bits == 0
    return valid


def _of_each_row(values: Any, data: ColumnData, valid: Mask | None) -> Any:
    """Return an array of a number for each row, 0 where null if the batch left null rows out."""
    if not data.dense or valid is None:
        return values
    every = np.zeros(len(valid), values.dtype)
    every[valid] = values
    return every


def _dictionary(column: Column, data: ColumnData | None, rows: int) -> Array:
    """Return a dictionary array; null is the empty text in the columns of a sorting key."""
    binary = column.meaning in (Meaning.IP, Meaning.PSEUDONYM)
    values: list[Any] = list(data.values or ()) if data is not None else []
    indexes = _indexes(data, len(values), rows)
    if column.name in TEXT_KEYS:
        indexes = np.where(indexes < 0, np.int32(len(values)), indexes)
        values.append(b"" if binary else "")
    return _encoded(indexes, values, pa.binary() if binary else pa.string())


def _encoded(indexes: Indexes, values: list[Any], kind: Any) -> Array:
    """Return the dictionary array of `values` at `indexes`, null where an index is -1.

    The engine refuses a dictionary that holds a value twice, which a batch may.
    """
    place = {value: position for position, value in enumerate(dict.fromkeys(values))}
    if len(place) < len(values):
        moved = np.array([place[value] for value in values], np.int32)
        indexes = np.where(indexes < 0, np.int32(-1), moved[indexes])
    absent = indexes < 0
    return pa.DictionaryArray.from_arrays(
        pa.array(indexes, mask=absent if absent.any() else None), pa.array(list(place), kind)
    )


def _indexes(data: ColumnData | None, values: int, rows: int) -> Indexes:
    """Return each row's index into the dictionary, -1 where null."""
    if data is None or not values:
        return np.full(rows, -1, np.int32)
    valid = _valid(data, rows)
    sent = np.frombuffer(data.data, _INDEX[index_width(values)])
    indexes = _of_each_row(sent, data, valid).astype(np.int32)
    return indexes if valid is None else np.where(valid, indexes, np.int32(-1))


def _histogram(data: ColumnData, rows: int) -> Array:
    """Return a map array of the (bucket, count) pairs, empty where null."""
    valid = _valid(data, rows)
    sent = np.frombuffer(data.lengths or b"", "<u2")
    sizes = _of_each_row(sent, data, valid).astype(np.int32)
    pairs = np.frombuffer(data.data, np.uint8)
    if valid is not None and sizes[~valid].any():  # bytes that belong to null rows
        pairs = pairs[np.repeat(valid, sizes)]
        sizes = np.where(valid, sizes, 0)
    offsets = np.zeros(rows + 1, np.int32)
    np.cumsum(sizes // 2, out=offsets[1:])
    return pa.MapArray.from_arrays(offsets, pa.array(pairs[0::2]), pa.array(pairs[1::2]))


# ----------------------------------------------------------------- what the collector adds


def _collector_arrays(entry: StoredBatch, classify: Classify) -> Mapping[str, Array]:
    batch, rows = entry.batch, entry.batch.rows
    service, service_class = _services(batch, classify)
    return {
        "probe_id": _encoded(np.zeros(rows, np.int32), [batch.probe_id], pa.string()),
        "epoch": pa.array(np.full(rows, batch.epoch, np.uint64)),
        "sequence": pa.array(np.full(rows, batch.sequence, np.uint64)),
        "received_at": pa.array(np.full(rows, entry.received_at, np.int64), _TIME),
        "service": service,
        "service_class": service_class,
    }


def _services(batch: Batch, classify: Classify) -> tuple[Array, Array]:
    names, protocols = _texts(batch, "server_name"), _texts(batch, "app_protocol")
    width = len(protocols.values) + 1
    pairs = (names.indexes.astype(np.int64) + 1) * width + protocols.indexes + 1
    distinct, inverse = np.unique(pairs, return_inverse=True)
    found = [
        classify(names.text(pair // width - 1), protocols.text(pair % width - 1))
        for pair in distinct.tolist()
    ]
    indexes = inverse.astype(np.int32)
    return (
        _encoded(indexes, [name or "" for name, _ in found], pa.string()),
        _encoded(indexes, [kind for _, kind in found], pa.string()),
    )


@dataclass(frozen=True)
class _Texts:
    values: list[str]
    indexes: Indexes

    def text(self, index: int) -> str | None:
        return self.values[index] if index >= 0 else None


def _texts(batch: Batch, name: str) -> _Texts:
    data = batch.columns.get(name)
    values: list[Any] = list(data.values or ()) if data is not None else []
    return _Texts(values, _indexes(data, len(values), batch.rows))
