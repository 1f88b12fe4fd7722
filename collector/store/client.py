"""Connections to the engine: one for each thread, made when the thread first needs it."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from collector.errors import StoreError
from collector.store.options import StoreOptions

logger = logging.getLogger(__name__)

Client = Any  # clickhouse_connect.driver.client.Client; the package is not type-checked here
R = TypeVar("R")

CONNECT_TIMEOUT_S: Final = 10
INSERT_TIMEOUT_S: Final = 300

# Each insert is one block on its own: nothing gathers it with others, views are filled before it is
# acknowledged, and the same token again fills only what is missing.
INSERT_SETTINGS: Final = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "materialized_views_ignore_errors": 0,
    "max_partitions_per_insert_block": 100,
    "input_format_null_as_default": 1,
}


def insert_settings(options: StoreOptions) -> dict[str, Any]:
    """Return the settings of connections that insert."""
    quorum = {"insert_quorum": "auto"} if options.cluster else {}
    return {**INSERT_SETTINGS, **quorum, "max_memory_usage": options.insert_memory_bytes}


def query_settings(options: StoreOptions) -> dict[str, Any]:
    """Return the settings of connections that ask: limits, and nothing can be written."""
    return {
        "max_execution_time": options.query_timeout_s,
        "timeout_overflow_mode": "throw",
        "max_memory_usage": options.query_memory_bytes,
        "max_result_rows": 1_000_000,
        "readonly": 2,
    }


def connect(options: StoreOptions, settings: Mapping[str, Any], *, create: bool = False) -> Client:
    """Return a new connection to the store's database, made if `create`. Raises `StoreError`."""
    with translated("the store cannot be opened"):
        if options.engine == "chdb":
            client = clickhouse_connect.get_client(interface="chdb", path=str(options.path))
        else:
            client = _connect_http(options)
    try:
        with translated("the store cannot be opened"):
            if create:
                _create_database(client, options)
            client.database = options.database
            for name, value in settings.items():
                client.set_client_setting(name, value)
    except StoreError:
        client.close()
        raise
    return client


def _create_database(client: Client, options: StoreOptions) -> None:
    on_cluster = f" ON CLUSTER `{options.cluster}`" if options.cluster else ""
    client.command(f"CREATE DATABASE IF NOT EXISTS `{options.database}`{on_cluster}")


def _connect_http(options: StoreOptions) -> Client:
    """Return a connection to the first server of the list that answers."""
    failure: Exception = StoreError("store.urls is empty")
    for url in options.urls:
        parts = urlsplit(url)
        try:
            return clickhouse_connect.get_client(
                interface=parts.scheme,
                host=parts.hostname,
                port=parts.port or (8443 if parts.scheme == "https" else 8123),
                username=options.user,
                password=options.password,
                autogenerate_session_id=False,
                connect_timeout=CONNECT_TIMEOUT_S,
                send_receive_timeout=max(INSERT_TIMEOUT_S, options.query_timeout_s + 10),
            )
        except OperationalError as error:
            logger.warning("store: %s does not answer: %s", parts.hostname, _first_line(error))
            failure = error
    raise failure


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise what the client raises as `StoreError` with one line of text."""
    try:
        yield
    except StoreError:
        raise
    except (ClickHouseError, RuntimeError, OSError, ValueError) as error:
        raise StoreError(f"{what}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:500]


class Connections:
    """The connections of one executor's threads."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[Client] = []

    def run(self, what: str, act: Callable[[Client], R]) -> R:
        """Return `act` of this thread's connection; after a lost connection the next is new."""
        client = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self._make()
            with self._lock:
                self._open.append(client)
        try:
            with translated(what):
                return act(client)
        except StoreError as error:
            if isinstance(error.__cause__, OperationalError | OSError):
                self._drop(client)
            raise

    def _drop(self, client: Client) -> None:
        self._local.client = None
        with self._lock:
            self._open.remove(client)
        with suppress(Exception):  # it is broken already
            client.close()

    def close(self) -> None:
        """Close every connection; the threads that used them must have ended."""
        with self._lock:
            clients, self._open = self._open, []
        for client in clients:
            with suppress(Exception):
                client.close()
