"""HTTP operations as data: the rooms list theirs; the service mounts, guards, documents them."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from aiohttp import web
from pydantic import BaseModel


class Role(StrEnum):
    """What a token is good for. Each role may do what its name says and nothing else."""

    PROBE = "probe"  # send batches, as the probe that the token names
    READER = "reader"  # ask every read endpoint
    ADMIN = "admin"  # read, and change what the collector keeps


@dataclass(frozen=True)
class Operation:
    """One method of one path. `role` None means open to everyone (health checks, the portal)."""

    method: str
    path: str  # aiohttp's form, "/api/v1/cells/{cell_id}"
    summary: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    role: Role | None = Role.READER
    query: type[BaseModel] | None = None  # the query string, validated with extra="forbid"
    body: type[BaseModel] | None = None
    response: type[BaseModel] | None = None

    @property
    def route(self) -> str:
        """The path without the patterns of its variables: as routers and OpenAPI name it."""
        return re.sub(r"\{(\w+):[^{}]*(?:\{[^{}]*\}[^{}]*)*\}", r"{\1}", self.path)
