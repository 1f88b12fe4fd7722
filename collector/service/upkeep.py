"""Work on what the collector keeps: erasure, checks, and forgetting what is old enough."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from sqlite3 import Connection
from typing import Final

from collector.config import CollectorConfig
from collector.errors import CollectorError
from collector.identity import audit
from collector.identity.state import StateDatabase
from collector.incident import book
from collector.ingest import accepted
from collector.service import consistency
from collector.service.consistency import Thinning
from collector.store import Store
from collector.store.links import person

PRUNE_EVERY_S: Final = 3600.0
_ERASURE_BEGUN: Final = "subscriber erasure begun"
_ERASED: Final = "subscriber erased"
_MOST_PSEUDONYMS: Final = 100_000  # of one person: a phone gets an address or more a day

_log = logging.getLogger(__name__)


async def erase_subscriber(
    store: Store, database: StateDatabase, subscriber_id: str, who: str
) -> None:
    """Delete every record and rollup of the subscriber, and note who had it done.

    Links are followed: what other pseudonyms of the person saw while they were the person's goes
    too. It is noted before as well, so that an erasure cut short is known too.
    """
    note = partial(audit.record, who=who, subject=subscriber_id)
    await database.run(partial(note, what=_ERASURE_BEGUN))
    whose = await person(store.fetch, subscriber_id, most=_MOST_PSEUDONYMS)
    await store.erase_person(whose)
    await database.run(partial(note, what=_ERASED))


async def check_store(store: Store, database: StateDatabase, config: CollectorConfig) -> list[str]:
    """Return a line for whatever is wrong with the store's files and sums."""
    last_erasure = await database.read(partial(audit.last, what=_ERASURE_BEGUN))
    return await consistency.check(store, Thinning(config.retention.raw, last_erasure))


async def prune(config: CollectorConfig, database: StateDatabase) -> None:
    """Forget accepted batches, audit entries and closed incidents older than their retention."""
    retention = config.retention
    await _prune(database, accepted.prune, retention.accepted)
    await _prune(database, audit.prune, retention.audit)
    await _prune(database, book.prune, retention.incidents)


async def _prune(
    database: StateDatabase, step: Callable[[Connection, int], int], keep: timedelta
) -> None:
    before = int(time.time() - keep.total_seconds())
    while await database.run(lambda connection: step(connection, before)):
        pass  # each step is a short transaction, so that ingest gets its turn between two


async def try_prune(config: CollectorConfig, database: StateDatabase) -> None:
    """As `prune`; what fails is logged and tried again next time."""
    try:
        await prune(config, database)
    except CollectorError as error:
        _log.warning("retention of the state: %s", error)
