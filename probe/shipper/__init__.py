"""The shipper: sends spooled batches to the collector until each one is acknowledged."""

from probe.shipper.client import Answer, CollectorClient, Verdict
from probe.shipper.shipper import Outbox, Shipper

__all__ = ["Answer", "CollectorClient", "Outbox", "Shipper", "Verdict"]
