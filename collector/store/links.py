"""Persons: the pseudonyms that probes found to be one subscriber's, and when each was.

A link says that `from` and `to` are one person from `since` until `until` (ns since the Unix epoch,
the end excluded). It is followed both ways, and through others for as long as all of them hold: who
had an address at ten is asked for what its IMSI did at ten, and the address at eleven is somebody
else's. A link told again with a later end reaches until then. One whose end nobody told ends where
another `from` takes over its `to`: `from` is the lasting identity, `to` what it was given.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Fetch = Callable[[str, Mapping[str, Any]], Awaitable[list[dict[str, Any]]]]
Period = tuple[int, int]  # ns since the Unix epoch, the end excluded
Periods = tuple[Period, ...]  # in order, apart from each other

OPEN_NS: Final = (1 << 63) - 1  # the end of a link whose end was not told
EVER: Final[Period] = (0, OPEN_NS)
MAX_LINKED: Final = 256  # pseudonyms of one person in a question
_HOPS: Final = 4
_IDS_AT_ONCE: Final = 500
_MAX_LINKS: Final = 100_000  # of one question

_LINKS: Final = """
SELECT from_id, to_id, since_ns, countIf(until_ns < {open:Int64}) > 0 AS closed,
    if(closed, maxIf(until_ns, until_ns < {open:Int64}), {open:Int64}) AS ends_ns
FROM links
WHERE (from_id IN {ids:Array(String)} OR to_id IN {ids:Array(String)})
    AND from_id != '' AND to_id != '' AND from_id != to_id AND since_ns < {end:Int64}
GROUP BY from_id, to_id, since_ns HAVING ends_ns > {start:Int64}
ORDER BY closed, since_ns DESC, from_id, to_id LIMIT {most:UInt32}
"""
_OWNERS: Final = """
SELECT to_id, from_id, since_ns FROM links WHERE to_id IN {ids:Array(String)} AND from_id != ''
GROUP BY to_id, from_id, since_ns ORDER BY since_ns LIMIT {most:UInt32}
"""


@dataclass(frozen=True)
class Link:
    """Two pseudonyms of one person, and when they were."""

    from_id: str
    to_id: str
    since_ns: int
    until_ns: int


@dataclass(frozen=True)
class Person:
    """The pseudonyms of a subscriber, the one asked about first, and when each was theirs."""

    periods: Mapping[str, Periods]
    links: tuple[Link, ...]  # that led to them

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.periods)


async def person(
    fetch: Fetch, subscriber_id: str, span: Period = EVER, most: int = MAX_LINKED
) -> Person:
    """Return the person behind a pseudonym, as far as links that touch `span` tell.

    Four links are followed at most and `most` pseudonyms told: those of links that go on first,
    so that many addresses do not crowd out a number, then those of the newest.
    """
    periods: dict[str, Periods] = {subscriber_id: (EVER,)}
    used: dict[Link, None] = {}
    frontier: dict[str, Periods] = dict(periods)
    for _ in range(_HOPS):
        gained: dict[str, Periods] = {}
        for link in await _links(fetch, frontier, span):
            for known, other in ((link.from_id, link.to_id), (link.to_id, link.from_id)):
                shared = _during(frontier.get(known, ()), link)
                if not shared or (other not in periods and len(periods) >= most):
                    continue
                used[link] = None
                joined = _union((*periods.get(other, ()), *shared))
                if joined != periods.get(other):
                    gained[other] = _union((*gained.get(other, ()), *shared))
                    periods[other] = joined
        if not gained:
            break
        frontier = gained
    return Person(periods, tuple(used))


async def _links(fetch: Fetch, ids: Iterable[str], span: Period) -> list[Link]:
    """Return the links of any of `ids` that touch `span`: those that go on, then the newest."""
    found: list[Link] = []
    for some in _chunks(list(ids)):
        bounds = {"start": span[0], "end": span[1], "open": OPEN_NS, "most": _MAX_LINKS}
        rows = await fetch(_LINKS, {"ids": some, **bounds})
        found += [
            Link(row["from_id"], row["to_id"], int(row["since_ns"]), int(row["ends_ns"]))
            for row in rows
        ]
    return await _taken_over(fetch, list(dict.fromkeys(found)), span)


async def _taken_over(fetch: Fetch, links: list[Link], span: Period) -> list[Link]:
    """Return `links`, the open ones ended where their `to` went over to another `from`."""
    open_to = sorted({link.to_id for link in links if link.until_ns == OPEN_NS})
    owners: dict[str, list[tuple[int, str]]] = {}
    for some in _chunks(open_to):
        for row in await fetch(_OWNERS, {"ids": some, "most": _MAX_LINKS}):
            owners.setdefault(row["to_id"], []).append((int(row["since_ns"]), row["from_id"]))
    ended = [_ended(link, owners.get(link.to_id, ())) for link in links]
    return [link for link in ended if link.until_ns > span[0]]


def _ended(link: Link, owners: Iterable[tuple[int, str]]) -> Link:
    if link.until_ns < OPEN_NS:
        return link
    later = (since for since, owner in owners if owner != link.from_id and since > link.since_ns)
    return Link(link.from_id, link.to_id, link.since_ns, min(later, default=OPEN_NS))


def _chunks(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield ids[start : start + _IDS_AT_ONCE]


def _during(periods: Periods, link: Link) -> Periods:
    cut = ((max(start, link.since_ns), min(end, link.until_ns)) for start, end in periods)
    return tuple((start, end) for start, end in cut if start < end)


def _union(periods: Iterable[Period]) -> Periods:
    joined: list[Period] = []
    for start, end in sorted(periods):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return tuple(joined)
