"""The audit: who did what to whom, and when. It is added to and read, never changed.

Subjects are token ids and pseudonyms. An identity in the clear (IMSI, MSISDN, address) never
stands here.
"""

import sqlite3
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class AuditEntry:
    """One action. `at` is Unix seconds, UTC; `who` is a token's name or a local user."""

    at: int
    who: str
    what: str
    subject: str


def record(connection: sqlite3.Connection, who: str, what: str, subject: str) -> None:
    """Add an entry with the time of now."""
    connection.execute(
        "INSERT INTO audit (at, who, what, subject) VALUES (?, ?, ?, ?)",
        (int(time.time()), who, what, subject),
    )


def entries(connection: sqlite3.Connection, limit: int = 1000) -> list[AuditEntry]:
    """Return the newest `limit` entries, the newest first."""
    rows = connection.execute(
        "SELECT at, who, what, subject FROM audit ORDER BY id DESC LIMIT ?", (limit,)
    )
    return [AuditEntry(**dict(row)) for row in rows]


def prune(connection: sqlite3.Connection, before: int) -> int:
    """Delete some entries older than the Unix second `before`; return how many."""
    deleted = connection.execute(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ? LIMIT 10000)", (before,)
    )
    return deleted.rowcount


def last(connection: sqlite3.Connection, what: str) -> int | None:
    """Return the Unix second of the newest entry of this action, None if there is none."""
    row = connection.execute("SELECT max(at) AS at FROM audit WHERE what = ?", (what,)).fetchone()
    return None if row["at"] is None else int(row["at"])
