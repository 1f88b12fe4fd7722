"""Do the store's rollups still add up to its raw records?

A crash in the middle of an insert can leave the records of a batch without their part of a rollup,
until the probe sends the batch again. Days are compared one by one, so that no question reads
everything. Days of which raw records have expired are left out: rollups outlive them.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

from collector.store import Store
from collector.store.aggregates import Aggregate
from collector.store.tables import ROLLUPS, Rollup

_TRIES: Final = 3  # a batch stored between the two questions is not a fault
_PAUSE_S: Final = 1.0
_SUM: Final = "SimpleAggregateFunction(sum, UInt64)"


async def check(store: Store) -> list[str]:
    """Return a line for each damaged table and for each rollup and day that does not add up."""
    problems = await store.check()
    for day in await _days(store):
        for rollup in ROLLUPS:
            different = await _different(store, rollup, day)
            if different:
                names = ", ".join(different)
                problems.append(f"{rollup.name}: {day}: differs from raw records in {names}")
    return problems


async def _days(store: Store) -> list[str]:
    rows = await store.fetch(
        "SELECT DISTINCT toString(toDate(start_time)) AS day FROM sessions ORDER BY day", {}
    )
    return [row["day"] for row in rows]


async def _different(store: Store, rollup: Rollup, day: str) -> list[str]:
    sums = [aggregate for aggregate in rollup.aggregates if aggregate.type == _SUM]
    for attempt in range(_TRIES):
        if attempt:
            await asyncio.sleep(_PAUSE_S)
        (raw,) = await store.fetch(_raw_sql(rollup, sums), {"day": day})
        (rolled,) = await store.fetch(_rollup_sql(rollup, sums), {"day": day})
        different = _unequal(sums, raw, rolled)
        if not different:
            return []
    return different


def _unequal(
    sums: Iterable[Aggregate], raw: Mapping[str, Any], rolled: Mapping[str, Any]
) -> list[str]:
    return [entry.name for entry in sums if int(raw[entry.name]) != int(rolled[entry.name])]


def _raw_sql(rollup: Rollup, sums: Iterable[Aggregate]) -> str:
    columns = ", ".join(f"{entry.read_raw} AS {entry.name}" for entry in sums)
    also = f" AND {rollup.where}" if rollup.where else ""
    return f"SELECT {columns} FROM sessions AS s WHERE toDate(s.start_time) = {{day:Date}}{also}"


def _rollup_sql(rollup: Rollup, sums: Iterable[Aggregate]) -> str:
    columns = ", ".join(f"{entry.read} AS {entry.name}" for entry in sums)
    return f"SELECT {columns} FROM {rollup.name} AS s WHERE toDate(s.time) = {{day:Date}}"
