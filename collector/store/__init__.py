"""The store: chDB in process or a ClickHouse cluster, one schema and one SQL."""

from collector.store.arrow import Classify, StoredBatch, refusal
from collector.store.options import StoreOptions
from collector.store.store import Store

__all__ = ["Classify", "Store", "StoreOptions", "StoredBatch", "refusal"]
