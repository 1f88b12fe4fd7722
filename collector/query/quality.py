"""How far records can be trusted: by probe and capture point, how many carry which flag."""

from dataclasses import replace
from typing import Any

from collector.query.aggregates import quality_names, shares
from collector.query.plan import Ask, conditions, source_of, statement
from collector.store import Store
from collector.store.aggregates import BY_NAME

Row = dict[str, Any]


async def quality(store: Store, ask: Ask, offset: int, limit: int) -> list[Row]:
    """Return a row for each probe and capture point, in their order."""
    split = replace(ask, keys=("probe_id", "capture_point"))
    query = conditions(split, source := source_of(split))
    names = quality_names()
    tail = f"ORDER BY key_0, key_1 LIMIT {limit:d} OFFSET {offset:d}"
    sql = statement(split, source, query, [BY_NAME[name] for name in names], tail)
    return [
        {"probe_id": row["key_0"], "capture_point": row["key_1"] or None}
        | {name: row[name] for name in names}
        | shares(row)
        for row in await store.fetch(sql, query.parameters)
    ]
