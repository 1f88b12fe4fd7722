"""What goes in is kept: every field, once, whenever it happened, in whatever order it came."""

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from collector.errors import StoreError
from collector.store import Store, StoreOptions, refusal
from collector.store.arrow import DAYS_PER_INSERT, LAST_TIME_NS, inserts, sessions_table
from collector.store.client import INSERT_SETTINGS, connect
from collector.store.tables import ROLLUPS, Layout, view_statement
from probe.record import codec

NOW = 1_794_999_000 * 10**9
IN_2009 = 1_230_768_000 * 10**9  # 2009-01-01
DAY = 86_400 * 10**9
TRAFFIC = [rollup.name for rollup in ROLLUPS if rollup.name != "failure_minute"]


async def test_the_same_batch_with_the_same_token_counts_once(store, make_row, make_batch, count):
    entry = make_batch([make_row(n, NOW, subscriber_id=f"{n:032x}") for n in range(50)])
    for _ in range(3):
        await store.insert([entry], "a-1")
    assert await count("count()") == 50
    for rollup in TRAFFIC:
        assert await count("sum(sessions)", rollup) == 50
        assert await count("sum(bytes_up)", rollup) == sum(100 + n for n in range(50))
    assert await count("count()", "batches") == 1


async def test_another_token_counts_again(store, make_row, make_batch, count):
    entry = make_batch([make_row(1, NOW)])
    await store.insert([entry], "a-1")
    await store.insert([entry], "a-2")
    assert await count("count()") == 2


async def test_a_rollup_that_was_cut_off_is_completed_by_the_same_insert_again(
    store, options, make_row, make_batch, count
):
    """As after a crash between a table and its views: what is there stays, what lacks is added."""
    rollup = next(entry for entry in ROLLUPS if entry.name == "cell_minute")
    writer = connect(options, INSERT_SETTINGS)
    writer.command("DROP VIEW cell_minute_view")
    entry = make_batch([make_row(n, NOW, cell_id="001-01-0000001") for n in range(20)])
    await store.insert([entry], "a-1")
    assert await count("sum(sessions)", "cell_minute") == 0
    writer.command(view_statement(Layout(), rollup))
    writer.close()
    await store.insert([entry], "a-1")
    assert await count("count()") == 20
    for name in TRAFFIC:
        assert await count("sum(sessions)", name) == 20


async def test_a_capture_of_2009_is_stored_found_and_kept(
    store, options, make_row, make_batch, count
):
    await store.insert([make_batch([make_row(n, IN_2009 + n * 10**9) for n in range(10)])], "a")
    await store.insert([make_batch([make_row(11, NOW)], sequence=2)], "b")
    writer = connect(options, {})
    for table in ("sessions", *TRAFFIC):
        writer.command(f"OPTIMIZE TABLE {table} FINAL")
    writer.close()
    assert await count("countIf(toYear(start_time) = 2009)") == 10
    assert await count("sumIf(sessions, toYear(time) = 2009)", "cell_hour") == 10


async def test_retention_counts_from_arrival_and_not_from_the_event(
    store, options, make_row, make_batch, count
):
    """Rows received long ago go; rows of 2009 received now stay."""
    await store.insert([make_batch([make_row(1, NOW)], received_at=1_500_000_000 * 10**9)], "old")
    await store.insert(
        [make_batch([make_row(2, IN_2009)], 2, received_at=2_000_000_000 * 10**9)], "new"
    )
    await store.close()
    week = 7 * 86_400
    kept = Store.open(replace(options, raw_retention_s=week, rollup_retention_s=week))
    writer = connect(options, {})
    for table in ("sessions", "cell_minute", "cell_hour"):
        writer.command(f"OPTIMIZE TABLE {table} FINAL")
    writer.close()
    rows = await kept.fetch("SELECT toYear(start_time) AS year FROM sessions", {})
    hours = await kept.fetch("SELECT toYear(time) AS year FROM cell_hour", {})
    await kept.close()
    assert [entry["year"] for entry in rows] == [2009]
    assert [entry["year"] for entry in hours] == [2009]


