"""What the collector tells Prometheus about itself: qoe_collector_*."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

_SECONDS: Final = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The collector's counters, in a registry of its own so that two services never share one."""

    def __init__(self, version: str) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        Info("qoe_collector_build", "Version of the collector.", registry=registry).info(
            {"version": version}
        )
        self.batches = Counter(
            "qoe_collector_batches",
            "Batches by what became of them.",
            ("outcome",),
            registry=registry,
        )
        self.records = Counter(
            "qoe_collector_records", "Session records stored.", registry=registry
        )
        self.received_bytes = Counter(
            "qoe_collector_received_bytes", "Bytes of batches as sent.", registry=registry
        )
        self.in_flight_bytes = Gauge(
            "qoe_collector_in_flight_bytes",
            "Bytes of batches admitted and not yet answered, as sent.",
            registry=registry,
        )
        self.last_batch_time = Gauge(
            "qoe_collector_last_batch_time_seconds",
            "Unix time of the last batch accepted from a probe.",
            ("probe_id",),
            registry=registry,
        )
        self.decode_seconds = Histogram(
            "qoe_collector_decode_seconds",
            "Time to decompress, hash and check a batch.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.insert_seconds = Histogram(
            "qoe_collector_insert_seconds",
            "Time until the store says that a batch is durable.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.requests = Counter(
            "qoe_collector_http_requests",
            "HTTP requests by route and status.",
            ("method", "route", "status"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "qoe_collector_http_request_seconds",
            "Time to answer an HTTP request.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.refused = Counter(
            "qoe_collector_refused_requests",
            "Requests refused by authentication (missing, invalid) or by role.",
            ("reason",),
            registry=registry,
        )
        self.attributable_bytes = Counter(
            "qoe_collector_attributable_bytes",
            "Bytes of IP in stored records.",
            ("probe_id",),
            registry=registry,
        )
        self.attributed_bytes = Counter(
            "qoe_collector_attributed_bytes",
            "Bytes of IP in stored records that are known to be a subscriber's (not merely an"
            " address's), in a cell, at a base station (ran_node).",
            ("probe_id", "to"),
            registry=registry,
        )
        self.map_reloads = Counter(
            "qoe_collector_map_reloads",
            "Times that the identity maps were read again, by outcome (loaded, refused).",
            ("outcome",),
            registry=registry,
        )
        self.open_incidents = Gauge(
            "qoe_collector_open_incidents", "Incidents that are open now.", registry=registry
        )
        self.evaluation_failures = Counter(
            "qoe_collector_incident_evaluation_failures",
            "Incident evaluations that the store or the state failed.",
            registry=registry,
        )

    def exposition(self) -> bytes:
        """Return all of it in the Prometheus text format."""
        return generate_latest(self.registry)


@contextmanager
def timed(histogram: Histogram) -> Iterator[None]:
    """Observe how long the block takes, in seconds, when it ends without error."""
    start = perf_counter()
    yield
    histogram.observe(perf_counter() - start)
