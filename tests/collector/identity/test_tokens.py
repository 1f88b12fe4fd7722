"""Tokens: made once, hashed at rest, revoked for good, usable from several processes."""

import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from collector.errors import StateError
from collector.identity import audit, tokens
from collector.identity.operations import Role
from collector.identity.state import StateDatabase


@pytest.fixture
def database(tmp_path: Path):
    with StateDatabase.open(tmp_path / "state.sqlite") as database:
        database.migrate("identity", tokens.STEPS)
        yield database


def test_a_created_token_identifies_its_name_and_role(database: StateDatabase) -> None:
    with database.transaction() as connection:
        token = tokens.create(connection, Role.PROBE, "edge-1")
        found = tokens.identify(connection, token)
    assert found is not None
    assert (found.role, found.name, found.token_id) == (Role.PROBE, "edge-1", tokens.id_of(token))


def test_two_tokens_of_one_name_differ_and_both_work(database: StateDatabase) -> None:
    with database.transaction() as connection:
        first, second = (tokens.create(connection, Role.PROBE, "edge-1") for _ in range(2))
        assert first != second
        assert tokens.identify(connection, first) and tokens.identify(connection, second)


@pytest.mark.parametrize("change", ["", "x", "é", "\0", " "])
def test_a_changed_token_identifies_nobody(database: StateDatabase, change: str) -> None:
    with database.transaction() as connection:
        token = tokens.create(connection, Role.READER, "dashboard")
        last = "0" if token[-1] != "0" else "1"
        for wrong in (token[:-1] + last, token[:-1] + change, change + token, change):
            if wrong != token:
                assert tokens.identify(connection, wrong) is None


def test_the_file_holds_no_token_in_the_clear_and_is_private(database: StateDatabase) -> None:
    with database.transaction() as connection:
        token = tokens.create(connection, Role.ADMIN, "root")
    secret = token.rpartition("_")[2].encode()
    files = list(database.path.parent.glob(database.path.name + "*"))
    assert len(files) > 1  # the write-ahead log too
    for file in files:
        assert secret not in file.read_bytes()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_revoked_token_identifies_nobody_and_revoking_twice_says_so(
    database: StateDatabase,
) -> None:
    with database.transaction() as connection:
        token = tokens.create(connection, Role.READER, "dashboard")
        assert tokens.revoke(connection, tokens.id_of(token))
        assert tokens.identify(connection, token) is None
        assert not tokens.revoke(connection, tokens.id_of(token))
        assert not tokens.revoke(connection, "0" * 12)


def test_listed_tokens_tell_their_state_and_no_secret(database: StateDatabase) -> None:
    with database.transaction() as connection:
        token = tokens.create(connection, Role.READER, "dashboard")
        tokens.note_use(connection, tokens.id_of(token))
        tokens.revoke(connection, tokens.id_of(token))
        (record,) = tokens.listed(connection)
    assert record.id == tokens.id_of(token)
    assert record.revoked_at is not None and record.last_used_at is not None
    assert token.rpartition("_")[2] not in repr(record)


@pytest.mark.parametrize("name", ["", "-edge", "a" * 129, "edge 1", "edge\n1", "é"])
def test_a_name_that_could_confuse_a_reader_is_refused(database: StateDatabase, name: str) -> None:
    with pytest.raises(StateError, match="name"), database.transaction() as connection:
        tokens.create(connection, Role.PROBE, name)
    with database.transaction() as connection:
        assert tokens.listed(connection) == []


_OTHER_PROCESS = """
import sys
from pathlib import Path
from collector.identity import tokens
from collector.identity.operations import Role
from collector.identity.state import StateDatabase
with StateDatabase.open(Path(sys.argv[1])) as database:
    database.migrate("identity", tokens.STEPS)
    with database.transaction() as connection:
        print(tokens.create(connection, Role.PROBE, "edge-1"))
"""


def test_a_token_made_by_another_process_works_here_at_once(database: StateDatabase) -> None:
    command = [sys.executable, "-c", _OTHER_PROCESS, str(database.path)]
    made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    with database.transaction() as connection:
        found = tokens.identify(connection, made.stdout.strip())
    assert found is not None and found.name == "edge-1"


def test_a_failed_transaction_leaves_nothing(database: StateDatabase) -> None:
    with pytest.raises(RuntimeError), database.transaction() as connection:
        tokens.create(connection, Role.PROBE, "edge-1")
        audit.record(connection, "me", "token create", "edge-1")
        raise RuntimeError
    with database.transaction() as connection:
        assert tokens.listed(connection) == []
        assert audit.entries(connection) == []


def test_audit_entries_come_newest_first(database: StateDatabase) -> None:
    with database.transaction() as connection:
        for subject in ("first", "second"):
            audit.record(connection, "me", "token create", subject)
        assert [entry.subject for entry in audit.entries(connection)] == ["second", "first"]


def test_tables_of_a_newer_collector_are_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with StateDatabase.open(path) as database:
        database.migrate("identity", (*tokens.STEPS, "CREATE TABLE later (x)"))
    with StateDatabase.open(path) as database, pytest.raises(StateError, match="newer"):
        database.migrate("identity", tokens.STEPS)


def test_a_step_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    with StateDatabase.open(tmp_path / "state.sqlite") as database:
        with pytest.raises(StateError):
            database.migrate("identity", ("CREATE TABLE a (x); CREATE TABLE a (x)",))
        database.migrate("identity", ("CREATE TABLE a (x)",))


def test_a_file_that_is_no_database_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    path.write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(StateError, match=str(path)):
        StateDatabase.open(path)


async def test_a_file_locked_by_another_writer_is_a_state_error(
    database: StateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.identity.state.STATEMENT_TIMEOUT_S", 0.2)
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(StateError, match="no answer"):
            await database.run(lambda connection: tokens.revoke(connection, "0" * 12))
    finally:
        other.rollback()
        other.close()
