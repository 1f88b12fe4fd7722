"""How the store is reached and what it may use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class StoreOptions:
    """Where the store is (`path` for chDB, the other address fields for ClickHouse) and its limits.

    Raw records and rollups are kept for ever unless a retention is given; it counts from the time
    a record was received, never from its event time, so that old captures are kept as well.
    """

    engine: Literal["chdb", "clickhouse"] = "chdb"
    path: Path | None = None  # directory of the embedded engine; one process at a time
    urls: tuple[str, ...] = ()  # http(s)://host:port, tried in order
    cluster: str | None = None  # name of the cluster on which tables are made and replicated
    user: str = "default"
    password: str = ""
    database: str = "edgeqoe"
    query_threads: int = 2  # questions answered at the same time
    query_timeout_s: int = 30
    query_memory_bytes: int = 1 << 30  # of one question
    insert_memory_bytes: int = 4 << 30  # of one insert with its rollups
    waiting_limit: int = 64  # questions (or inserts) that may wait; more are refused
    raw_retention_s: int | None = None
    rollup_retention_s: int | None = None
