"""Who a subscriber is: pseudonyms that probes found to be one person's are asked about together."""

import re
from typing import Final

from collector.errors import ProblemError
from collector.store import Store

MAX_LINKED: Final = 32  # pseudonyms of one person; more point to a fault in the links
_HOPS: Final = 4

_NEIGHBOURS: Final = (
    "SELECT DISTINCT if(from_id IN {ids:Array(String)}, to_id, from_id) AS id FROM links"
    " WHERE (from_id IN {ids:Array(String)} OR to_id IN {ids:Array(String)})"
    " AND from_id != '' AND to_id != '' ORDER BY id LIMIT {most:UInt32}"
)


async def linked_ids(store: Store, subscriber_id: str) -> tuple[str, ...]:
    """Return the pseudonym and those linked to it, itself first; 404 if it is none.

    Links are followed both ways, four at most; the times they hold for are not regarded.
    """
    if not re.fullmatch(r"[0-9a-f]{32}", subscriber_id):
        raise ProblemError(404, "Not found", "a subscriber id is 32 lower-case hex digits")
    known = [subscriber_id]
    for _ in range(_HOPS):
        rows = await store.fetch(_NEIGHBOURS, {"ids": known, "most": MAX_LINKED * 2})
        fresh = [row["id"] for row in rows if row["id"] not in known]
        if not fresh:
            break
        known = (known + fresh)[:MAX_LINKED]
    return tuple(known)
