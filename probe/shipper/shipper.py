"""The workers that take batches out of the spool and see each one through to its end.

The back-off is our own, not a decorator's: several sleepers must wake at once when the agent
stops, the collector's Retry-After goes before the schedule, and a batch may give way while it
waits. It is exponential with full jitter, so that a thousand probes do not return together.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Final, Protocol

from probe.errors import SpoolError
from probe.metrics import Metrics
from probe.shipper.client import Answer, CollectorClient, Verdict

log = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 0.5
_POLL_S: Final = 1.0  # looked at again this often even if nobody wakes us


class Outbox(Protocol):
    """What the shipper needs of a spool. Calls may block on the disk: they run in threads."""

    def next_after(self, sequence: int) -> int | None: ...
    def read(self, sequence: int) -> bytes | None: ...
    def acknowledge(self, sequence: int) -> bool: ...
    def refuse(self, sequence: int, reason: str) -> bool: ...


class Shipper:
    """Sends what the outbox holds, up to `in_flight` batches at a time, in order of sequence."""

    def __init__(
        self,
        outbox: Outbox,
        client: CollectorClient,
        metrics: Metrics,
        *,
        in_flight: int,
        longest_retry_s: float,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._outbox = outbox
        self._client = client
        self._metrics = metrics
        self._in_flight = in_flight
        self._longest_retry_s = longest_retry_s
        self._jitter = jitter
        self._last_taken = -1
        self._taking = asyncio.Lock()
        self._work = asyncio.Event()
        self._done = asyncio.Event()
        self._hurry = asyncio.Event()
        self._busy = 0
        self._complained = False

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._in_flight):
                group.create_task(self._worker())

    def wake(self) -> None:
        """Tell the workers that the outbox holds something new."""
        self._work.set()

    async def drained(self) -> None:
        """Return once everything in the outbox is acknowledged, refused or gone."""
        while True:
            self._done.clear()
            if not self._busy and await asyncio.to_thread(self._outbox.next_after, -1) is None:
                return
            await _wait_for(self._done, _POLL_S)

    def hurry(self) -> None:
        """Cut waits short from now on: the agent is about to stop."""
        self._hurry.set()

    async def _worker(self) -> None:
        while True:
            sequence = await self._take()
            try:
                await self._see_through(sequence)
            finally:
                self._busy -= 1
                self._metrics.in_flight.set(self._busy)
                self._done.set()

    async def _take(self) -> int:
        """Wait for the next batch that no worker has, and return its sequence."""
        async with self._taking:
            while True:
                self._work.clear()
                sequence = await asyncio.to_thread(self._outbox.next_after, self._last_taken)
                if sequence is not None:
                    self._last_taken = sequence
                    self._busy += 1
                    self._metrics.in_flight.set(self._busy)
                    return sequence
                await _wait_for(self._work, _POLL_S)

    async def _see_through(self, sequence: int) -> None:
        """Send the batch until the collector has decided on it or the spool gave it up."""
        attempt = 0
        while True:
            try:
                payload = await asyncio.to_thread(self._outbox.read, sequence)
            except SpoolError as error:
                await self._wait(attempt, Answer(Verdict.RETRY, str(error)))
            else:
                if payload is None or await self._attempt(sequence, payload, attempt):
                    return
            attempt += 1

    async def _attempt(self, sequence: int, payload: bytes, attempt: int) -> bool:
        """Send once; True when the batch is done with."""
        started = time.monotonic()
        answer = await self._client.send(payload)
        self._metrics.send_seconds.observe(time.monotonic() - started)
        self._metrics.batches_sent.labels(answer.verdict).inc()
        if answer.verdict is Verdict.RETRY:
            await self._wait(attempt, answer)
            return False
        if answer.verdict is Verdict.REFUSED:
            await asyncio.to_thread(self._outbox.refuse, sequence, answer.detail)
            return True
        await asyncio.to_thread(self._outbox.acknowledge, sequence)
        self._metrics.bytes_sent.inc(len(payload))
        self._say_recovered()
        return True

    async def _wait(self, attempt: int, answer: Answer) -> None:
        self._say_failing(answer)
        delay_s = self._delay_s(attempt, answer.retry_after_s)
        if self._hurry.is_set():
            await asyncio.sleep(min(delay_s, FIRST_RETRY_S))
        else:
            await _wait_for(self._hurry, delay_s)

    def _delay_s(self, attempt: int, retry_after_s: float | None) -> float:
        """Return the seconds to wait after failure number `attempt` (from 0)."""
        ceiling = min(self._longest_retry_s, FIRST_RETRY_S * 2.0 ** min(attempt, 32))
        if retry_after_s is not None:
            return retry_after_s + self._jitter(0.0, min(1.0, ceiling))
        return self._jitter(ceiling / 10, ceiling)

    def _say_failing(self, answer: Answer) -> None:
        """Log the first failure in a row only: a night without a collector is one line."""
        if not self._complained:
            self._complained = True
            log.warning("ship failing=%r: batches stay in the spool", answer.detail)

    def _say_recovered(self) -> None:
        if self._complained:
            self._complained = False
            log.info("ship recovered=yes")


async def _wait_for(event: asyncio.Event, longest_s: float) -> None:
    """Wait for `event`, at most `longest_s`."""
    try:
        async with asyncio.timeout(longest_s):
            await event.wait()
    except TimeoutError:
        return
