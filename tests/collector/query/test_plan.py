"""Questions reach the table that serves them, by its sorting key."""

import pytest

from collector.query.plan import Ask, conditions, source_of, statement
from collector.query.times import NS, Span
from collector.store import Store, StoreOptions
from collector.store.aggregates import SESSIONS

HOUR, MINUTE = Span(0, 3600 * NS), Span(0, 60 * NS)


@pytest.mark.parametrize(
    ("ask", "table"),
    [
        (Ask(HOUR, {}), "cell_hour"),
        (Ask(MINUTE, {}), "cell_minute"),
        (Ask(HOUR, {}, ("cell_id",), step_s=60), "cell_minute"),
        (Ask(HOUR, {}, ("service",)), "service_minute"),
        (Ask(HOUR, {"service": ("a",)}, ("cell_id",)), None),
        (Ask(HOUR, {"subscriber_id": ("a",)}), "subscriber_hour"),
        (Ask(MINUTE, {"subscriber_id": ("a",)}), None),
        (Ask(HOUR, {"apn": ("a",)}), None),
        (Ask(Span(0, NS), {}), None),
    ],
)
def test_the_smallest_table_that_knows_the_answer_is_asked(ask, table):
    source = source_of(ask)
    assert (source.name if source else None) == table


@pytest.mark.parametrize(
    ("ask", "keys"),
    [
        (Ask(MINUTE, {"subscriber_id": ("0" * 32,)}), {"subscriber_id", "start_time"}),
        (Ask(HOUR, {"subscriber_id": ("0" * 32,)}), {"subscriber_id", "time"}),
        (Ask(MINUTE, {"cell_id": ("a",)}), {"toStartOfHour(time)", "cell_id", "time"}),
        (Ask(MINUTE, {"service": ("a",)}), {"toStartOfHour(time)", "service", "time"}),
    ],
)
async def test_the_sorting_key_serves(directory, ask, keys):
    store = Store.open(StoreOptions(path=directory))
    query = conditions(ask, source := source_of(ask))
    sql = statement(ask, source, query, (SESSIONS,))
    rows = await store.fetch(f"EXPLAIN indexes = 1 {sql}", query.parameters)
    await store.close()
    lines = [row["explain"].strip() for row in rows]
    index = lines[lines.index("PrimaryKey") + 2 :]
    end = next(number for number, line in enumerate(index) if line.startswith("Condition"))
    assert set(index[:end]) == keys
