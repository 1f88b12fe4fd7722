"""/openapi.json: the description of every operation, made once from the same table that mounts."""

import json
from collections.abc import Sequence

from aiohttp import web

from collector import __version__, query
from collector.identity.operations import Operation


def described(operations: Sequence[Operation]) -> Operation:
    """Return the operation that describes `operations`."""
    text = json.dumps(query.document(operations, __version__))

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type="application/json")

    return Operation("GET", "/openapi.json", "This interface, as OpenAPI 3.1", answer, role=None)
