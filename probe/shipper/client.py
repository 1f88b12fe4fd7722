"""One sending of one batch over HTTP, and what the collector's answer means for it."""

import asyncio
import email.utils
import json
import ssl
import time
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

import aiohttp

from probe import __version__
from probe.config import ClientTls, CollectorConfig
from probe.errors import ConfigError, ShipperError
from probe.settings import read_secret

MAX_ANSWER_BYTES: Final = 64 << 10  # of an answer's body; only a sentence of it is ever used
_MAX_RETRY_AFTER_S: Final = 3600.0
_REFUSED_FOR_GOOD: Final = frozenset({400, 409, 413, 415})
_UNAUTHORIZED: Final = frozenset({401, 403})


class Verdict(StrEnum):
    """What to do with the batch."""

    STORED = "stored"  # the collector has it
    DUPLICATE = "duplicate"  # it had it already
    REFUSED = "refused"  # it will never take it: quarantine
    RETRY = "retry"  # keep it and try again


@dataclass(frozen=True)
class Answer:
    """The outcome of one sending."""

    verdict: Verdict
    detail: str
    retry_after_s: float | None = None


class CollectorClient:
    """Speaks to the collectors of the configuration, the first of them while it answers."""

    def __init__(self, config: CollectorConfig) -> None:
        """Prepare the client; raises `ConfigError` or `ShipperError` on an unusable secret."""
        self._config = config
        self._token = _read_token(config)
        self._ssl = _ssl_context(config.tls)
        self._url = 0  # position in config.urls of the collector in use
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        total = self._config.timeout.total_seconds()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._config.in_flight, ssl=self._ssl),
            timeout=aiohttp.ClientTimeout(total=total, connect=min(10.0, total)),
            headers={"User-Agent": f"qoe-probe/{__version__}"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, payload: bytes) -> Answer:
        """Post a zstd-compressed batch once and return what came of it; never raises for it."""
        url = self._config.urls[self._url]
        try:
            answer = await self._post(url, payload)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            answer = Answer(Verdict.RETRY, f"{url}: {_network_error(error)}")
        if answer.verdict is Verdict.RETRY:  # another collector may be able to take it
            self._url = (self.url_in_use + 1) % len(self._config.urls)
        return answer

    @property
    def url_in_use(self) -> int:
        """The position in `urls` that the next sending goes to."""
        return self._url

    async def _post(self, url: str, payload: bytes) -> Answer:
        if self._session is None:
            raise ShipperError("the client is not open")
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/msgpack",
            "Content-Encoding": "zstd",
        }
        async with self._session.post(
            f"{url}/api/v1/batches", data=payload, headers=headers, allow_redirects=False
        ) as response:
            body = await response.content.read(MAX_ANSWER_BYTES)
            if response.status in _UNAUTHORIZED:
                await self._reread_token()
            return interpret(response.status, body, response.headers.get("Retry-After"))

    async def _reread_token(self) -> None:
        """A refused token may have been renewed on disk since it was read."""
        try:
            self._token = await asyncio.to_thread(_read_token, self._config)
        except (ConfigError, ShipperError):
            return  # keep the old one: the file may be in the middle of being replaced


def interpret(status: int, body: bytes, retry_after: str | None) -> Answer:
    """Return the meaning of an HTTP answer (docs/api.md, POST /api/v1/batches)."""
    detail = f"{status} {_detail(body)}".strip()
    if status == 200:
        return Answer(_stored(body), detail)
    if status in _REFUSED_FOR_GOOD:
        return Answer(Verdict.REFUSED, detail)
    return Answer(Verdict.RETRY, detail, _retry_after_s(retry_after))


def _stored(body: bytes) -> Verdict:
    document = _json(body)
    return Verdict.DUPLICATE if document.get("duplicate") is True else Verdict.STORED


def _detail(body: bytes) -> str:
    """Return the sentence in a problem document (RFC 9457), at most 200 characters of it."""
    document = _json(body)
    parts = [str(document[key]) for key in ("title", "detail") if key in document]
    return " ".join(": ".join(parts).split())[:200]


def _json(body: bytes) -> dict[str, object]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _retry_after_s(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110 10.2.3), at most an hour."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _MAX_RETRY_AFTER_S)
    try:
        moment = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(moment - time.time(), 0.0), _MAX_RETRY_AFTER_S)


def _network_error(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return "no answer in time" if isinstance(error, TimeoutError) else " ".join(text.split())


def _read_token(config: CollectorConfig) -> str:
    secret = read_secret(config.token_file)
    if not all(33 <= byte <= 126 for byte in secret):
        raise ShipperError(f"collector.token_file {config.token_file}: is not a token")
    return secret.decode("ascii")


def _ssl_context(tls: ClientTls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(tls.ca_file) if tls.ca_file else None)
        if tls.certificate_file is not None:
            context.load_cert_chain(tls.certificate_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ShipperError(f"collector.tls: {error.strerror or error}") from error
    return context
