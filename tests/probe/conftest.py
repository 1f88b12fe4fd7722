"""A collector to ship to, and configurations that point at it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zstandard
from aiohttp import web
from aiohttp.test_utils import TestServer

from probe.config import (
    CollectorConfig,
    FileCapture,
    InterfaceCapture,
    MetricsConfig,
    ProbeConfig,
    SpoolConfig,
)
from probe.record import codec
from probe.settings import ListenAddress

TOKEN = "probe-token"


@dataclass
class Collector:
    """Takes batches over HTTP as the real one does; `answers` are given first, then 200."""

    answers: list[web.Response | str] = field(default_factory=list)
    batches: dict[int, codec.Batch] = field(default_factory=dict)
    requests: list[dict[str, str]] = field(default_factory=list)
    token: str = TOKEN
    delay_s: float = 0.0
    most_at_once: int = 0
    url: str = ""
    requested: asyncio.Event = field(default_factory=asyncio.Event)
    stored: asyncio.Event = field(default_factory=asyncio.Event)
    _now: int = 0

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append(dict(request.headers))
        self.requested.set()
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await asyncio.sleep(self.delay_s)
            return self._answer(request, body)
        finally:
            self._now -= 1

    def _answer(self, request: web.Request, body: bytes) -> web.Response:
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, web.Response):
                return answer
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"title": "Unauthorized"}, status=401)
        batch = codec.decode(zstandard.ZstdDecompressor().decompress(body))
        duplicate = batch.sequence in self.batches
        self.batches[batch.sequence] = batch
        self.stored.set()
        return web.json_response({"duplicate": duplicate})


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    fake = Collector()
    application = web.Application(client_max_size=1 << 24)
    application.add_routes([web.post("/api/v1/batches", fake.receive)])
    # No middleware decompresses: the body is read as it came.
    server = TestServer(application)
    await server.start_server(auto_decompress=False)
    fake.url = str(server.make_url("")).rstrip("/")
    yield fake
    await server.close()


@pytest.fixture
def probe_config(tmp_path: Path) -> Callable[..., ProbeConfig]:
    """Return a function that makes a configuration; changes go to its collector section."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "key").write_text("site key\n")

    def make(*urls: str, live: bool = False, **changes: Any) -> ProbeConfig:
        capture = (
            InterfaceCapture(interface="eth1", capture_point="tap")
            if live
            else FileCapture(file=tmp_path / "x.pcap", capture_point="tap")
        )
        return ProbeConfig(
            probe_id="test-probe",
            capture=(capture,),
            site_key_file=tmp_path / "key",
            spool=SpoolConfig(path=tmp_path / "spool"),
            collector=CollectorConfig(
                urls=urls, token_file=tmp_path / "token", **{"stop_timeout": "300ms", **changes}
            ),
            metrics=MetricsConfig(listen=ListenAddress("127.0.0.1", 0)),
        )

    return make
