"""Access tokens: made once, shown once, kept as a hash.

A token reads `eqo_<id>_<secret>`: 12 hex digits that find its row and 64 that prove it. The secret
is 256 random bits, so a plain SHA-256 at rest is enough: a slow password hash protects guessable
secrets, and nobody guesses this one (OWASP ASVS 2.9, RFC 6750 5.2).
"""

import hashlib
import hmac
import re
import secrets
import sqlite3
import time
from dataclasses import dataclass
from typing import Final

from collector.errors import StateError
from collector.identity.operations import Role

STEPS: Final = (
    """
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY,
        hash BLOB NOT NULL,
        role TEXT NOT NULL,
        name TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        last_used_at INTEGER,
        revoked_at INTEGER
    );
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        who TEXT NOT NULL,
        what TEXT NOT NULL,
        subject TEXT NOT NULL
    );
    CREATE INDEX audit_by_time ON audit (at)
    """,
)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_TOKEN: Final = re.compile(r"eqo_([0-9a-f]{12})_[0-9a-f]{64}")


@dataclass(frozen=True)
class Identity:
    """Who asks. `name` is the probe_id for a probe; `token_id` is None without a token."""

    role: Role
    name: str
    token_id: str | None


@dataclass(frozen=True)
class TokenRecord:
    """A token as it is listed. Times are Unix seconds, UTC."""

    id: str
    role: Role
    name: str
    created_at: int
    last_used_at: int | None
    revoked_at: int | None


def create(connection: sqlite3.Connection, role: Role, name: str) -> str:
    """Add a token and return its text, which is nowhere kept. A wrong name is a `StateError`."""
    if not _NAME.fullmatch(name):
        raise StateError(
            f"name {name!r}: use 1 to 128 of the characters A-Z a-z 0-9 . _ : - and start with"
            " a letter or a digit"
        )
    token_id = secrets.token_hex(6)
    token = f"eqo_{token_id}_{secrets.token_hex(32)}"
    connection.execute(
        "INSERT INTO tokens (id, hash, role, name, created_at) VALUES (?, ?, ?, ?, ?)",
        (token_id, _hash(token), role, name, int(time.time())),
    )
    return token


def identify(connection: sqlite3.Connection, token: str) -> Identity | None:
    """Return whose valid token this is; None for every other text."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        return None
    row = connection.execute("SELECT * FROM tokens WHERE id = ?", match.groups()).fetchone()
    # Compared even without a row, so that the time taken does not tell which ids exist.
    matches = hmac.compare_digest(row["hash"] if row else bytes(32), _hash(token))
    if row is None or not matches or row["revoked_at"] is not None:
        return None
    return Identity(Role(row["role"]), row["name"], row["id"])


def note_use(connection: sqlite3.Connection, token_id: str) -> None:
    """Set when the token was last used to now."""
    connection.execute(
        "UPDATE tokens SET last_used_at = ? WHERE id = ?", (int(time.time()), token_id)
    )


def revoke(connection: sqlite3.Connection, token_id: str) -> bool:
    """Revoke the token and return whether it was there and valid until now."""
    changed = connection.execute(
        "UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL",
        (int(time.time()), token_id),
    )
    return changed.rowcount == 1


def listed(connection: sqlite3.Connection) -> list[TokenRecord]:
    """Return every token, revoked ones too, the oldest first."""
    rows = connection.execute(
        "SELECT id, role, name, created_at, last_used_at, revoked_at FROM tokens"
        " ORDER BY created_at, id"
    )
    return [TokenRecord(**{**dict(row), "role": Role(row["role"])}) for row in rows]


def id_of(token: str) -> str:
    """Return the id in a token's text, the part that may be shown."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise StateError("not a token")
    return match[1]


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("ascii", "replace")).digest()
