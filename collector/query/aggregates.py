"""Aggregates as answers tell them: sums, percentiles, causes and scores of a group of sessions."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

from collector.qoe import Measured, Models, Score, combine, quantile, samples, score
from collector.query.plan import Ask, Query, conditions, key, source_of, statement
from collector.store import Store
from collector.store.aggregates import (
    ATTRIBUTION,
    BY_NAME,
    CAUSES,
    CLIENT_LOSS,
    COUNTS,
    HISTOGRAMS,
    QUALITY,
    RAN_DELAYS,
    SESSIONS,
    SUBSCRIBERS,
    SUMS,
)
from collector.store.tables import Rollup
from probe.record.codec import time_to_text

Group = tuple[Any, ...]  # the values of an ask's keys, and the step's start if it has steps
Row = dict[str, Any]

_TOLD_SUMS: Final = (*COUNTS, *CLIENT_LOSS, *SUMS, *ATTRIBUTION)
_TOLD: Final = (*_TOLD_SUMS, *HISTOGRAMS, *RAN_DELAYS, CAUSES, SUBSCRIBERS)
_SCORED: Final = (HISTOGRAMS[0], *CLIENT_LOSS, SESSIONS, SUBSCRIBERS)
_PERCENTILES: Final = (
    ("p50", Fraction(1, 2)),
    ("p95", Fraction(95, 100)),
    ("p99", Fraction(99, 100)),
)

SUM_NAMES: Final = tuple(entry.name for entry in _TOLD_SUMS)
SORTS: Final = (*SUM_NAMES, SUBSCRIBERS.name, "failure_ratio")

# Failures of transactions have no attempt, and a session may fail after the range it began in.
_FAILURE_RATIO: Final = (
    "if(attempts = 0, NULL, least(1,"
    " (toInt64(failures) - toInt64(transactions_failed)) / attempts))"
)


@dataclass(frozen=True)
class Slice:
    """The part of a sorted list that is wanted."""

    sort: str  # one of SORTS, "qoe" or a key of the ask
    descending: bool
    offset: int
    limit: int


class Reader:
    """Asks the store for aggregates and scores them by a model."""

    def __init__(self, store: Store, models: Models) -> None:
        self._store = store
        self._models = models

    async def one(self, ask: Ask, by_session: bool = False) -> Row:
        """Return the aggregate of everything that `ask` covers, all zero if that is nothing."""
        rows, scores = await self._rows_and_scores(replace(ask, keys=()), None, by_session)
        return _told(rows[0], scores.get((), _unscored(self._models)))

    async def timeline(self, ask: Ask, by_session: bool = False) -> list[Row]:
        """Return the aggregate of each step and group that holds records, in order of time."""
        rows, scores = await self._rows_and_scores(ask, None, by_session)
        rows.sort(key=lambda row: (row["bucket"], *_group(ask, row)))
        return [
            {
                "time": time_to_text(row["bucket"] * 10**9),
                **_keys(ask, row),
                **_told(row, scores.get(_group(ask, row), _unscored(self._models))),
            }
            for row in rows
        ]

    async def page(self, ask: Ask, part: Slice, by_session: bool = False) -> list[Row]:
        """Return the wanted part of the list of groups."""
        if part.sort == "qoe":
            return await self._page_by_score(ask, part, by_session)
        query = conditions(ask, source := source_of(ask))
        sql = statement(ask, source, query, _TOLD, _order(ask, part))
        rows = await self._store.fetch(sql, query.parameters)
        groups = [_group(ask, row) for row in rows]
        scores = await self._scores(ask, groups, by_session)
        return [
            {**_keys(ask, row), **_told(row, scores.get(group, _unscored(self._models)))}
            for row, group in zip(rows, groups, strict=True)
        ]

    async def _page_by_score(self, ask: Ask, part: Slice, by_session: bool) -> list[Row]:
        scores = await self._scores(ask, None, by_session)
        ranked = sorted(scores, key=lambda group: _rank(scores[group], group, part.descending))
        groups = ranked[part.offset : part.offset + part.limit]
        if not groups:
            return []
        query = conditions(ask, source := source_of(ask))
        _restrict(query, ask, source, groups)
        sql = statement(ask, source, query, _TOLD)
        found = {_group(ask, row): row for row in await self._store.fetch(sql, query.parameters)}
        return [
            {**_keys(ask, found[group]), **_told(found[group], scores[group])}
            for group in groups
            if group in found
        ]

    async def _rows_and_scores(
        self, ask: Ask, groups: Sequence[Group] | None, by_session: bool
    ) -> tuple[list[Row], dict[Group, Score]]:
        query = conditions(ask, source := source_of(ask))
        rows = await self._store.fetch(statement(ask, source, query, _TOLD), query.parameters)
        return rows, await self._scores(ask, groups, by_session)

    async def _scores(
        self, ask: Ask, groups: Sequence[Group] | None, by_session: bool
    ) -> dict[Group, Score]:
        """Return the score of each group (of `groups` if given), over its service classes."""
        if groups is not None and not groups:
            return {}
        classes = ask.split("service_class")
        query = conditions(classes, source := source_of(classes))
        if groups is not None:
            _restrict(query, ask, source, groups)
        sql = statement(classes, source, query, _SCORED)
        rows = await self._store.fetch(sql, query.parameters)
        return await asyncio.to_thread(_score_rows, self._models, ask, classes, rows, by_session)


def _score_rows(
    models: Models, ask: Ask, classes: Ask, rows: Iterable[Row], by_session: bool
) -> dict[Group, Score]:
    place = f"key_{classes.keys.index('service_class')}"
    found: dict[Group, list[Score]] = defaultdict(list)
    for row in rows:
        found[_group(ask, row)].append(score(models, row[place], _measured(row, by_session)))
    return {group: combine(models, scores) for group, scores in found.items()}


def _measured(row: Row, by_session: bool) -> Measured:
    clusters = row["sessions"] if by_session or not row["subscribers"] else row["subscribers"]
    return Measured(
        row["rtt_client_histogram"],
        row["client_lost_packets"],
        row["client_loss_base_packets"],
        clusters,
    )


def _unscored(models: Models) -> Score:
    return combine(models, ())


def _rank(found: Score, group: Group, descending: bool) -> tuple[bool, bool, float, Group]:
    """Return a sorting key: what is unknown or has no score last, ties in the order of groups."""
    value = found.value if found.value is not None else 0.0
    return not group[0], found.value is None, -value if descending else value, group


def _order(ask: Ask, part: Slice) -> str:
    names = [f"key_{number}" for number in range(len(ask.keys))]
    if part.sort in ask.keys:
        by = names[ask.keys.index(part.sort)]
    else:
        by = _FAILURE_RATIO if part.sort == "failure_ratio" else BY_NAME[part.sort].name
    direction = "DESC" if part.descending else "ASC"
    order = ", ".join(["key_0 = ''", f"{by} {direction} NULLS LAST", *names])
    return f"ORDER BY {order} LIMIT {part.limit:d} OFFSET {part.offset:d}"


def _restrict(query: Query, ask: Ask, source: Rollup | None, groups: Sequence[Group]) -> None:
    """Narrow `query` to the given groups of `ask`."""
    names = [key(name, source) for name in ask.keys]
    if len(names) == 1:
        bound = query.bind([group[0] for group in groups], "Array(String)")
        query.where.append(f"{names[0]} IN {bound}")
    elif names:
        kind = f"Array(Tuple({', '.join(['String'] * len(names))}))"
        query.where.append(f"({', '.join(names)}) IN {query.bind(list(groups), kind)}")


def _group(ask: Ask, row: Row) -> Group:
    values = [row[f"key_{number}"] for number in range(len(ask.keys))]
    return (*values, row["bucket"]) if ask.step_s is not None else tuple(values)


def _keys(ask: Ask, row: Row) -> Row:
    return {name: row[f"key_{number}"] or None for number, name in enumerate(ask.keys)}


# ------------------------------------------------------------------------------ presentation


def _told(row: Row, found: Score) -> Row:
    """Return an aggregate in the form of the HTTP interface."""
    return {
        **{name: row[name] for name in SUM_NAMES},
        "failure_ratio": failure_ratio(row),
        "signalling_failure_ratio": signalling_failure_ratio(row),
        **shares(row),
        "tunnel_loss_up": tunnel_loss(row, "up"),
        "tunnel_loss_down": tunnel_loss(row, "down"),
        "subscribers": row["subscribers"],
        "rtt_client_us": quantiles(row["rtt_client_histogram"]),
        "rtt_server_us": quantiles(row["rtt_server_histogram"]),
        "ran_delay_up_us": quantiles(row["ran_delay_up_histogram"]),
        "ran_delay_down_us": quantiles(row["ran_delay_down_histogram"]),
        "causes": dict(sorted(row["causes"].items(), key=lambda cause: (-cause[1], cause[0]))),
        "qoe": qoe(found),
    }


def failure_ratio(row: Mapping[str, Any]) -> float | None:
    """Return failed sessions per attempt, at most 1, None without attempts."""
    if not row["attempts"]:
        return None
    failed = int(row["failures"]) - int(row["transactions_failed"])
    return min(1.0, failed / int(row["attempts"]))


def signalling_failure_ratio(row: Mapping[str, Any]) -> float | None:
    """Return failed per all signalling procedures, None without any."""
    if not row["transactions"]:
        return None
    return int(row["transactions_failed"]) / int(row["transactions"])


def shares(row: Mapping[str, Any]) -> Row:
    """Return what part of the bytes is attributed to whom and where, None where none is known."""
    base = int(row["attributable_bytes"])
    return {
        f"{what}_share": int(row[f"{what}_bytes"]) / base if base else None
        for what in ("subscriber", "cell", "ran_node")
    }


def tunnel_loss(row: Mapping[str, Any], direction: str) -> float | None:
    """Return what part of the numbered packets in tunnels never came, None without any of them."""
    return loss_of(*(int(row[f"tunnel_{what}_{direction}"]) for what in _TUNNEL_COUNTS))


_TUNNEL_COUNTS: Final = ("packets", "missing", "late")


def loss_of(packets: int, missing: int, late: int) -> float | None:
    """Return the part of packets that was lost: missing, and not merely late."""
    # A packet may be late in another interval than it was missing, which then has more of them.
    lost = max(0, missing - late)
    return lost / (packets + lost) if packets else None


def quantiles(histogram: Mapping[int, int]) -> Row:
    """Return p50, p95 and p99 in microseconds, null where there are too few samples."""
    count = samples(histogram)
    told: Row = {}
    for name, p in _PERCENTILES:
        found = quantile(histogram, p, count)
        told[name] = None if found is None else round(found.value_us)
    return {**told, "samples": count}


def qoe(found: Score) -> Row:
    """Return a score with one decimal."""
    return {
        "value": _rounded(found.value),
        "low": _rounded(found.low),
        "high": _rounded(found.high),
        "samples": found.samples,
        "model": found.model,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def quality_names() -> tuple[str, ...]:
    """Return the names of the sums that say how far records can be trusted."""
    return ("records", *(entry.name for entry in (*QUALITY, *ATTRIBUTION)))
