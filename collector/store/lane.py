"""A bounded executor: a few threads and a bounded queue in front of them."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from collector.errors import StoreError

R = TypeVar("R")


class Lane:
    """Runs blocking calls off the event loop, at most `threads` at once and `waiting` in line."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._name = name
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"store-{name}")
        self._limit = threads + waiting
        self._lock = threading.Lock()
        self._pending = 0

    async def run(self, call: Callable[[], R]) -> R:
        """Return what `call` returns. Raises `StoreError` at once if the line is full.

        A caller that stops waiting leaves its call to finish: an insert is never half done.
        """
        self._enter()
        try:
            future = self._executor.submit(call)
        except RuntimeError as error:
            self._leave()
            raise StoreError("the store is closed") from error
        future.add_done_callback(self._leave)
        return await asyncio.shield(asyncio.wrap_future(future))

    def _enter(self) -> None:
        with self._lock:
            if self._pending >= self._limit:
                raise StoreError(f"the store is busy: {self._pending} {self._name} calls wait")
            self._pending += 1

    def _leave(self, _: "Future[R] | None" = None) -> None:
        with self._lock:
            self._pending -= 1

    def close(self) -> None:
        """Let the calls in line finish, then end the threads."""
        self._executor.shutdown(wait=True)
