"""Migration 3: times of links, and the bytes of rollups that are attributed.

Links from before get their times out of the entry as it was sent. Rollups count attributed bytes
from here on; their older rows hold 0, in the base of the shares too, and so say nothing.
"""

from typing import Final

from collector.store.links import OPEN_NS
from collector.store.tables import Layout, rollup_changes

NUMBER: Final = 3


def statements(layout: Layout) -> list[str]:
    """Return the statements that add the columns and have the views fill them."""
    return [*_link_times(layout), *rollup_changes(layout, NUMBER)]


def _link_times(layout: Layout) -> list[str]:
    until = "JSONExtractInt(entry, 'until')"
    return [
        f"ALTER TABLE links{layout.on_cluster} ADD COLUMN IF NOT EXISTS"
        " `since_ns` Int64 DEFAULT JSONExtractInt(entry, 'since') AFTER `to_id`",
        f"ALTER TABLE links{layout.on_cluster} ADD COLUMN IF NOT EXISTS `until_ns` Int64"
        f" DEFAULT if({until} = 0, {OPEN_NS:d}, {until}) AFTER `since_ns`",
    ]
