"""Where the data is, and the range of a question that does not say."""

from collector.errors import ProblemError
from collector.query.parameters import Question
from collector.query.plan import Query, subscriber_condition
from collector.query.times import HOUR_NS, MINUTE_NS, NS, Span, parse_time
from collector.store import Store
from collector.store.links import Period, Person

_EVERYTHING = (
    "SELECT count() AS n, min(toUnixTimestamp(time)) AS a, max(toUnixTimestamp(time)) AS b"
)


# A damaged time must not carry the default view away: what begins later than a day after the last
# arrival has not begun.
_BELIEVED = "time <= toDateTime((SELECT max(received_at) FROM batches), 'UTC') + INTERVAL 1 DAY"


async def data_span(store: Store) -> Span | None:
    """Return the whole minutes that hold records, None if there is none.

    Times that lie more than a day after the last arrival count only where there is no other.
    """
    for condition in (_BELIEVED, "1"):
        row = (await store.fetch(f"{_EVERYTHING} FROM cell_minute WHERE {condition}", {}))[0]
        if row["n"]:
            return Span(row["a"] * NS, row["b"] * NS + MINUTE_NS)
    return None


async def subscriber_span(store: Store, whose: Person) -> Span | None:
    """Return the whole hours that hold records of a subscriber, None if there is none."""
    query = Query()
    condition = " OR ".join(
        f"({subscriber_condition(query, [name])} AND {_touched(query, period)})"
        for name, periods in whose.periods.items()
        for period in periods
    )
    sql = f"{_EVERYTHING} FROM subscriber_hour AS s WHERE {condition}"
    row = (await store.fetch(sql, query.parameters))[0]
    return Span(row["a"] * NS, row["b"] * NS + HOUR_NS) if row["n"] else None


def _touched(query: Query, period: Period) -> str:
    """Return the condition of hours that a period touches."""
    start, end = (query.bind(moment, "Int64") for moment in period)
    begin = "toInt64(toUnixTimestamp(s.time)) * 1000000000"
    return f"{begin} + {HOUR_NS:d} > {start} AND {begin} < {end}"


def asked_span(question: Question, held: Span | None, now_ns: int) -> Span:
    """Return the whole minutes that are asked about: by default the last hour that holds data."""
    if question.from_ is None and question.to is None:
        end = held.end if held is not None else now_ns
        start = max(0, end - HOUR_NS)
    else:
        end = now_ns if question.to is None else parse_time(question.to, "to", now_ns)
        start = (
            max(0, end - HOUR_NS)
            if question.from_ is None
            else parse_time(question.from_, "from", now_ns)
        )
    if start >= end:
        raise ProblemError(400, "Bad parameter", "from must be earlier than to")
    return Span(start, end).widened(60)
