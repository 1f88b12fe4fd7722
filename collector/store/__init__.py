"""The store: chDB in process or a ClickHouse cluster, one schema and one SQL."""

from collector.store.arrow import Attributed, Classify, StoredBatch, attributed, refusal
from collector.store.options import StoreOptions
from collector.store.store import Store

__all__ = [
    "Attributed",
    "Classify",
    "Store",
    "StoreOptions",
    "StoredBatch",
    "attributed",
    "refusal",
]
