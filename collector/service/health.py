"""What watches the collector: /healthz, /readyz and /metrics."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from aiohttp import web

from collector.errors import CollectorError
from collector.identity.operations import Operation, Role
from collector.identity.problem import problem_response, unavailable
from collector.metrics import Metrics

_CHECK_TIMEOUT_S: Final = 5.0
_REMEMBER_S: Final = 1.0  # the endpoint is open to all: it must not load the store with questions

_log = logging.getLogger(__name__)

Check = Callable[[], Awaitable[object]]


class Health:
    """Answers for the process (alive) and for what it stands on (ready)."""

    def __init__(self, checks: dict[str, Check], metrics: Metrics) -> None:
        self._checks = checks
        self._metrics = metrics
        self._asked_at = -_REMEMBER_S
        self._failed: list[str] = []
        self._lock = asyncio.Lock()

    def operations(self) -> list[Operation]:
        """Return the operations for whoever watches; only the metrics need a token."""
        return [
            Operation("GET", "/healthz", "Is the process alive?", self._healthz, role=None),
            Operation("GET", "/readyz", "Do store and state answer?", self._readyz, role=None),
            Operation("GET", "/metrics", "Metrics for Prometheus", self._expose, role=Role.READER),
        ]

    async def _healthz(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "alive"})

    async def _readyz(self, _: web.Request) -> web.StreamResponse:
        async with self._lock:
            if monotonic() >= self._asked_at + _REMEMBER_S:
                self._failed = [name for name in self._checks if not await self._answers(name)]
                self._asked_at = monotonic()
        if self._failed:
            return problem_response(unavailable(f"no answer from: {', '.join(self._failed)}"))
        return web.json_response({"status": "ready"})

    async def _answers(self, name: str) -> bool:
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                await self._checks[name]()
        except (CollectorError, TimeoutError) as error:
            _log.warning("%s does not answer: %s", name, error or "timed out")
            return False
        return True

    async def _expose(self, _: web.Request) -> web.StreamResponse:
        return web.Response(
            body=self._metrics.exposition(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )
