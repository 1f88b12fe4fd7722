"""Which batches were accepted, so that each is stored once however often it is sent."""

import sqlite3
import time
from dataclasses import dataclass
from typing import Final

STEPS: Final = (
    """
    CREATE TABLE accepted_batches (
        probe_id TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        digest BLOB NOT NULL,
        accepted_at INTEGER NOT NULL,
        PRIMARY KEY (probe_id, epoch, sequence)
    ) WITHOUT ROWID;
    CREATE INDEX accepted_batches_by_time ON accepted_batches (accepted_at)
    """,
)
_PRUNED_AT_ONCE: Final = 10_000  # rows of one transaction, so that ingest waits little for it


@dataclass(frozen=True)
class BatchId:
    """What names a batch for ever."""

    probe_id: str
    epoch: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.probe_id}/{self.epoch}/{self.sequence}"


def digest_of(connection: sqlite3.Connection, batch: BatchId) -> bytes | None:
    """Return the SHA-256 of the accepted batch's content, None if it was never accepted."""
    row = connection.execute(
        "SELECT digest FROM accepted_batches WHERE probe_id = ? AND epoch = ? AND sequence = ?",
        (batch.probe_id, batch.epoch, batch.sequence),
    ).fetchone()
    return bytes(row["digest"]) if row else None


def mark(connection: sqlite3.Connection, batch: BatchId, digest: bytes) -> None:
    """Note that the batch is stored. A second mark of the same batch changes nothing."""
    connection.execute(
        "INSERT OR IGNORE INTO accepted_batches VALUES (?, ?, ?, ?, ?)",
        (batch.probe_id, batch.epoch, batch.sequence, digest, int(time.time())),
    )


def prune(connection: sqlite3.Connection, before: int) -> int:
    """Forget some batches accepted before the Unix second `before`; return how many.

    Ask again until it returns 0. A probe must not keep a batch in its spool for longer than this
    memory lasts, or it would be stored twice.
    """
    deleted = connection.execute(
        "DELETE FROM accepted_batches WHERE (probe_id, epoch, sequence) IN"
        " (SELECT probe_id, epoch, sequence FROM accepted_batches WHERE accepted_at < ? LIMIT ?)",
        (before, _PRUNED_AT_ONCE),
    )
    return deleted.rowcount
