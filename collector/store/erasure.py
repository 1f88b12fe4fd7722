"""Erasure of one person from every table that names subscribers.

What stays are sums over many subscribers and, in their sets of distinct subscribers, hashes that
lead back to nobody. A pseudonym that was the person's for a time only, an address, loses the
records of that time; the rollup of an hour in which it changed hands is made anew from the records
that stay.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from collector.store.links import EVER, Period, Person
from collector.store.tables import ROLLUPS, Layout, Rollup, rollup_select

_DELETE: Final = (
    "DELETE FROM {table}{on_cluster} WHERE {condition} SETTINGS lightweight_deletes_sync = 2"
)
# The same hour may be made anew twice: it must not be taken for a block that was sent again.
_REMAKE: Final = "INSERT INTO {table} {select} SETTINGS insert_deduplicate = 0"
_PERIODS_AT_ONCE: Final = 200
_LAST_SECOND: Final = (1 << 32) - 1
_NS: Final = 10**9

Owned = tuple[str, Period]  # a pseudonym, and a time in which it was the person's


def erase_person(client: Any, layout: Layout, person: Person) -> None:
    """Delete the person's rows; they are in no answer when it returns."""
    owned = [(name, period) for name, periods in person.periods.items() for period in periods]
    rollups = [rollup for rollup in ROLLUPS if "subscriber_id" in rollup.dimensions]
    for some in _parts(owned):
        _delete(client, layout, "sessions", [_records(*entry) for entry in some])
        for rollup in rollups:
            _delete(client, layout, rollup.name, [_steps(rollup, *entry) for entry in some])
            cut = [_cut_steps(rollup, *entry) for entry in some]
            if cut := [condition for condition in cut if condition]:
                select = rollup_select(rollup, " OR ".join(cut))
                client.command(_REMAKE.format(table=rollup.name, select=select))
    _delete_links(client, layout, person)


def _delete_links(client: Any, layout: Layout, person: Person) -> None:
    name = person.ids[0]
    conditions = [f"from_id = '{name}'", f"to_id = '{name}'"]
    conditions += [
        f"(from_id = '{link.from_id}' AND to_id = '{link.to_id}' AND since_ns = {link.since_ns:d})"
        for link in person.links
    ]
    for some in _parts(conditions):
        _delete(client, layout, "links", some)


def _delete(client: Any, layout: Layout, table: str, conditions: Iterable[str]) -> None:
    condition = " OR ".join(conditions)
    client.command(_DELETE.format(table=table, on_cluster=layout.on_cluster, condition=condition))


# Pseudonyms are 32 hex digits (checked where they come in) and times integers, so both may stand in
# the SQL: some hundreds of them in one statement are more than parameters are made for.


def _records(name: str, period: Period) -> str:
    subscriber = f"subscriber_id = unhex('{name}')"
    if period == EVER:
        return subscriber
    start, end = (f"fromUnixTimestamp64Nano({moment:d}, 'UTC')" for moment in period)
    return f"({subscriber} AND start_time >= {start} AND start_time < {end})"


def _steps(rollup: Rollup, name: str, period: Period) -> str:
    """Return the condition of the rollup's steps that the period touches."""
    subscriber = f"subscriber_id = unhex('{name}')"
    if period == EVER:
        return subscriber
    first = period[0] // _NS // rollup.step_s * rollup.step_s
    last = min(-(-period[1] // _NS), _LAST_SECOND)
    return (
        f"({subscriber} AND time >= toDateTime({first:d}, 'UTC')"
        f" AND time < toDateTime({last:d}, 'UTC'))"
    )


def _cut_steps(rollup: Rollup, name: str, period: Period) -> str:
    """Return the condition of records in the steps that a bound of the period cuts."""
    step_ns = rollup.step_s * _NS
    # A bound between two steps cuts none: what lies beyond it was not deleted.
    bounds = [moment // step_ns * step_ns for moment in period if moment % step_ns]
    if period == EVER or not bounds:
        return ""
    within = " OR ".join(
        f"(s.start_time >= fromUnixTimestamp64Nano({start:d}, 'UTC')"
        f" AND s.start_time < fromUnixTimestamp64Nano({start + step_ns:d}, 'UTC'))"
        for start in dict.fromkeys(bounds)
    )
    return f"(s.subscriber_id = unhex('{name}') AND ({within}))"


def _parts(entries: Iterable[Any]) -> Iterator[list[Any]]:
    walk = iter(entries)
    while part := list(islice(walk, _PERIODS_AT_ONCE)):
        yield part