async def test_retention_can_be_taken_back(options):
    for seconds in (86_400, 3600, None, None):
        await Store.open(replace(options, raw_retention_s=seconds)).close()
    reader = Store.open(options)
    engines = await reader.fetch(
        "SELECT engine_full AS text FROM system.tables WHERE name = 'sessions'", {}
    )
    await reader.close()
    assert " TTL " not in engines[0]["text"]


async def test_the_order_of_insertion_does_not_matter(store, options, make_row, make_batch):
    rng = random.Random(4)
    entries = [
        make_batch(
            [
                make_row(
                    100 * sequence + n,
                    NOW + rng.randrange(7200) * 10**9,
                    cell_id=f"001-01-{rng.randrange(3):07X}",
                    subscriber_id=f"{rng.randrange(5):032x}",
                    rtt_client_histogram={str(rng.randrange(256)): rng.randrange(1, 16)},
                    rtt_client_samples=3,
                    outcome=rng.choice(["ok", "failed", None]),
                )
                for n in range(40)
            ],
            sequence,
        )
        for sequence in range(6)
    ]
    sums = (
        "SELECT cell_id, sum(bytes_down) AS bytes, sum(failures) AS failures,"
        " uniqMerge(subscribers) AS subscribers, sumMap(rtt_client_histogram) AS histogram,"
        " sumMap(causes) AS causes FROM cell_hour GROUP BY cell_id ORDER BY cell_id"
    )
    for entry in entries:
        await store.insert([entry], f"one-{entry.batch.sequence}")
    first = await store.fetch(sums, {})
    await store.close()
    other = Store.open(replace(options, path=options.path.with_name("other")))
    rng.shuffle(entries)
    await other.insert(entries[:4], "many-1")
    await other.insert(entries[4:], "many-2")
    second = await other.fetch(sums, {})
    await other.close()
    assert first == second
    assert sum(cell["bytes"] for cell in first) > 0


async def test_records_of_more_than_100_days_go_in_by_parts(store, make_row, make_batch, count):
    entry = make_batch([make_row(n, IN_2009 + n * DAY) for n in range(120)])
    for _ in range(2):
        await store.insert([entry], "a")
    assert await count("count()") == 120
    assert await count("uniqExact(toDate(start_time))") == 120
    assert await count("sum(sessions)", "cell_minute") == 120


