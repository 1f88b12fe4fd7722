"""Migration 3: times of links, and the bytes of rollups that are attributed.

Links from before get their times out of the entry as it was sent. Rollups count attributed bytes
from here on; their older rows hold 0, in the base of the shares too, and so say nothing.
"""

from collections.abc import Iterator
from typing import Final

from collector.store.links import OPEN_NS
from collector.store.tables import ROLLUPS, Layout, Rollup, view_change

NUMBER: Final = 3


def statements(layout: Layout) -> list[str]:
    """Return the statements that add the columns and have the views fill them."""
    added = [statement for rollup in ROLLUPS for statement in _added(layout, rollup)]
    # All tables before any view: the view of one rollup reads another.
    changed = [view_change(layout, rollup) for rollup in ROLLUPS if any(_added(layout, rollup))]
    return [*_link_times(layout), *added, *changed]


def _link_times(layout: Layout) -> list[str]:
    until = "JSONExtractInt(entry, 'until')"
    return [
        f"ALTER TABLE links{layout.on_cluster} ADD COLUMN IF NOT EXISTS"
        " `since_ns` Int64 DEFAULT JSONExtractInt(entry, 'since') AFTER `to_id`",
        f"ALTER TABLE links{layout.on_cluster} ADD COLUMN IF NOT EXISTS `until_ns` Int64"
        f" DEFAULT if({until} = 0, {OPEN_NS:d}, {until}) AFTER `since_ns`",
    ]


def _added(layout: Layout, rollup: Rollup) -> Iterator[str]:
    before = ""
    for aggregate in rollup.aggregates:
        if aggregate.since == NUMBER:
            yield (
                f"ALTER TABLE {rollup.name}{layout.on_cluster} ADD COLUMN IF NOT EXISTS"
                f" `{aggregate.name}` {aggregate.type} AFTER `{before}`"
            )
        before = aggregate.name
