"""The collector's small state: one SQLite file beside the store, shared by several processes.

Tokens, audit, accepted batches and incidents live here and not in the store, so that `token` works
while the collector serves (chDB admits one process per path). The file is in WAL mode: readers do
not wait for the writer, and a second process writes between two transactions of the first.

Each room owns its tables: it hands `migrate` its name and its list of steps, and nothing else knows
them. A step, once released, never changes; a new one is appended.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from collector.errors import StateError

BUSY_TIMEOUT_S: Final = 5.0
STATEMENT_TIMEOUT_S: Final = 15.0  # longer than one wait for another process's transaction

T = TypeVar("T")


class StateDatabase:
    """One connection to the state file, used by one thread of its own.

    `run` is for the event loop, `transaction` for commands that have none. Both raise `StateError`
    for everything that SQLite reports, a file locked for longer than `BUSY_TIMEOUT_S` included.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._connection = connection
        # One thread: SQLite serialises writers anyway, and one connection needs no further lock.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or create the file at `path`, readable by its owner only."""
        with _as_state_error(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Created here and not by SQLite, whose mode would be the umask's.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = _connect(path)
        return cls(connection, path)

    def migrate(self, room: str, steps: Sequence[str]) -> None:
        """Bring the tables of `room` to the last of `steps`, each one a script run once."""
        with self.transaction() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_versions"
                " (room TEXT PRIMARY KEY, version INTEGER NOT NULL)"
            )
            done = _version_of(connection, room)
            if done > len(steps):
                raise StateError(
                    f"{self.path}: {room} tables have version {done}, newer than this collector's"
                    f" {len(steps)}: run the collector that wrote them"
                )
            for step in steps[done:]:
                _run_script(connection, step)
            connection.execute(
                "INSERT OR REPLACE INTO schema_versions VALUES (?, ?)", (room, len(steps))
            )

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection inside one transaction, durable when the block ends without error."""
        with _as_state_error(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.rollback()
                raise
            self._connection.commit()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` returns, run in a transaction on the database's thread."""
        return await self._in_thread(lambda: self._in_transaction(work))

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As `run`, for work that only reads: it takes no write lock."""
        return await self._in_thread(lambda: self._reading(work))

    def _in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self.transaction() as connection:
            return work(connection)

    def _reading(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with _as_state_error(self.path):
            return work(self._connection)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_S):
                return await loop.run_in_executor(self._executor, work)
        except TimeoutError as error:
            raise StateError(f"{self.path}: no answer in {STATEMENT_TIMEOUT_S:g} s") from error

    def close(self) -> None:
        """Finish what runs and close the file. Further calls of `run` raise `RuntimeError`."""
        self._executor.shutdown(wait=True)
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL: a revoked token or an audit entry must survive power loss once it was reported done.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _version_of(connection: sqlite3.Connection, room: str) -> int:
    row = connection.execute(
        "SELECT version FROM schema_versions WHERE room = ?", (room,)
    ).fetchone()
    return int(row["version"]) if row else 0


def _run_script(connection: sqlite3.Connection, script: str) -> None:
    # executescript would commit the transaction that the migration stands in.
    for statement in script.split(";"):
        if statement.strip():
            connection.execute(statement)


@contextmanager
def _as_state_error(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StateError(f"{path}: {error}") from error
    except OSError as error:
        raise StateError(f"{path}: {error.strerror or error}") from error
