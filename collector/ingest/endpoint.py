"""POST /api/v1/batches."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from aiohttp import web
from pydantic import BaseModel

from collector.errors import ProblemError
from collector.identity.authentication import IDENTITY
from collector.identity.operations import Operation, Role
from collector.identity.problem import unavailable
from collector.identity.state import StateDatabase
from collector.ingest import accepted, decoding
from collector.ingest.accepted import BatchId
from collector.ingest.admission import Admission
from collector.ingest.decoding import DecodedBatch
from collector.ingest.locks import KeyedLocks
from collector.metrics import Metrics, timed
from collector.store import StoredBatch

PATH: Final = "/api/v1/batches"


class BatchWriter(Protocol):
    """What ingest needs of the store: an insert that returns when the rows are durable.

    The same `token` inserted again must add nothing, whatever `received_at` says.
    """

    async def insert(self, entries: Sequence[StoredBatch], token: str) -> None: ...


@dataclass(frozen=True)
class IngestLimits:
    """Bounds of what batches may cost. Sizes in bytes, times in seconds."""

    max_sent: int
    max_decoded: int
    in_flight: int  # sent bytes of all batches that are not yet answered
    concurrency: int  # batches that are decoded or inserted at the same time
    body_timeout_s: float
    store_timeout_s: float


class BatchAnswer(BaseModel):
    """`duplicate`: the batch had been stored before, and this sending changed nothing."""

    duplicate: bool


class BatchEndpoint:
    """Takes batches; one for a service. `close` it when no request is left."""

    def __init__(
        self, store: BatchWriter, database: StateDatabase, metrics: Metrics, limits: IngestLimits
    ) -> None:
        self._store = store
        self._database = database
        self._metrics = metrics
        self._limits = limits
        self._admission = Admission(limits.in_flight, metrics.in_flight_bytes)
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._locks: KeyedLocks[BatchId] = KeyedLocks()
        self._decoders = ThreadPoolExecutor(limits.concurrency, thread_name_prefix="decode")

    def operations(self) -> list[Operation]:
        """Return the one operation of ingest."""
        return [
            Operation(
                "POST",
                PATH,
                "Send a batch of session records (msgpack; zstd, gzip or plain)",
                self.handle,
                role=Role.PROBE,
                response=BatchAnswer,
            )
        ]

    def close(self) -> None:
        """End the decoding threads."""
        self._decoders.shutdown(wait=True)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one sending of a batch, and count what became of it."""
        try:
            duplicate = await self._take(request)
        except ProblemError as problem:
            self._metrics.batches.labels(_OUTCOMES.get(problem.status, "refused")).inc()
            raise
        except Exception:
            self._metrics.batches.labels("failed").inc()
            raise
        self._metrics.batches.labels("duplicate" if duplicate else "accepted").inc()
        return web.json_response({"duplicate": duplicate})

    async def _take(self, request: web.Request) -> bool:
        encoding = _encoding(request)
        with self._admission.admitted(self._announced(request)):
            body = await self._body(request)
            self._metrics.received_bytes.inc(len(body))
            async with self._slot():
                decoded = await self._decoded(body, encoding)
                _check_sender(request, decoded)
                return await self._store_once(decoded)

    def _announced(self, request: web.Request) -> int:
        """Return the size to admit: as announced, or the largest allowed for a chunked body."""
        size = request.content_length
        if size is not None and size > self._limits.max_sent:
            raise self._too_large_sent()
        return self._limits.max_sent if size is None else size

    async def _body(self, request: web.Request) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                while chunk := await request.content.readany():
                    body += chunk
                    if len(body) > self._limits.max_sent:
                        raise self._too_large_sent()
        except (TimeoutError, ConnectionError, web.RequestPayloadError) as error:
            raise ProblemError(408, "Request Timeout", "the body did not come whole") from error
        return bytes(body)

    def _too_large_sent(self) -> ProblemError:
        limit = self._limits.max_sent
        return ProblemError(413, "Content Too Large", f"a batch is at most {limit} bytes as sent")

    def _slot(self) -> AbstractAsyncContextManager[None]:
        return _Slot(self._slots, self._limits.store_timeout_s)

    async def _decoded(self, body: bytes, encoding: str) -> DecodedBatch:
        work = partial(decoding.decode, body, encoding, self._limits.max_decoded)
        with timed(self._metrics.decode_seconds):
            return await asyncio.get_running_loop().run_in_executor(self._decoders, work)

    async def _store_once(self, decoded: DecodedBatch) -> bool:
        """Store the batch unless it was; return whether it was."""
        batch = decoded.batch
        batch_id = BatchId(batch.probe_id, batch.epoch, batch.sequence)
        async with self._locks.held(batch_id):
            known = await self._database.read(partial(accepted.digest_of, batch=batch_id))
            if known is not None and known != decoded.digest:
                raise ProblemError(
                    409, "Conflict", f"batch {batch_id} was accepted with other content"
                )
            if known is None:
                await self._insert(batch_id, decoded)
        return known is not None

    async def _insert(self, batch_id: BatchId, decoded: DecodedBatch) -> None:
        received_at = time.time_ns()
        entry = StoredBatch(decoded.batch, received_at)
        with timed(self._metrics.insert_seconds):
            async with asyncio.timeout(self._limits.store_timeout_s):
                await self._store.insert([entry], str(batch_id))
        await self._database.run(partial(accepted.mark, batch=batch_id, digest=decoded.digest))
        self._metrics.records.inc(decoded.batch.rows)
        self._count_attribution(batch_id.probe_id, decoded)
        self._metrics.last_batch_time.labels(batch_id.probe_id).set(received_at / 1e9)

    def _count_attribution(self, probe_id: str, decoded: DecodedBatch) -> None:
        found = decoded.attributed
        self._metrics.attributable_bytes.labels(probe_id).inc(found.base)
        for to in ("subscriber", "cell", "ran_node"):
            self._metrics.attributed_bytes.labels(probe_id, to).inc(getattr(found, to))


_OUTCOMES: Final = {
    400: "malformed",
    403: "foreign",
    408: "incomplete",
    409: "conflict",
    413: "too_large",
    415: "unsupported",
    503: "busy",
}


class _Slot:
    """One of the places to decode and insert; a 503 if none comes free in time."""

    def __init__(self, slots: asyncio.Semaphore, timeout_s: float) -> None:
        self._slots = slots
        self._timeout_s = timeout_s

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise unavailable("the collector is busy, send this batch again later") from error

    async def __aexit__(self, *_: object) -> None:
        self._slots.release()


def _encoding(request: web.Request) -> str:
    """Return the Content-Encoding, checked together with the Content-Type."""
    if request.content_type != decoding.CONTENT_TYPE:
        raise ProblemError(415, "Unsupported Media Type", f"send {decoding.CONTENT_TYPE}")
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in decoding.ENCODINGS:
        allowed = ", ".join(decoding.ENCODINGS)
        raise ProblemError(
            415,
            "Unsupported Media Type",
            f"Content-Encoding is none of {allowed}",
            {"Accept-Encoding": allowed},
        )
    return encoding


def _check_sender(request: web.Request, decoded: DecodedBatch) -> None:
    if decoded.batch.probe_id != request[IDENTITY].name:
        raise ProblemError(403, "Forbidden", "the token is another probe's than the batch")
