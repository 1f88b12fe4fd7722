"""Do the store's rollups still add up to its raw records?

A crash in the middle of an insert can leave the records of a batch without their part of a rollup,
until the probe sends the batch again. Days are compared one by one, so that no question reads
everything.

Rollups outlive raw records: those of an erased subscriber and those past their retention still
count in sums over a cell. On days that either may have touched a rollup may hold more than the
raw records, but never less.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from collector.store import Store
from collector.store.aggregates import Aggregate
from collector.store.tables import ROLLUPS, Rollup

_TRIES: Final = 3  # a batch stored between the two questions is not a fault
_PAUSE_S: Final = 1.0
_SUM: Final = "SimpleAggregateFunction(sum, UInt64)"


@dataclass(frozen=True)
class Thinning:
    """What has taken raw records away: retention, and the last erasure (Unix seconds)."""

    raw_retention: timedelta
    last_erasure: int | None


async def check(store: Store, thinning: Thinning) -> list[str]:
    """Return a line for each damaged table and for each rollup and day that does not add up."""
    problems = await store.check()
    thinned_until = await _thinned_until(store, thinning)
    applied = await _applied(store)
    for day, oldest in await _days(store):
        for rollup in ROLLUPS:
            sums = [entry for entry in _sums(rollup) if applied[entry.since] <= oldest]
            different = await _different(store, rollup, sums, day, thinned=day <= thinned_until)
            if different:
                names = ", ".join(different)
                problems.append(f"{rollup.name}: {day}: differs from raw records in {names}")
    return problems


async def _thinned_until(store: Store, thinning: Thinning) -> str:
    """Return the last day, as text, that may miss raw records; empty if none does."""
    moments = [thinning.last_erasure or 0]
    expired_before = int(time.time() - thinning.raw_retention.total_seconds())
    (row,) = await store.fetch(
        "SELECT count() AS rows FROM batches"
        " WHERE received_at < toDateTime({before:UInt32}, 'UTC')",
        {"before": expired_before},
    )
    if row["rows"]:
        moments.append(expired_before)
    last = max(moments)
    return f"{datetime.fromtimestamp(last, UTC):%Y-%m-%d}" if last else ""


async def _days(store: Store) -> list[tuple[str, int]]:
    """Return each day of records, and when the first of them arrived (Unix seconds)."""
    rows = await store.fetch(
        "SELECT toString(toDate(start_time)) AS day,"
        " toUnixTimestamp(toDateTime(min(received_at))) AS oldest"
        " FROM sessions GROUP BY day ORDER BY day",
        {},
    )
    return [(row["day"], int(row["oldest"])) for row in rows]


async def _applied(store: Store) -> dict[int, int]:
    """Return when each migration was applied (Unix seconds): what it brought is not older."""
    rows = await store.fetch(
        "SELECT number, toUnixTimestamp(toDateTime(min(applied_at))) AS applied"
        " FROM migrations GROUP BY number",
        {},
    )
    # The first made the tables: whatever lies in them is younger, whatever the clocks say.
    return {int(row["number"]): int(row["applied"]) for row in rows} | {1: 0}


def _sums(rollup: Rollup) -> list[Aggregate]:
    return [aggregate for aggregate in rollup.aggregates if aggregate.type == _SUM]


async def _different(
    store: Store, rollup: Rollup, sums: list[Aggregate], day: str, *, thinned: bool
) -> list[str]:
    for attempt in range(_TRIES):
        if attempt:
            await asyncio.sleep(_PAUSE_S)
        (raw,) = await store.fetch(_raw_sql(rollup, sums), {"day": day})
        (rolled,) = await store.fetch(_rollup_sql(rollup, sums), {"day": day})
        different = [
            entry.name
            for entry in sums
            if not _adds_up(int(raw[entry.name]), int(rolled[entry.name]), thinned=thinned)
        ]
        if not different:
            return []
    return different


def _adds_up(raw: int, rolled: int, *, thinned: bool) -> bool:
    return raw <= rolled if thinned else raw == rolled


def _raw_sql(rollup: Rollup, sums: Iterable[Aggregate]) -> str:
    columns = ", ".join(f"{entry.read_raw} AS {entry.name}" for entry in sums)
    also = f" AND {rollup.where}" if rollup.where else ""
    return f"SELECT {columns} FROM sessions AS s WHERE toDate(s.start_time) = {{day:Date}}{also}"


def _rollup_sql(rollup: Rollup, sums: Iterable[Aggregate]) -> str:
    columns = ", ".join(f"{entry.read} AS {entry.name}" for entry in sums)
    return f"SELECT {columns} FROM {rollup.name} AS s WHERE toDate(s.time) = {{day:Date}}"
