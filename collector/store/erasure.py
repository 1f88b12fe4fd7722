"""Erasure of one subscriber from every table that names subscribers.

What stays are sums over many subscribers and, in their sets of distinct subscribers, hashes that
lead back to nobody.
"""

from typing import Any, Final

from collector.store.tables import ROLLUPS, Layout

_TEMPLATE: Final = (
    "DELETE FROM {table}{on_cluster} WHERE {condition} SETTINGS lightweight_deletes_sync = 2"
)


def erase_subscriber(client: Any, layout: Layout, subscriber_id: str) -> None:
    """Delete the subscriber's rows; they are in no answer when it returns."""
    for table, condition in _conditions():
        statement = _TEMPLATE.format(table=table, on_cluster=layout.on_cluster, condition=condition)
        client.command(statement, parameters={"id": subscriber_id})


def _conditions() -> list[tuple[str, str]]:
    tables = ["sessions", *(r.name for r in ROLLUPS if "subscriber_id" in r.dimensions)]
    named = [(table, "subscriber_id = unhex({id:String})") for table in tables]
    return [*named, ("links", "from_id = {id:String} OR to_id = {id:String}")]
