"""Which table answers a question, and the SQL that asks it.

A question is answered by the first table below whose dimensions hold everything asked for and whose
step divides the range; raw records answer what no rollup can. All of them give the same numbers.
Values from outside are bound as parameters; only names from this module stand in the SQL.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from collector.query.times import NS, Span
from collector.store.aggregates import Aggregate
from collector.store.links import Period, Periods
from collector.store.tables import ROLLUPS, Rollup, dimension

_ROLLUP: Final = {rollup.name: rollup for rollup in ROLLUPS}
# Coarse before fine, narrow before wide.
_PREFERENCE: Final = ("cell_hour", "subscriber_hour", "cell_minute", "service_minute")


@dataclass(frozen=True)
class Ask:
    """A question about aggregates: where and when, split by what."""

    span: Span
    filters: Mapping[str, tuple[str, ...]]
    keys: tuple[str, ...] = ()
    step_s: int | None = None
    # When each pseudonym is the subscriber's; one that is not in here is so at any time.
    periods: Mapping[str, Periods] = field(default_factory=dict)
    # Count the steps of a rollup that lie wholly in the periods, where raw records are gone.
    whole_steps: bool = False

    def cut_by_periods(self, step_s: int) -> bool:
        """Say whether a period begins or ends within a step, inside of the span."""
        return any(
            self.span.start < moment < self.span.end and moment % (step_s * NS)
            for name in self.filters.get("subscriber_id", ())
            for period in self.periods.get(name, ())
            for moment in period
        )

    def narrowed(self, name: str, *values: str) -> "Ask":
        """Return the question narrowed to those of `values` that it admits as `name`."""
        admitted = set(self.filters.get(name, values))
        values = tuple(value for value in values if value in admitted)
        return replace(self, filters={**self.filters, name: values})

    def split(self, *keys: str) -> "Ask":
        """Return the question split by further dimensions."""
        return replace(self, keys=tuple(dict.fromkeys((*self.keys, *keys))))


@dataclass
class Query:
    """A statement in the making and the values bound to it."""

    where: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)

    def bind(self, value: object, kind: str) -> str:
        """Return the placeholder of a bound value."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f"{{{name}:{kind}}}"


def source_of(ask: Ask) -> Rollup | None:
    """Return the rollup that answers `ask`, None if raw records must."""
    needed = {*ask.filters, *ask.keys}
    for name in _PREFERENCE:
        rollup = _ROLLUP[name]
        if needed <= {*rollup.dimensions} and _divides(rollup.step_s, ask):
            if name == "subscriber_hour" and "subscriber_id" not in needed:
                continue  # the largest of them
            if ask.cut_by_periods(rollup.step_s) and not ask.whole_steps:
                continue
            return rollup
    return None


def failure_source(ask: Ask) -> Rollup | None:
    """Return the rollup of failures if it answers `ask`."""
    rollup = _ROLLUP["failure_minute"]
    fits = {*ask.filters, *ask.keys} <= {*rollup.dimensions} and _divides(rollup.step_s, ask)
    return rollup if fits else None


def _divides(step_s: int, ask: Ask) -> bool:
    step = step_s * NS
    whole = ask.span.start % step == 0 and ask.span.end % step == 0
    return whole and (ask.step_s is None or ask.step_s % step_s == 0)


def conditions(ask: Ask, source: Rollup | None) -> Query:
    """Return the conditions of `ask` on the table of `source`."""
    query = Query()
    query.where.append(_time_condition(query, ask.span, source))
    for name, values in ask.filters.items():
        if name == "subscriber_id":
            query.where.append(_subscriber_filter(query, ask, source))
        else:
            query.where.append(_filter(query, name, values, source))
    return query


