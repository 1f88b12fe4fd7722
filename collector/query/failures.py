"""Failure causes: how often, and how many subscribers they met."""

from typing import Any

from collector.query.aggregates import Slice
from collector.query.plan import Ask, Query, conditions, failure_source, statement
from collector.store import Store
from collector.store.aggregates import FAILURES, SUBSCRIBERS
from collector.store.tables import Rollup
from probe.record.enums import Outcome

Row = dict[str, Any]


async def failures(store: Store, ask: Ask, part: Slice) -> list[Row]:
    """Return the wanted part of the list of causes; shares are of everything in the question."""
    source = failure_source(ask)
    query = _conditions(ask, source)
    order = _order(ask, part)
    rows = await store.fetch(
        statement(ask, source, query, (FAILURES, SUBSCRIBERS), order), query.parameters
    )
    total = await _total(store, ask, source)
    return [_told(ask, row, total) for row in rows]


def _conditions(ask: Ask, source: Rollup | None) -> Query:
    query = conditions(ask, source)
    if source is None:
        query.where.append(f"s.outcome = {query.bind(str(Outcome.FAILED), 'String')}")
    return query


def _order(ask: Ask, part: Slice) -> str:
    names = [f"key_{number}" for number in range(len(ask.keys))]
    by = names[ask.keys.index(part.sort)] if part.sort in ask.keys else part.sort
    direction = "DESC" if part.descending else "ASC"
    order = ", ".join([f"{by} {direction}", *names])
    return f"ORDER BY {order} LIMIT {part.limit:d} OFFSET {part.offset:d}"


async def _total(store: Store, ask: Ask, source: Rollup | None) -> int:
    query = _conditions(ask, source)
    whole = Ask(ask.span, ask.filters)
    rows = await store.fetch(statement(whole, source, query, (FAILURES,)), query.parameters)
    return int(rows[0]["failures"])


def _told(ask: Ask, row: Row, total: int) -> Row:
    keys = {name: row[f"key_{number}"] or None for number, name in enumerate(ask.keys)}
    return {
        **keys,
        "failures": row["failures"],
        "subscribers": row["subscribers"],
        "share": row["failures"] / total if total else 0.0,
    }
