"""Who a subscriber is: pseudonyms that probes found to be one person's are asked about together."""

import re
from dataclasses import replace

from collector.errors import ProblemError
from collector.query.plan import Ask, conditions, source_of, statement
from collector.query.times import HOUR_NS, NS, Span
from collector.store import Store
from collector.store.aggregates import BY_NAME
from collector.store.links import EVER, Person, person


async def linked(store: Store, subscriber_id: str, span: Span | None) -> Person:
    """Return the person of a pseudonym by links that touch `span`; 404 if it is no pseudonym."""
    if not re.fullmatch(r"[0-9a-f]{32}", subscriber_id):
        raise ProblemError(404, "Not found", "a subscriber id is 32 lower-case hex digits")
    bounds = EVER if span is None else (span.start, span.end)
    return await person(store.fetch, subscriber_id, bounds)


async def of_person(store: Store, ask: Ask, whose: Person) -> Ask:
    """Return `ask` narrowed to the person, each pseudonym to when it was theirs.

    What a link begins or ends inside of an hour only raw records tell. Where these do not reach
    back far enough any more, the rollup answers, without the hours in which a pseudonym changed
    hands: what may be somebody else's is left out.
    """
    narrowed = replace(ask.narrowed("subscriber_id", *whose.ids), periods=whose.periods)
    if not narrowed.cut_by_periods(HOUR_NS // NS):
        return narrowed
    return replace(narrowed, whole_steps=not await _raw_is_whole(store, narrowed))


async def _raw_is_whole(store: Store, ask: Ask) -> bool:
    """Say whether raw records still hold all that the rollup counts of these pseudonyms."""
    names = {"subscriber_id": ask.filters["subscriber_id"]}
    everything = Ask(ask.span.widened(HOUR_NS // NS), names)
    source = source_of(everything)
    counts = []
    for table in (source, None):
        query = conditions(everything, table)
        sql = statement(everything, table, query, (BY_NAME["records"],))
        counts.append(int((await store.fetch(sql, query.parameters))[0]["records"]))
    return counts[0] <= counts[1]