def _time_condition(query: Query, span: Span, source: Rollup | None) -> str:
    if source is None:
        start, end = (query.bind(value, "Int64") for value in (span.start, span.end))
        return (
            f"s.start_time >= fromUnixTimestamp64Nano({start}, 'UTC')"
            f" AND s.start_time < fromUnixTimestamp64Nano({end}, 'UTC')"
        )
    seconds = [min(value // NS, (1 << 32) - 1) for value in (span.start, span.end)]
    start, end = (f"toDateTime({query.bind(value, 'UInt32')}, 'UTC')" for value in seconds)
    condition = f"s.time >= {start} AND s.time < {end}"
    if source.step_s < 3600:  # their sorting key begins with the hour
        condition += (
            f" AND toStartOfHour(s.time) >= toStartOfHour({start})"
            f" AND toStartOfHour(s.time) <= toStartOfHour({end})"
        )
    return condition


def _filter(query: Query, name: str, values: Iterable[str], source: Rollup | None) -> str:
    bound = query.bind(list(values), "Array(String)")
    return f"{dimension(name, raw=source is None)} IN {bound}"


def _subscriber_filter(query: Query, ask: Ask, source: Rollup | None) -> str:
    """Return the condition for subscribers, each within the times that the pseudonym is theirs."""
    always, sometimes = [], []
    for name in ask.filters["subscriber_id"]:
        periods = ask.periods.get(name)
        if periods is None or any(_covers(period, ask.span) for period in periods):
            always.append(name)
        else:
            sometimes += [(name, period) for period in periods if _touches(period, ask.span)]
    conditions = [subscriber_condition(query, always)] if always or not sometimes else []
    for name, period in sometimes:
        subscriber = subscriber_condition(query, [name])
        conditions.append(f"({subscriber} AND {_within(query, period, source)})")
    return f"({' OR '.join(conditions)})"


def _covers(period: Period, span: Span) -> bool:
    return period[0] <= span.start and span.end <= period[1]


def _touches(period: Period, span: Span) -> bool:
    return period[0] < span.end and span.start < period[1]


def _within(query: Query, period: Period, source: Rollup | None) -> str:
    """Return the condition for records that begin in `period`, or steps that lie in it."""
    if source is None:
        start, end = (query.bind(moment, "Int64") for moment in period)
        return (
            f"s.start_time >= fromUnixTimestamp64Nano({start}, 'UTC')"
            f" AND s.start_time < fromUnixTimestamp64Nano({end}, 'UTC')"
        )
    start, end = (query.bind(moment // NS, "UInt64") for moment in period)
    seconds = "toUnixTimestamp(s.time)"
    later = " + 1" if period[0] % NS else ""
    return f"{seconds} >= {start}{later} AND {seconds} + {source.step_s:d} <= {end}"


def subscriber_condition(query: Query, ids: Iterable[str]) -> str:
    """Return the condition for subscribers, in the form that the sorting key serves."""
    bound = ", ".join(f"unhex({query.bind(value, 'String')})" for value in ids)
    if not bound:
        return "0"
    return f"s.subscriber_id IN ({bound})"


def key(name: str, source: Rollup | None) -> str:
    """Return the expression of a dimension in an answer: text, empty where unknown."""
    if name == "subscriber_id":
        return "lower(hex(s.subscriber_id))"
    return dimension(name, raw=source is None)


def bucket(step_s: int, source: Rollup | None) -> str:
    """Return the expression of a step's start in Unix seconds. Steps count from the epoch."""
    if source is None:
        return f"intDiv(toUnixTimestamp64Nano(s.start_time), {step_s * NS:d}) * {step_s:d}"
    return f"intDiv(toUnixTimestamp(s.time), {step_s:d}) * {step_s:d}"


def values(aggregates: Iterable[Aggregate], source: Rollup | None) -> list[str]:
    """Return the select list of the aggregates."""
    return [
        f"{entry.read_raw if source is None else entry.read} AS {entry.name}"
        for entry in aggregates
    ]


def statement(
    ask: Ask,
    source: Rollup | None,
    query: Query,
    aggregates: Iterable[Aggregate],
    tail: str = "",
) -> str:
    """Return the statement that asks for `aggregates`, split as `ask` says.

    Keys come as `key_0`, `key_1`, ..., the step's start as `bucket`.
    """
    keys = [f"{key(name, source)} AS key_{number}" for number, name in enumerate(ask.keys)]
    if ask.step_s is not None:
        keys.append(f"{bucket(ask.step_s, source)} AS bucket")
    names = [entry.rpartition(" AS ")[2] for entry in keys]
    table = source.name if source is not None else "sessions"
    group = f" GROUP BY {', '.join(names)}" if names else ""
    return (
        f"SELECT {', '.join([*keys, *values(aggregates, source)])} FROM {table} AS s"
        f" WHERE {' AND '.join(query.where)}{group} {tail}"
    )
