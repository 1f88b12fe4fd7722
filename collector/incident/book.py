"""Incidents at rest: the state file's table of them, and how far evaluation has come."""

import json
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from collector.incident.incident import CloseReason, Incident
from collector.incident.judgement import Kind

STEPS: Final = (
    """
    CREATE TABLE incidents (
        id TEXT PRIMARY KEY,
        cell_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        opened_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        bad_windows INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        affected_subscribers INTEGER NOT NULL,
        causes TEXT NOT NULL,
        worst_qoe REAL,
        good_in_a_row INTEGER NOT NULL,
        unknown_in_a_row INTEGER NOT NULL,
        closed_at INTEGER,
        close_reason TEXT,
        recorded_at INTEGER NOT NULL
    );
    CREATE INDEX incidents_by_opening ON incidents (opened_at, id);
    CREATE UNIQUE INDEX open_incidents ON incidents (cell_id, kind) WHERE closed_at IS NULL;
    CREATE TABLE incident_progress (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        evaluated_until INTEGER NOT NULL
    )
    """,
    """
    ALTER TABLE incidents ADD COLUMN capture_point TEXT NOT NULL DEFAULT '';
    ALTER TABLE incidents ADD COLUMN worst_share REAL;
    DROP INDEX open_incidents;
    CREATE UNIQUE INDEX open_incidents ON incidents (cell_id, capture_point, kind)
        WHERE closed_at IS NULL
    """,
)
_COLUMNS: Final = (
    "id",
    "cell_id",
    "kind",
    "opened_at",
    "updated_at",
    "bad_windows",
    "attempts",
    "failures",
    "affected_subscribers",
    "causes",
    "worst_qoe",
    "good_in_a_row",
    "unknown_in_a_row",
    "closed_at",
    "close_reason",
    "capture_point",
    "worst_share",
)
_UPSERT: Final = (
    f"INSERT OR REPLACE INTO incidents ({', '.join(_COLUMNS)}, recorded_at)"
    f" VALUES ({', '.join(':' + name for name in _COLUMNS)}, :recorded_at)"
)


@dataclass(frozen=True)
class Selection:
    """Which incidents to list: those that touch [since, until], newest opening first."""

    since: int | None = None
    until: int | None = None
    status: str | None = None  # open or closed
    kind: Kind | None = None
    cell_id: str | None = None
    before: tuple[int, str] | None = None  # (opened_at, id) of the last one seen
    limit: int = 100


def evaluated_until(connection: sqlite3.Connection) -> int | None:
    """Return the end of the last window evaluated, None before the first."""
    row = connection.execute("SELECT evaluated_until FROM incident_progress").fetchone()
    return int(row["evaluated_until"]) if row else None


def save(connection: sqlite3.Connection, changed: Iterable[Incident], until: int) -> None:
    """Write the incidents and the progress together, so that no window counts twice."""
    # Closed ones first: the same cell may have one that closes and one that opens.
    for incident in sorted(changed, key=lambda incident: incident.closed_at is None):
        connection.execute(_UPSERT, _row(incident))
    connection.execute("INSERT OR REPLACE INTO incident_progress VALUES (1, ?)", (until,))


def open_incidents(connection: sqlite3.Connection) -> list[Incident]:
    """Return every incident that is not closed."""
    rows = connection.execute("SELECT * FROM incidents WHERE closed_at IS NULL ORDER BY id")
    return [_incident(row) for row in rows]


def find(connection: sqlite3.Connection, incident_id: str) -> Incident | None:
    """Return the incident with this id."""
    row = connection.execute("SELECT * FROM incidents WHERE id = ?", (incident_id,)).fetchone()
    return _incident(row) if row else None


def select(connection: sqlite3.Connection, wanted: Selection) -> list[Incident]:
    """Return up to `limit` incidents."""
    conditions, values = _conditions(wanted)
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = connection.execute(
        f"SELECT * FROM incidents{where} ORDER BY opened_at DESC, id DESC LIMIT ?",
        (*values, wanted.limit),
    )
    return [_incident(row) for row in rows]


def prune(connection: sqlite3.Connection, before: int) -> int:
    """Delete closed incidents last changed before the Unix second `before`; return how many.

    The collector's clock counts and not the packets', so that those of old captures are kept too.
    """
    deleted = connection.execute(
        "DELETE FROM incidents WHERE closed_at IS NOT NULL AND recorded_at < ?", (before,)
    )
    return deleted.rowcount


def _conditions(wanted: Selection) -> tuple[list[str], list[Any]]:
    is_open = None if wanted.status is None else wanted.status == "open"
    clauses: list[tuple[str, tuple[Any, ...] | None]] = [
        ("opened_at <= ?", _one(wanted.until)),
        ("COALESCE(closed_at, updated_at) >= ?", _one(wanted.since)),
        ("(closed_at IS NULL) = ?", _one(is_open)),
        ("kind = ?", _one(wanted.kind)),
        ("cell_id = ?", _one(wanted.cell_id)),
        ("(opened_at, id) < (?, ?)", wanted.before),
    ]
    used = [(clause, values) for clause, values in clauses if values is not None]
    return [clause for clause, _ in used], [value for _, values in used for value in values]


def _one(value: Any) -> tuple[Any, ...] | None:
    return None if value is None else (value,)


def _row(incident: Incident) -> dict[str, Any]:
    row = {name: getattr(incident, name) for name in _COLUMNS}
    causes = json.dumps(dict(incident.causes), sort_keys=True)
    return {**row, "causes": causes, "recorded_at": int(time.time())}


def _incident(row: sqlite3.Row) -> Incident:
    values = {name: row[name] for name in _COLUMNS}
    values["kind"] = Kind(values["kind"])
    values["causes"] = json.loads(values["causes"])
    if values["close_reason"] is not None:
        values["close_reason"] = CloseReason(values["close_reason"])
    return Incident(**values)
