"""Paths of GTP-U: whether its ends answer, how fast, and what is lost between them."""

from typing import Any, Final

from collector.query.aggregates import loss_of
from collector.query.parameters import PathsQuestion
from collector.query.plan import Query
from collector.query.probes import arrived
from collector.query.times import Span
from collector.store import Store

Row = dict[str, Any]

_KEYS: Final = ("capture_point", "source", "destination")
_COUNTS: Final = (
    "echo_requests", "echo_responses", "echo_unanswered", "error_indications", "end_markers",
    "tunnel_packets", "tunnel_missing", "tunnel_late", "tunnel_jumps",
)  # fmt: skip
# In the entries of a batch, and in the answer.
_ROUND_TRIPS: Final = (("rtt", "echo_rtt_us"), ("n3_rtt", "n3_rtt_us"))


def _number(name: str, aggregate: str = "sum", of: str = "UInt") -> str:
    return f"{aggregate}(JSONExtract{of}(entry, '{name}')) AS {name}"


def _bounds(prefix: str) -> list[str]:
    """Return the least and the greatest round trip; null where an entry has none."""
    kind = "'Nullable(UInt64)'"
    return [
        f"{bound}(JSONExtract(entry, '{prefix}_{bound}_us', {kind})) AS {prefix}_{bound}_us"
        for bound in ("min", "max")
    ]


_SELECT: Final = ", ".join(
    [
        "probe_id",
        *(f"JSONExtractString(entry, '{name}') AS {name}" for name in _KEYS),
        *(_number(name) for name in _COUNTS),
        *(bound for prefix, _ in _ROUND_TRIPS for bound in _bounds(prefix)),
        *(
            _number(f"{prefix}_{what}")
            for prefix, _ in _ROUND_TRIPS
            for what in ("sum_us", "samples")
        ),
    ]
)
_GROUP: Final = ", ".join(("probe_id", *_KEYS))


async def paths(
    store: Store, span: Span, question: PathsQuestion, offset: int, limit: int
) -> list[Row]:
    """Return a row for each path, in the order of probes, capture points and addresses."""
    query = arrived(span, question.probe_id)
    for name in _KEYS:
        _narrow(query, [f"JSONExtractString(entry, '{name}')"], getattr(question, name))
    ends = [f"JSONExtractString(entry, '{name}')" for name in ("source", "destination")]
    _narrow(query, ends, question.end)
    sql = (
        f"SELECT {_SELECT} FROM paths WHERE {' AND '.join(query.where)}"
        f" GROUP BY {_GROUP} ORDER BY {_GROUP} LIMIT {limit:d} OFFSET {offset:d}"
    )
    return [_told(row) for row in await store.fetch(sql, query.parameters)]


def _narrow(query: Query, expressions: list[str], wanted: list[str] | None) -> None:
    """Narrow `query` to entries of which any of the expressions is wanted."""
    if wanted is None:
        return
    bound = query.bind(wanted, "Array(String)")
    query.where.append(f"({' OR '.join(f'{one} IN {bound}' for one in expressions)})")


def _told(row: Row) -> Row:
    return {
        **{name: row[name] for name in ("probe_id", *_KEYS, *_COUNTS)},
        "tunnel_loss": loss_of(row["tunnel_packets"], row["tunnel_missing"], row["tunnel_late"]),
        **{name: _round_trips(row, prefix) for prefix, name in _ROUND_TRIPS},
    }


def _round_trips(row: Row, prefix: str) -> Row:
    samples = row[f"{prefix}_samples"]
    return {
        "min": row[f"{prefix}_min_us"],
        "mean": round(row[f"{prefix}_sum_us"] / samples) if samples else None,
        "max": row[f"{prefix}_max_us"],
        "samples": samples,
    }