def test_no_part_touches_more_than_90_days(make_row, make_batch):
    rng = random.Random(1)
    rows = [make_row(n, rng.randrange(400) * DAY + rng.randrange(DAY)) for n in range(500)]
    table = sessions_table([make_batch(rows)], lambda *_: (None, "other"))
    parts = list(inserts(table))
    assert sum(part.num_rows for part in parts) == 500
    for part in parts:
        days = {moment.value // DAY for moment in part.column("start_time").to_pandas()}
        assert len(days) <= DAYS_PER_INSERT


def test_a_batch_of_more_than_1000_days_is_to_be_refused(make_row, make_batch):
    assert refusal(make_batch([make_row(n, n * DAY) for n in range(1000)]).batch) is None
    assert "1001 days" in (
        refusal(make_batch([make_row(n, n * DAY) for n in range(1001)]).batch) or ""
    )


@pytest.mark.parametrize("time_ns", [0, 4_102_444_800 * 10**9, LAST_TIME_NS])
async def test_the_first_and_the_last_day_are_stored(store, make_row, make_batch, count, time_ns):
    await store.insert([make_batch([make_row(1, time_ns)])], "a")
    assert await count("toUnixTimestamp64Nano(start_time)") == time_ns
    assert await count("toUnixTimestamp(time)", "cell_minute") == time_ns // 10**9 // 60 * 60


async def test_a_time_that_no_clock_shows_is_stored_as_the_last_one(
    store, make_row, make_batch, count
):
    entry = make_batch([make_row(1, NOW)])
    column = replace(entry.batch.columns["start_time"], data=b"\xff" * 8)
    hostile = replace(entry.batch, columns={**entry.batch.columns, "start_time": column})
    await store.insert([replace(entry, batch=hostile)], "a")
    assert await count("toUnixTimestamp64Nano(start_time)") == LAST_TIME_NS
    assert await count("sum(sessions)", "cell_minute") == 1


async def test_a_dictionary_that_holds_a_value_twice_is_stored(store, make_row, make_batch, count):
    entry = make_batch([make_row(n, NOW, cell_id=f"cell-{n}", apn=f"apn-{n}") for n in range(3)])
    columns = dict(entry.batch.columns)
    columns["cell_id"] = replace(columns["cell_id"], values=["a", "b", "a"])
    columns["apn"] = replace(columns["apn"], values=["x", "x", "x"])
    await store.insert([replace(entry, batch=replace(entry.batch, columns=columns))], "a")
    assert await count("arraySort(groupArray(cell_id))") == ["a", "a", "b"]
    assert await count("groupUniqArray(apn)") == ["x"]


async def test_bytes_of_a_null_histogram_are_not_read(store, make_row, make_batch, count):
    rows = [make_row(n, NOW, rtt_client_histogram={"7": 2}) for n in range(3)]
    entry = make_batch(rows)
    column = replace(entry.batch.columns["rtt_client_histogram"], nulls=bytes([0b010]))
    columns = {**entry.batch.columns, "rtt_client_histogram": column}
    await store.insert([replace(entry, batch=replace(entry.batch, columns=columns))], "a")
    assert await count("sumMap(rtt_client_histogram)", "cell_minute") == {7: 4}


async def test_what_is_no_number_is_stored_as_null(store, make_row, make_batch, count):
    rows = [make_row(n, NOW, video_confidence=value) for n, value in enumerate([0.5, 0.25])]
    rows += [make_row(5, NOW, video_confidence=float("nan"))]
    await store.insert([make_batch(rows)], "a")
    assert await count("sum(video_confidence)") == 0.75
    assert await count("countIf(video_confidence IS NULL)") == 1


async def test_a_batch_that_cannot_be_written_down_leaves_nothing(
    store, make_row, make_batch, count
):
    entry = make_batch([make_row(1, NOW)])
    hostile = replace(entry.batch, health={b"x": 1})  # no key of JSON, refused when decoded
    with pytest.raises((StoreError, TypeError)):
        await store.insert([replace(entry, batch=hostile)], "a")
    assert await count("count()") == 0


async def test_an_empty_batch_leaves_its_head(store, make_batch, count):
    await store.insert([make_batch([])], "a")
    assert await count("count()") == 0
    assert await count("sequence", "batches") == 1


async def test_head_ledger_links_and_paths_are_kept(store, make_row, make_batch):
    one, two = "00" * 16, "11" * 16
    entry = make_batch(
        [make_row(1, NOW)],
        health={"cpu": 0.5},
        gaps=[{"from": 3, "to": 4}],
        ledger=[
            {"interface": "eth1", "received": 10, "undecodable": {"short": 2, "bad": "x"}},
            {"interface": "eth2", "received": -1},
        ],
        links=[{"from": one, "to": bytes.fromhex(two), "since": 5}, {"from": 7}],
        paths=[{"gateway": "192.0.2.1"}],
    )
    await store.insert([entry], "a")
    ledger = await store.fetch(
        "SELECT interface, counter, reason, packets FROM ledger ORDER BY ALL", {}
    )
    assert [tuple(entry.values()) for entry in ledger] == [
        ("eth1", "received", "", 10),
        ("eth1", "undecodable", "short", 2),
    ]
    links = await store.fetch("SELECT from_id, to_id, entry FROM links ORDER BY from_id", {})
    assert links[0] == {"from_id": "", "to_id": "", "entry": '{"from":7}'}
    assert (links[1]["from_id"], links[1]["to_id"]) == (one, two)
    head = (await store.fetch("SELECT health, gaps, rows FROM batches", {}))[0]
    assert head == {"health": '{"cpu":0.5}', "gaps": '[{"from":3,"to":4}]', "rows": 1}


async def test_services_are_named_once_for_each_pair(store, make_row, make_batch, count):
    names = ["www.example.com", "other.example", None]
    rows = [make_row(n, NOW, server_name=names[n % 3], app_protocol="tls") for n in range(9)]
    rows += [make_row(20, NOW)]
    await store.insert([make_batch(rows)], "a")
    assert await count("countIf(service = 'Example' AND service_class = 'web')") == 3
    assert await count("countIf(service = '' AND service_class = 'web')") == 6
    assert await count("countIf(service_class = 'other')") == 1


async def test_questions_do_not_wait_behind_inserts(store, make_row, make_batch):
    entries = [
        make_batch([make_row(n, NOW) for n in range(2000)], sequence) for sequence in range(8)
    ]
    inserting = asyncio.gather(*(store.insert([entry], f"t{n}") for n, entry in enumerate(entries)))
    await store.fetch("SELECT 1 AS one", {})
    assert not inserting.done()
    await inserting


async def test_too_many_waiting_calls_are_refused(options):
    small = Store.open(replace(options, waiting_limit=1, query_threads=1))
    results = await asyncio.gather(
        *(small.fetch("SELECT sleep(0.3) AS zero", {}) for _ in range(5)), return_exceptions=True
    )
    await small.close()
    assert sum(isinstance(result, StoreError) for result in results) == 3
    assert sum(isinstance(result, list) for result in results) == 2


async def test_a_question_cannot_write(store):
    with pytest.raises(StoreError, match=r"readonly|READONLY"):
        await store.fetch("INSERT INTO migrations (number, name) VALUES (9, 'x')", {})


async def test_a_question_that_takes_too_long_is_ended(options):
    hasty = Store.open(replace(options, query_timeout_s=1))
    with pytest.raises(StoreError, match=r"(?i)timeout|exceeded"):
        await hasty.fetch(
            "SELECT count() FROM numbers(100000000000) WHERE NOT ignore(sin(number))", {}
        )
    await hasty.close()


async def test_a_parameter_is_a_value_whatever_it_holds(store):
    text = "'; DROP TABLE sessions; --\\\t\n\"{p:String}"
    rows = await store.fetch("SELECT {p:String} AS text", {"p": text})
    assert rows == [{"text": text}]


async def test_a_closed_store_says_so(options):
    closed = Store.open(options)
    await closed.close()
    with pytest.raises(StoreError, match="closed"):
        await closed.fetch("SELECT 1", {})


async def test_check_finds_nothing_wrong_in_a_sound_store(store, make_row, make_batch):
    await store.insert([make_batch([make_row(1, NOW)])], "a")
    assert await store.check() == []


async def test_check_names_a_part_whose_bytes_were_changed(store, options, make_row, make_batch):
    await store.insert([make_batch([make_row(n, NOW) for n in range(500)])], "a")
    (data,) = _parts(options)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 0xFF
    data.write_bytes(content)
    damage = await store.check()
    assert [line.partition(":")[0] for line in damage] == ["sessions"]


def _parts(options: StoreOptions) -> list[Path]:
    """Return the data files of the table of raw records."""
    found = options.path.rglob("data.bin")
    return [
        path for path in found if b"flow_start_time" in (path.parent / "columns.txt").read_bytes()
    ]


def test_batches_of_several_probes_make_one_table(make_row, make_batch):
    wide = make_batch([make_row(1, NOW, apn="internet")])
    narrow = make_batch([make_row(2, NOW)], 2)
    table = sessions_table([wide, narrow], lambda *_: (None, "other"))
    assert table.column("apn").to_pylist() == ["internet", None]
    assert table.column("sequence").to_pylist() == [1, 2]
    assert codec.MAX_ROWS > table.num_rows == 2
