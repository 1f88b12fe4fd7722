"""Who asks, and may they: bearer tokens (RFC 6750) checked against the role of each operation."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiohttp import web
from yarl import URL

from collector.config import is_loopback
from collector.errors import ProblemError, StateError
from collector.identity import tokens
from collector.identity.operations import Operation, Role
from collector.identity.problem import Handler
from collector.identity.state import StateDatabase
from collector.identity.tokens import Identity

CACHE_S: Final = 1.0  # a revoked token is refused at most this much later, plus one look-up
CACHE_ENTRIES: Final = 4096
NOTE_USE_EVERY_S: Final = 60.0  # last_used_at is this coarse, so that reading seldom writes

ANONYMOUS: Final = Identity(Role.READER, "anonymous", None)
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="edgeqoe"'}

IDENTITY: Final = web.RequestKey("identity", Identity)


class Authenticator:
    """Knows whose token a text is, with a short memory so that SQLite is not asked each time."""

    def __init__(
        self, database: StateDatabase, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, Identity | None]] = OrderedDict()
        self._noted: dict[str, float] = {}

    async def identify(self, token: str) -> Identity | None:
        """Return whose valid token this is, None if it is not one. Raises `StateError`."""
        key = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        until, identity = self._known.get(key, (0.0, None))
        if self._clock() < until:
            return identity
        # The time of the question counts, not that of the answer: a revocation may lie between.
        until = self._clock() + CACHE_S
        identity = await self._database.read(partial(tokens.identify, token=token))
        self._remember(key, until, identity)
        if identity is not None:
            await self._note_use(identity)
        return identity

    def _remember(self, key: bytes, until: float, identity: Identity | None) -> None:
        self._known[key] = (until, identity)
        self._known.move_to_end(key)
        while len(self._known) > CACHE_ENTRIES:
            self._known.popitem(last=False)

    async def _note_use(self, identity: Identity) -> None:
        token_id, now = str(identity.token_id), self._clock()
        if now < self._noted.get(token_id, -NOTE_USE_EVERY_S) + NOTE_USE_EVERY_S:
            return
        self._noted[token_id] = now
        # That a use cannot be noted is no reason to refuse it.
        with suppress(StateError):
            await self._database.run(partial(tokens.note_use, token_id=token_id))


@dataclass(frozen=True)
class Guard:
    """The middleware that lets a request through to its operation, or answers 401 or 403."""

    authenticator: Authenticator
    roles: Mapping[tuple[str, str], Role | None]  # (method, route) to the role that it needs
    open_on_loopback: bool
    refused: Callable[[str], None]  # called with the reason of each refusal

    @web.middleware
    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Hand the request on with its `IDENTITY`, or raise the 401 or 403."""
        needed = self._needed(request)
        if needed is not None:
            request[IDENTITY] = await self._admitted(request, needed)
        return await handler(request)

    def _needed(self, request: web.Request) -> Role | None:
        resource = request.match_info.route.resource
        if resource is None:
            return None  # 404 and 405 are answered by the router
        method = "GET" if request.method == "HEAD" else request.method
        # A route that no operation describes is open only if it says so: fail closed.
        return self.roles.get((method, resource.canonical), Role.ADMIN)

    async def _admitted(self, request: web.Request, needed: Role) -> Identity:
        if "Authorization" not in request.headers:
            if needed is Role.READER and self.open_on_loopback and _is_local(request):
                return ANONYMOUS
            raise self._unauthorized("missing", "send the header Authorization: Bearer TOKEN")
        identity = await self.authenticator.identify(_bearer(request))
        if identity is None:
            raise self._unauthorized("invalid", "the token is unknown or revoked")
        if not may(identity.role, needed):
            self.refused("role")
            raise ProblemError(403, "Forbidden", f"this needs a token of role {needed}")
        return identity

    def _unauthorized(self, reason: str, detail: str) -> ProblemError:
        self.refused(reason)
        return ProblemError(401, "Unauthorized", detail, _CHALLENGE)


def may(role: Role, needed: Role) -> bool:
    """Say whether `role` may do what needs `needed`: its own, and an admin may read too."""
    return role is needed or (role is Role.ADMIN and needed is Role.READER)


def roles_of(operations: Iterable[Operation]) -> dict[tuple[str, str], Role | None]:
    """Return the role that each (method, route) needs."""
    return {(operation.method, operation.route): operation.role for operation in operations}


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers["Authorization"].partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


_FORWARDING: Final = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


def _is_local(request: web.Request) -> bool:
    """Say whether a program on this host asks, by a name of this host, and not through a proxy.

    The Host header counts because a browser on this host can be brought to send requests here by
    a foreign page whose name resolves to 127.0.0.1 (DNS rebinding); its Host is the foreign name.
    """
    if any(name in request.headers for name in _FORWARDING):
        return False
    return is_loopback(request.remote or "") and is_loopback(_host(request))


def _host(request: web.Request) -> str:
    try:
        return URL.build(scheme="http", authority=request.host).host or ""
    except ValueError:
        return ""
