"""Ends the collector without cutting off a batch that is being sent.

aiohttp's own shutdown waits for handlers but drops what their bodies have still to bring, so a
request with a body is waited for before that shutdown begins.
"""

import asyncio

from aiohttp import web
from aiohttp.typedefs import Middleware

from collector.identity.problem import Handler

_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})


class Drain:
    """Counts the requests with a body that are in flight, and waits for the last of them."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._ending = False

    def middleware(self) -> Middleware:
        """Return the middleware that counts."""

        @web.middleware
        async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.method in _WITHOUT_BODY:
                return await handler(request)
            self._enter()
            try:
                response = await handler(request)
            finally:
                self._leave()
            if self._ending:
                response.force_close()  # or the client would send its next batch into the end
            return response

        return counted

    async def finished(self, timeout_s: float) -> bool:
        """Wait for the requests in flight, at most so long; return whether all have ended."""
        self._ending = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def _enter(self) -> None:
        self._in_flight += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()
