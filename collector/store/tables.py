"""The tables, generated from the record's column table and from the list of aggregates.

Null and key columns: a column of a sorting key cannot be null without loss, so in the columns of
`TEXT_KEYS` the empty text stands for null; no identity in them is ever empty.

Partitions: raw records by day, since their sorting key begins with the subscriber and time must be
found otherwise; rollups by month, since theirs begins with time and each partition that an insert
touches costs files and their syncing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from collector.store.aggregates import FAILED, TRAFFIC, Aggregate
from probe.record.schema import COLUMNS, Column, Meaning, WireType

TIME_TYPE: Final = "DateTime64(9, 'UTC')"  # 1970 to 2262
TEXT: Final = "LowCardinality(String)"

# Columns where the empty text stands for null.
TEXT_KEYS: Final = frozenset({"subscriber_id", "cell_id", "capture_point", "record_kind", "rat"})

_NUMBERS: Final = {
    WireType.U8: "UInt8",
    WireType.U16: "UInt16",
    WireType.U32: "UInt32",
    WireType.U64: "UInt64",
    WireType.I64: "Int64",
    WireType.F32: "Float32",
}

DEDUPLICATION_WINDOW: Final = 10_000  # blocks whose tokens a table remembers


@dataclass(frozen=True)
class Layout:
    """How tables are made on this engine: alone, or replicated on a cluster."""

    cluster: str | None = None

    @property
    def on_cluster(self) -> str:
        return f" ON CLUSTER `{self.cluster}`" if self.cluster else ""

    def engine(self, name: str) -> str:
        return f"Replicated{name}" if self.cluster else name

    def settings(self) -> str:
        window = "replicated" if self.cluster else "non_replicated"
        return (
            f"{window}_deduplication_window = {DEDUPLICATION_WINDOW}, "
            "fsync_after_insert = 1, fsync_part_directory = 1"
        )


@dataclass(frozen=True)
class Rollup:
    """A table of states, and the materialized view that fills it."""

    name: str
    source: str  # the table whose inserts fill it
    step_s: int  # the width of its `time`
    dimensions: tuple[str, ...]
    order: str
    aggregates: tuple[Aggregate, ...] = TRAFFIC
    where: str = ""


_BY_DAY, _BY_MONTH = "toYYYYMMDD(time)", "toYYYYMM(time)"
_CELL = ("cell_id", "capture_point", "service_class", "rat", "probe_id")
_SERVICE = ("service", "capture_point", "service_class", "probe_id")
_SUBSCRIBER = ("subscriber_id", "capture_point", "service_class", "probe_id")
_FAILURE = (
    "cell_id", "capture_point", "service_class", "service", "rat", "probe_id",
    "failure_cause", "failure_stage", "failure_side",
)  # fmt: skip

ROLLUPS: Final = (
    Rollup(
        "cell_minute", "sessions", 60, _CELL,
        order="toStartOfHour(time), cell_id, time, capture_point, service_class, rat, probe_id",
    ),
    Rollup(
        "cell_hour", "cell_minute", 3600, _CELL,
        order="time, cell_id, capture_point, service_class, rat, probe_id",
    ),
    Rollup(
        "service_minute", "sessions", 60, _SERVICE,
        order="toStartOfHour(time), service, time, capture_point, service_class, probe_id",
    ),
    Rollup(
        "subscriber_hour", "sessions", 3600, _SUBSCRIBER,
        order="subscriber_id, time, capture_point, service_class, probe_id",
    ),
    Rollup(
        "failure_minute", "sessions", 60, _FAILURE,
        order="toStartOfHour(time), failure_cause, time, " + ", ".join(
            name for name in _FAILURE if name != "failure_cause"
        ),
        aggregates=FAILED, where="s.outcome = 'failed'",
    ),
)  # fmt: skip


def column_type(column: Column) -> str:
    """Return the type that holds `column` in the table of raw records."""
    if column.name in TEXT_KEYS:
        return "String" if column.meaning is Meaning.PSEUDONYM else TEXT
    if column.meaning is Meaning.HISTOGRAM:
        return "Map(UInt8, UInt8)"  # empty where null: a histogram without samples says nothing
    plain = TIME_TYPE if column.meaning is Meaning.TIME_NS else _NUMBERS.get(column.wire, "String")
    optional = f"Nullable({plain})" if column.nullable else plain
    words = column.wire is WireType.DICTIONARY and column.meaning in (Meaning.TEXT, Meaning.CODES)
    return f"LowCardinality({optional})" if words else optional


# What the collector knows of each record besides what the probe said.
COLLECTOR_COLUMNS: Final = {
    "probe_id": TEXT,
    "epoch": "UInt64",
    "sequence": "UInt64",
    "received_at": TIME_TYPE,
    "service": TEXT,
    "service_class": TEXT,
}

SESSION_COLUMNS: Final = {
    **{column.name: column_type(column) for column in COLUMNS},
    **COLLECTOR_COLUMNS,
}

_BATCH_KEY: Final = {
    "probe_id": TEXT,
    "epoch": "UInt64",
    "sequence": "UInt64",
    "received_at": TIME_TYPE,
}
BATCH_COLUMNS: Final = {
    **_BATCH_KEY,
    "created_at": TIME_TYPE,
    "schema_version": "UInt32",
    "rows": "UInt32",
    "health": "String",  # JSON, as sent
    "gaps": "String",  # JSON, as sent
}
LEDGER_COLUMNS: Final = {
    **_BATCH_KEY,
    "interface": TEXT,
    "counter": TEXT,
    "reason": TEXT,
    "packets": "UInt64",
}
LINK_COLUMNS: Final = {
    **_BATCH_KEY,
    "from_id": "String",  # 32 hex digits, empty if the entry holds none
    "to_id": "String",
    "since_ns": "Int64",  # ns since the Unix epoch; 0 if the entry does not say
    "until_ns": "Int64",  # the end, excluded; the last Int64 where it was not told
    "entry": "String",  # JSON, as sent
}
PATH_COLUMNS: Final = {**_BATCH_KEY, "entry": "String"}

# Tables with `received_at` and nothing derived: name, columns, sorting key.
SMALL_TABLES: Final = (
    ("batches", BATCH_COLUMNS, "probe_id, epoch, sequence"),
    ("ledger", LEDGER_COLUMNS, "probe_id, received_at, interface, counter, reason"),
    ("links", LINK_COLUMNS, "from_id, to_id, received_at"),
    ("paths", PATH_COLUMNS, "probe_id, received_at"),
)


def table_statements(layout: Layout) -> list[str]:
    """Return the statements that make every table and view, in an order that works."""
    statements = [
        _table(
            layout,
            "sessions",
            SESSION_COLUMNS,
            engine="MergeTree",
            partition="toYYYYMMDD(start_time)",
            order="subscriber_id, start_time, session_id, interval_index",
        )
    ]
    for name, columns, order in SMALL_TABLES:
        month = "toYYYYMM(received_at)"
        statements.append(
            _table(layout, name, columns, engine="MergeTree", partition=month, order=order)
        )
    for rollup in ROLLUPS:
        statements += [_rollup_table(layout, rollup), view_statement(layout, rollup)]
    return statements


def _table(
    layout: Layout,
    name: str,
    columns: dict[str, str],
    *,
    engine: str,
    partition: str,
    order: str,
) -> str:
    lines = ",\n    ".join(f"`{column}` {kind}" for column, kind in columns.items())
    return (
        f"CREATE TABLE IF NOT EXISTS {name}{layout.on_cluster} (\n    {lines}\n)\n"
        f"ENGINE = {layout.engine(engine)}\nPARTITION BY {partition}\nORDER BY ({order})\n"
        f"SETTINGS {layout.settings()}"
    )


def rollup_columns(rollup: Rollup) -> dict[str, str]:
    """Return the columns of a rollup with their types."""
    return {
        "time": "DateTime('UTC')",
        **dict.fromkeys(rollup.dimensions, TEXT),
        **{aggregate.name: aggregate.type for aggregate in rollup.aggregates},
        **({"subscriber_id": "String"} if "subscriber_id" in rollup.dimensions else {}),
    }


def _rollup_table(layout: Layout, rollup: Rollup) -> str:
    return _table(
        layout,
        rollup.name,
        rollup_columns(rollup),
        engine="AggregatingMergeTree",
        partition="toYYYYMM(time)",
        order=rollup.order,
    )


def view_statement(layout: Layout, rollup: Rollup) -> str:
    """Return the statement that makes the view which fills `rollup`."""
    return (
        f"CREATE MATERIALIZED VIEW IF NOT EXISTS {rollup.name}_view{layout.on_cluster}\n"
        f"TO {rollup.name} AS {rollup_select(rollup)}"
    )


def rollup_changes(layout: Layout, migration: int) -> list[str]:
    """Return the statements that add to all rollups what `migration` brought, and fill it."""
    added = {rollup.name: list(_additions(layout, rollup, migration)) for rollup in ROLLUPS}
    # All tables before any view: the view of one rollup reads another.
    return [
        *(statement for statements in added.values() for statement in statements),
        *(_view_change(layout, one, migration) for one in ROLLUPS if added[one.name]),
    ]


def _view_change(layout: Layout, rollup: Rollup, migration: int) -> str:
    """Return the statement that has the view of `rollup` fill what there is since `migration`."""
    known = tuple(entry for entry in rollup.aggregates if entry.since <= migration)
    select = rollup_select(replace(rollup, aggregates=known))
    return f"ALTER TABLE {rollup.name}_view{layout.on_cluster} MODIFY QUERY {select}"


def _additions(layout: Layout, rollup: Rollup, migration: int) -> Iterable[str]:
    """Yield the statements that add to `rollup` what `migration` brought."""
    before = ""
    for aggregate in rollup.aggregates:
        if aggregate.since == migration:
            yield (
                f"ALTER TABLE {rollup.name}{layout.on_cluster} ADD COLUMN IF NOT EXISTS"
                f" `{aggregate.name}` {aggregate.type} AFTER `{before}`"
            )
        before = aggregate.name


def rollup_select(rollup: Rollup, condition: str = "") -> str:
    """Return the question whose rows fill `rollup`, of those that meet `condition` if given."""
    raw = rollup.source == "sessions"
    time = f"toDateTime({'s.start_time' if raw else 's.time'}, 'UTC')"
    width = "toStartOfMinute" if rollup.step_s == 60 else "toStartOfHour"
    keys = [f"{dimension(name, raw=raw)} AS {name}" for name in rollup.dimensions]
    states = [
        f"{aggregate.make if raw else aggregate.merge} AS {aggregate.name}"
        for aggregate in rollup.aggregates
    ]
    both = [f"({part})" for part in (rollup.where, condition) if part]
    where = f"WHERE {' AND '.join(both)}\n" if both else ""
    return (
        "SELECT\n    "
        + ",\n    ".join([f"{width}({time}) AS time", *keys, *states])
        + f"\nFROM {rollup.source} AS s\n{where}GROUP BY {', '.join(['time', *rollup.dimensions])}"
    )


def dimension(name: str, *, raw: bool) -> str:
    """Return the expression of a dimension as text, empty where null."""
    if not raw or name in TEXT_KEYS or name in COLLECTOR_COLUMNS:
        return f"s.{name}"
    return f"ifNull(toString(s.{name}), '')"


def retained_tables() -> Iterable[tuple[str, bool]]:
    """Yield each table that retention governs, and whether it holds raw records."""
    yield "sessions", True
    yield from ((name, False) for name, _, _ in SMALL_TABLES if name != "links")
    yield from ((rollup.name, False) for rollup in ROLLUPS)
