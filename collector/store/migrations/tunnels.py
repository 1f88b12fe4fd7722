"""Migration 4: what the headers of tunnels say, and the QoS flow apart from its class.

Rollups sum it from here on. Their older rows hold 0 of everything, of numbered packets too, and so
say nothing.
"""

from typing import Final

from collector.store.tables import SESSION_COLUMNS, Layout, rollup_changes
from probe.record.schema import COLUMNS

NUMBER: Final = 4


def statements(layout: Layout) -> list[str]:
    """Return the statements that add the columns and have the views fill them."""
    return [*_record_columns(layout), *rollup_changes(layout, NUMBER)]


def _record_columns(layout: Layout) -> list[str]:
    names = [column.name for column in COLUMNS]
    added = [column.name for column in COLUMNS if column.group == "tunnel" or column.name == "qfi"]
    return [
        f"ALTER TABLE sessions{layout.on_cluster} ADD COLUMN IF NOT EXISTS"
        f" `{name}` {SESSION_COLUMNS[name]} AFTER `{names[names.index(name) - 1]}`"
        for name in added
    ]
