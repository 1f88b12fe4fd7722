"""POST /api/v1/subscribers/lookup: the one place where an identity in the clear comes in.

It is hashed and forgotten: neither log nor audit nor error message repeats it. It comes in the body
of a POST, since addresses of requests end up in logs and histories.
"""

import asyncio
from functools import partial
from typing import Final

from aiohttp import web
from pydantic import BaseModel, ValidationError

from collector.errors import ProblemError
from collector.identity import audit
from collector.identity.authentication import IDENTITY
from collector.identity.operations import Operation, Role
from collector.identity.pseudonym import SubscriberIdentity, subscriber_id
from collector.identity.state import StateDatabase

_MAX_BODY_BYTES: Final = 4096
_BODY_TIMEOUT_S: Final = 10.0


class LookupAnswer(BaseModel):
    """The pseudonym under which records of the subscriber stand."""

    subscriber_id: str


class Lookup:
    """Answers look-ups; without a site key every one is a 501."""

    def __init__(self, database: StateDatabase, site_key: bytes | None) -> None:
        self._database = database
        self._site_key = site_key

    def operations(self) -> list[Operation]:
        """Return the one operation of the look-up."""
        return [
            Operation(
                "POST",
                "/api/v1/subscribers/lookup",
                "Pseudonym of a subscriber known by IMSI, MSISDN or address; audited",
                self.handle,
                role=Role.READER,
                body=SubscriberIdentity,
                response=LookupAnswer,
            )
        ]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one look-up and note who asked for whom."""
        if self._site_key is None:
            raise ProblemError(
                501, "Not Implemented", "look-ups need site_key_file in the configuration"
            )
        identity = await _identity(request)
        found = subscriber_id(self._site_key, identity)
        who = request[IDENTITY]
        await self._database.run(
            partial(
                audit.record,
                who=f"{who.name} ({who.token_id or 'no token'})",
                what=f"subscriber lookup by {identity.kind}",
                subject=found,
            )
        )
        return web.json_response({"subscriber_id": found}, headers={"Cache-Control": "no-store"})


async def _identity(request: web.Request) -> SubscriberIdentity:
    if request.content_type != "application/json":
        raise ProblemError(415, "Unsupported Media Type", "send application/json")
    try:
        return SubscriberIdentity.model_validate_json(await _body(request))
    except ValidationError as error:
        problems = "; ".join(
            ".".join(map(str, problem["loc"])) + ": " + problem["msg"]
            for problem in error.errors(include_input=False, include_url=False)
        )
        # Not chained: the cause must not carry the identity into a log.
        raise ProblemError(400, "Bad Request", problems.removeprefix(": ")) from None


async def _body(request: web.Request) -> bytes:
    body = bytearray()
    async with asyncio.timeout(_BODY_TIMEOUT_S):
        while chunk := await request.content.readany():
            body += chunk
            if len(body) > _MAX_BODY_BYTES:
                raise ProblemError(413, "Content Too Large", "a look-up is at most 4096 bytes")
    return bytes(body)
