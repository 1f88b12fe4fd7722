"""Migration 2: raw records say where the name of a server comes from.

A store that migration 1 made with this program's column table has the column already. The rollups
and their views do not read it.
"""

from collector.store.tables import Layout


def statements(layout: Layout) -> list[str]:
    """Return the statements that add the column to the table of raw records."""
    return [
        f"ALTER TABLE sessions{layout.on_cluster} ADD COLUMN IF NOT EXISTS"
        " `server_name_source` LowCardinality(Nullable(String)) AFTER `server_name`"
    ]
