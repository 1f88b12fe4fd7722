"""Schema: from nothing to what the column table says, and never back."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from collector.errors import StoreError
from collector.service.consistency import Thinning, check
from collector.store import Store, StoreOptions
from collector.store.client import connect
from collector.store.links import OPEN_NS
from collector.store.migrations import MIGRATIONS, migrate
from collector.store.tables import (
    LINK_COLUMNS,
    ROLLUPS,
    SESSION_COLUMNS,
    SMALL_TABLES,
    Layout,
    rollup_columns,
    table_statements,
)
from probe.record.schema import COLUMNS

NOW = 1_795_000_000 * 10**9  # November 2026


async def _columns(store: Store, table: str) -> dict[str, str]:
    rows = await store.fetch(
        "SELECT name, type FROM system.columns WHERE table = {t:String}"
        " AND database = 'edgeqoe' ORDER BY position",
        {"t": table},
    )
    return {row["name"]: row["type"] for row in rows}


async def test_an_empty_store_becomes_what_the_column_table_says(store):
    assert await _columns(store, "sessions") == SESSION_COLUMNS
    assert {column.name for column in COLUMNS} <= SESSION_COLUMNS.keys()
    for name, columns, _ in SMALL_TABLES:
        assert await _columns(store, name) == columns
    for rollup in ROLLUPS:
        assert await _columns(store, rollup.name) == rollup_columns(rollup)


async def test_each_migration_is_recorded_once(store, options):
    client = connect(options, {})
    assert migrate(client, Layout()) == []
    client.close()
    rows = await store.fetch("SELECT number, name FROM migrations ORDER BY number", {})
    assert rows == [{"number": m.number, "name": m.name} for m in MIGRATIONS]


async def test_an_interrupted_migration_is_completed(options):
    client = connect(options, {}, create=True)
    for statement in table_statements(Layout())[:5]:
        client.command(statement)
    client.close()
    opened = Store.open(options)
    assert await _columns(opened, "failure_minute")
    await opened.close()


def with_table_of_migrations(options: StoreOptions) -> Client:
    """Begin a store as every program did."""
    client = connect(options, {}, create=True)
    client.command(
        "CREATE TABLE migrations (number UInt32, name String,"
        " applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'))"
        " ENGINE = MergeTree ORDER BY number"
    )
    return client


def made_by_the_first_program(options: StoreOptions) -> None:
    """Make a store as the program did that had migration 1 only, with a record in it."""
    client = with_table_of_migrations(options)
    for statement in table_statements(Layout()):
        older = without_new_columns(statement)
        client.command(re.sub(r"\n +`server_name_source` [^\n]+", "", older))
    client.command("INSERT INTO migrations (number, name) VALUES (1, 'initial')")
    client.command("INSERT INTO sessions (session_id, server_name) VALUES (7, 'old.example')")
    client.close()


async def test_an_old_store_gets_the_source_of_names_and_keeps_its_records(
    options, make_row, make_batch
):
    made_by_the_first_program(options)
    store = Store.open(options)
    assert await _columns(store, "sessions") == SESSION_COLUMNS
    named = make_row(1, NOW, server_name="new.example", server_name_source="dns")
    await store.insert([make_batch([named])], "a-1")
    rows = await store.fetch(
        "SELECT server_name, server_name_source FROM sessions ORDER BY server_name", {}
    )
    await store.close()
    assert [(row["server_name"], row["server_name_source"]) for row in rows] == [
        ("new.example", "dns"),
        ("old.example", None),
    ]


# What migration 4 brought, and what 3 did: a store of the released program lacks both.
OF_TUNNELS = ("qfi", *(column.name for column in COLUMNS if column.group == "tunnel"))
NEW_SUMS = ("attributable_bytes", "subscriber_bytes", "cell_bytes", "ran_node_bytes")
NEW_COLUMNS = (*NEW_SUMS, "since_ns", "until_ns", *OF_TUNNELS)


def without_new_columns(statement: str, columns: tuple[str, ...] = NEW_COLUMNS) -> str:
    """Return `statement` without the lines of the new columns, of which none is the last."""
    for name in columns:
        statement = re.sub(rf"\n +`{name}` [^\n]+", "", statement)
        statement = re.sub(rf"\n +[^\n]+ AS {name},(?=\n)", "", statement)
    return statement


def made_by_the_released_program(options: StoreOptions) -> None:
    """Make a store as the released program did, with a record and two links in it."""
    client = with_table_of_migrations(options)
    for statement in table_statements(Layout()):
        older = without_new_columns(statement)
        assert not any(name in older for name in NEW_COLUMNS), older
        client.command(older)
    client.command(
        "INSERT INTO migrations (number, name) VALUES (1, 'initial'), (2, 'server_name_source')"
    )
    client.command(
        "INSERT INTO sessions (session_id, cell_id, bytes_up, start_time, received_at)"
        " VALUES (7, 'old', 100, '2026-11-18 10:00:00', '2026-11-18 10:00:01')"
    )
    client.command(
        "INSERT INTO links (from_id, to_id, entry) VALUES"
        """ ('a', 'b', '{"since":5,"until":9}'), ('a', 'c', '{"since":5}')"""
    )
    client.close()


async def test_a_released_store_counts_attributed_bytes_from_now_on(options, make_row, make_batch):
    made_by_the_released_program(options)
    store = Store.open(options)
    for rollup in ROLLUPS:
        assert await _columns(store, rollup.name) == rollup_columns(rollup)
    named = make_row(1, NOW, cell_id="new", subscriber_id="a" * 32, subscriber_source="map")
    await store.insert([make_batch([named])], "a-1")
    for table in ("cell_minute", "cell_hour"):
        rows = await store.fetch(
            "SELECT cell_id, sum(bytes_up) AS up, sum(attributable_bytes) AS base,"
            " sum(subscriber_bytes) AS subscriber, sum(cell_bytes) AS cell"
            f" FROM {table} GROUP BY cell_id ORDER BY cell_id",
            {},
        )
        assert [tuple(row.values()) for row in rows] == [
            ("new", 101, 1102, 1102, 1102),
            ("old", 100, 0, 0, 0),
        ]
    assert await check(store, Thinning(timedelta(days=30), None)) == []
    await store.close()


def made_before_tunnels_told(options: StoreOptions) -> None:
    """Make a store as the program did that had migrations 1 to 3, with a record in it."""
    client = with_table_of_migrations(options)
    for statement in table_statements(Layout()):
        older = without_new_columns(statement, OF_TUNNELS)
        assert not any(name in older for name in OF_TUNNELS), older
        client.command(older)
    client.command(
        "INSERT INTO migrations (number, name) VALUES (1, 'initial'), (2, 'server_name_source'),"
        " (3, 'attribution')"
    )
    client.command(
        "INSERT INTO sessions (session_id, cell_id, bytes_up, start_time, received_at)"
        " VALUES (7, 'old', 100, '2026-11-18 10:00:00', '2026-11-18 10:00:01')"
    )
    client.close()


async def test_an_old_store_counts_what_tunnels_lost_from_now_on(options, make_row, make_batch):
    made_before_tunnels_told(options)
    store = Store.open(options)
    assert await _columns(store, "sessions") == SESSION_COLUMNS
    for rollup in ROLLUPS:
        assert await _columns(store, rollup.name) == rollup_columns(rollup)
    told = make_row(
        1,
        NOW,
        cell_id="new",
        qfi=9,
        tunnel_packets_up=90,
        tunnel_missing_up=10,
        ran_delay_up_histogram={"7": 3},
    )
    await store.insert([make_batch([told])], "a-1")
    for table in ("cell_minute", "cell_hour"):
        rows = await store.fetch(
            "SELECT cell_id, sum(tunnel_packets_up) AS packets, sum(tunnel_missing_up) AS missing,"
            f" sumMap(ran_delay_up_histogram) AS delays FROM {table} GROUP BY cell_id"
            " ORDER BY cell_id",
            {},
        )
        assert [tuple(row.values()) for row in rows] == [("new", 90, 10, {7: 3}), ("old", 0, 0, {})]
    assert await check(store, Thinning(timedelta(days=30), None)) == []
    await store.close()


async def test_links_of_a_released_store_get_their_times(options):
    made_by_the_released_program(options)
    store = Store.open(options)
    assert await _columns(store, "links") == LINK_COLUMNS
    rows = await store.fetch("SELECT to_id, since_ns, until_ns FROM links ORDER BY to_id", {})
    await store.close()
    assert [tuple(row.values()) for row in rows] == [("b", 5, 9), ("c", 5, OPEN_NS)]


async def test_a_store_of_a_newer_program_is_refused(options):
    await Store.open(options).close()
    client = connect(options, {})
    client.command("INSERT INTO migrations (number, name) VALUES (999, 'later')")
    client.close()
    with pytest.raises(StoreError, match="newer program"):
        Store.open(options)


def test_numbers_ascend_from_one():
    assert [m.number for m in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


def test_a_path_that_cannot_be_a_directory_is_one_clear_line(tmp_path: Path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(StoreError, match=r"store\.path .*file"):
        Store.open(StoreOptions(path=path / "store"))


async def test_a_second_path_in_one_process_is_refused(store, tmp_path: Path):
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(StoreOptions(path=tmp_path / "another"))


def test_a_server_that_does_not_answer_is_one_clear_line():
    options = StoreOptions(engine="clickhouse", urls=("http://127.0.0.1:1",))
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        Store.open(options)
    assert "\n" not in str(caught.value)


def test_on_a_cluster_tables_are_replicated():
    for statement in table_statements(Layout("mine")):
        assert " ON CLUSTER `mine`" in statement
        if statement.startswith("CREATE TABLE"):
            assert "ENGINE = Replicated" in statement
            assert " replicated_deduplication_window = " in statement
