"""Probes: when each last spoke, what it sent, and what became of the packets it saw."""

import json
from collections import defaultdict
from typing import Any, Final

from collector.errors import ProblemError
from collector.query.parameters import ProbesQuestion
from collector.query.plan import Query
from collector.query.times import LAST_NS, Span, parse_time
from collector.store import Store
from probe.record.codec import time_to_text

Row = dict[str, Any]

_PROBES: Final = """
SELECT probe_id, max(last_received) AS received, argMax(last_created, epoch) AS created,
    argMax(last_sequence, epoch) AS sequence, max(s.epoch) AS newest_epoch,
    sum(epoch_batches) AS batches, sum(missing) AS batches_missing, sum(epoch_rows) AS records,
    argMax(last_health, epoch) AS health, argMax(last_gaps, epoch) AS gaps
FROM (
    SELECT probe_id, epoch, max(toUnixTimestamp64Nano(received_at)) AS last_received,
        argMax(toUnixTimestamp64Nano(created_at), sequence) AS last_created,
        max(sequence) AS last_sequence, uniqExact(sequence) AS epoch_batches,
        max(sequence) - min(sequence) + 1 - uniqExact(sequence) AS missing,
        sum(rows) AS epoch_rows, argMax(health, sequence) AS last_health,
        argMax(gaps, sequence) AS last_gaps
    FROM batches WHERE {where} GROUP BY probe_id, epoch
) AS s
GROUP BY probe_id ORDER BY probe_id LIMIT {limit:d} OFFSET {offset:d}
"""

_LEDGER: Final = """
SELECT probe_id, interface, counter, reason, sum(packets) AS packets
FROM ledger WHERE {where} GROUP BY probe_id, interface, counter, reason
ORDER BY probe_id, interface, counter, reason LIMIT 100000
"""


def asked_span(question: ProbesQuestion, now_ns: int) -> Span:
    """Return the range of arrival that is asked about: by default all time."""
    start = 0 if question.from_ is None else parse_time(question.from_, "from", now_ns)
    end = LAST_NS if question.to is None else parse_time(question.to, "to", now_ns)
    if start >= end:
        raise ProblemError(400, "Bad parameter", "from must be earlier than to")
    return Span(start, end)


async def probes(
    store: Store, span: Span, probe_ids: list[str] | None, offset: int, limit: int
) -> list[Row]:
    """Return a row for each probe, in the order of their names."""
    query = arrived(span, probe_ids)
    sql = _PROBES.format(where=" AND ".join(query.where), limit=limit, offset=offset)
    rows = await store.fetch(sql, query.parameters)
    ledgers = await _ledgers(store, span, [row["probe_id"] for row in rows])
    return [_told(row, ledgers[row["probe_id"]]) for row in rows]


def arrived(span: Span, probe_ids: list[str] | None) -> Query:
    """Return the conditions for what came from these probes in `span`."""
    query = Query()
    start, end = query.bind(span.start, "Int64"), query.bind(span.end, "Int64")
    query.where.append(
        f"received_at >= fromUnixTimestamp64Nano({start}, 'UTC')"
        f" AND received_at < fromUnixTimestamp64Nano({end}, 'UTC')"
    )
    if probe_ids is not None:
        query.where.append(f"probe_id IN {query.bind(probe_ids, 'Array(String)')}")
    return query


async def _ledgers(
    store: Store, span: Span, probe_ids: list[str]
) -> defaultdict[str, dict[str, dict[str, int]]]:
    """Return packets by probe, interface and counter."""
    query = arrived(span, probe_ids)
    sql = _LEDGER.format(where=" AND ".join(query.where))
    told: defaultdict[str, dict[str, dict[str, int]]] = defaultdict(dict)
    for row in await store.fetch(sql, query.parameters):
        name = f"{row['counter']}.{row['reason']}" if row["reason"] else row["counter"]
        told[row["probe_id"]].setdefault(row["interface"], {})[name] = row["packets"]
    return told


def _told(row: Row, ledger: dict[str, dict[str, int]]) -> Row:
    return {
        "probe_id": row["probe_id"],
        "last_received_at": time_to_text(row["received"]),
        "last_created_at": time_to_text(row["created"]),
        "epoch": row["newest_epoch"],
        "sequence": row["sequence"],
        "batches": row["batches"],
        "batches_missing": row["batches_missing"],
        "records": row["records"],
        "health": json.loads(row["health"]),
        "gaps": json.loads(row["gaps"]),
        "ledger": ledger,
    }
