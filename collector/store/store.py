"""The store: batches go in, durable and counted once; questions in SQL come out as rows."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from collector.errors import StoreError
from collector.store.arrow import Classify, StoredBatch, inserts, sessions_table, to_stream
from collector.store.client import (
    Client,
    Connections,
    connect,
    insert_settings,
    query_settings,
    translated,
)
from collector.store.erasure import erase_person
from collector.store.lane import Lane
from collector.store.links import Person
from collector.store.migrations import migrate
from collector.store.options import StoreOptions
from collector.store.retention import apply_retention
from collector.store.small import small_rows, to_lines
from collector.store.tables import ROLLUPS, SMALL_TABLES, Layout


def unclassified(server_name: str | None, app_protocol: str | None) -> tuple[str | None, str]:
    """Name no service: what a store that knows no services says of every record."""
    return None, "other"


class Store:
    """One open store. Inserts and questions run in threads of their own, never in each other's."""

    def __init__(self, options: StoreOptions, classify: Classify, anchor: Client) -> None:
        self._layout = Layout(options.cluster)
        self._classify = classify
        self._anchor = anchor  # holds the embedded engine, and its path, until `close`
        self._inserts = Lane("insert", 1, options.waiting_limit)
        self._queries = Lane("query", options.query_threads, options.waiting_limit)
        self._writers = Connections(partial(connect, options, insert_settings(options)))
        self._readers = Connections(partial(connect, options, query_settings(options)))

    @classmethod
    def open(cls, options: StoreOptions, classify: Classify = unclassified) -> "Store":
        """Open the store, made and migrated as needed. Blocks. Raises `StoreError`.

        `classify` names the service of each record that is inserted.
        """
        _prepare_path(options)
        layout = Layout(options.cluster)
        anchor = connect(options, {}, create=True)
        try:
            with translated("the store cannot be migrated"):
                migrate(anchor, layout)
                apply_retention(anchor, layout, options)
        except StoreError:
            anchor.close()
            raise
        return cls(options, classify, anchor)

    async def insert(self, entries: Sequence[StoredBatch], token: str) -> None:
        """Store the batches: once, however often the same entries come with the same `token`.

        When it returns, records and rollups are on disk. After a `StoreError` some may be: the
        same call again completes them. The same token with other entries stores nothing.
        """
        await self._inserts.run(lambda: self._writers.run(
            "the store cannot be written", partial(self._write, entries, token)
        ))  # fmt: skip

    def _write(self, entries: Sequence[StoredBatch], token: str, client: Client) -> None:
        # All is built before anything is inserted: what cannot be built leaves nothing behind.
        small = {name: to_lines(rows) for name, rows in small_rows(entries).items() if rows}
        table = sessions_table(entries, self._classify)
        for number, part in enumerate(inserts(table) if table is not None else ()):
            client.raw_insert(
                "sessions",
                column_names=part.column_names,
                insert_block=to_stream(part),
                fmt="ArrowStream",
                settings=_token(f"{token}:{number}"),
            )
        for name, lines in small.items():
            settings = _token(f"{token}:{name}")
            client.raw_insert(name, insert_block=lines, fmt="JSONEachRow", settings=settings)

    async def fetch(self, sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the rows of a question; `{name:Type}` in `sql` stands for a bound parameter."""
        return await self._queries.run(lambda: self._readers.run(
            "the store cannot answer", partial(_fetch, sql, parameters)
        ))  # fmt: skip

    async def erase_person(self, person: Person) -> None:
        """Delete every row of the person; what is asked afterwards does not see them."""
        erase = partial(erase_person, layout=self._layout, person=person)
        what = "the subscriber cannot be erased"
        await self._inserts.run(lambda: self._writers.run(what, erase))

    async def check(self) -> list[str]:
        """Return a line for each table whose files are damaged; reads everything."""
        return await self._inserts.run(lambda: self._writers.run("the check failed", _damage))

    async def close(self) -> None:
        """Finish what was asked for, then let go of the engine."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for lane in (self._inserts, self._queries):
            lane.close()
        for connections in (self._writers, self._readers):
            connections.close()
        self._anchor.close()


def _prepare_path(options: StoreOptions) -> None:
    if options.engine != "chdb":
        return
    if options.path is None:
        raise StoreError("store.path is missing")
    try:
        options.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"store.path {options.path}: {error.strerror or error}") from error


def _token(token: str) -> dict[str, str]:
    return {"insert_deduplication_token": token}


def _fetch(sql: str, parameters: Mapping[str, Any], client: Client) -> list[dict[str, Any]]:
    return list(client.query(sql, parameters=dict(parameters)).named_results())


def _damage(client: Client) -> list[str]:
    tables = ["sessions", *(name for name, _, _ in SMALL_TABLES), *(r.name for r in ROLLUPS)]
    return [line for table in tables for line in _damaged_parts(client, table)]


def _damaged_parts(client: Client, table: str) -> list[str]:
    sql = f"CHECK TABLE {table} SETTINGS check_query_single_value_result = 0"
    parts = [json.loads(line) for line in client.raw_query(sql, fmt="JSONEachRow").splitlines()]
    return [
        f"{table}: part {part['part_path']}: {part['message']}"
        for part in parts
        if not part["is_passed"]
    ]
