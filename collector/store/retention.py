"""Retention: rows are dropped some time after they were received, whenever they happened."""

from typing import Any

from collector.store.options import StoreOptions
from collector.store.tables import Layout, retained_tables


def apply_retention(client: Any, layout: Layout, options: StoreOptions) -> None:
    """Give each table the retention of `options`, leaving alone those that have it already."""
    engines = dict(
        client.query(
            "SELECT name, engine_full FROM system.tables WHERE database = {database:String}",
            parameters={"database": options.database},
        ).result_rows
    )
    for table, raw in retained_tables():
        seconds = options.raw_retention_s if raw else options.rollup_retention_s
        statement = _statement(table, engines[table], seconds, layout)
        if statement:
            client.command(statement)


def _statement(table: str, engine: str, seconds: int | None, layout: Layout) -> str | None:
    if seconds is None:
        remove = f"ALTER TABLE {table}{layout.on_cluster} REMOVE TTL"
        return remove if " TTL " in engine else None
    rule = f"toDateTime(received_at) + toIntervalSecond({seconds:d})"
    if f" TTL {rule}" in engine:
        return None
    return f"ALTER TABLE {table}{layout.on_cluster} MODIFY TTL {rule}"
