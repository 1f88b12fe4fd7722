"""Schema migrations: numbered, applied forward only, each recorded in the table `migrations`.

Every statement can be repeated (`IF NOT EXISTS` and the like), so a migration that was interrupted
is applied again as a whole. A store that is newer than this program is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from collector.errors import StoreError
from collector.store.migrations import attribution, initial, server_name_source, tunnels
from collector.store.tables import Layout


@dataclass(frozen=True)
class Migration:
    """One step of the schema."""

    number: int
    name: str
    statements: Callable[[Layout], list[str]]


MIGRATIONS: Final = (
    Migration(1, "initial", initial.statements),
    Migration(2, "server_name_source", server_name_source.statements),
    Migration(attribution.NUMBER, "attribution", attribution.statements),
    Migration(tunnels.NUMBER, "tunnels", tunnels.statements),
)

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS migrations{on_cluster} (
    number UInt32, name String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
) ENGINE = {engine} ORDER BY number
"""


def migrate(client: Any, layout: Layout) -> list[int]:
    """Bring the store to this program's schema and return the numbers of what was applied."""
    client.command(_TABLE.format(on_cluster=layout.on_cluster, engine=layout.engine("MergeTree")))
    done = {
        int(row[0]) for row in client.query("SELECT DISTINCT number FROM migrations").result_rows
    }
    if newer := done - {migration.number for migration in MIGRATIONS}:
        raise StoreError(f"the store has migration {max(newer)}, made by a newer program")
    pending = [migration for migration in MIGRATIONS if migration.number not in done]
    for migration in pending:
        _apply(client, layout, migration)
    return [migration.number for migration in pending]


def _apply(client: Any, layout: Layout, migration: Migration) -> None:
    for statement in migration.statements(layout):
        client.command(statement)
    client.command(
        f"INSERT INTO migrations (number, name) VALUES ({migration.number}, '{migration.name}')"
    )
