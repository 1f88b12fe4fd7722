"""Prometheus metrics of the probe (`qoe_probe_*`) and the small server that shows them.

Counters that other rooms keep (the engine's, the spool's) are read when somebody asks, so nothing
is counted twice and nothing is copied while packets flow.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from probe import __version__
from probe.errors import ProbeError
from probe.settings import ListenAddress

Readings = Callable[[], Mapping[str, int | float]]
# of each worker: capture point, number, state of the link, numbers by name, interface
CaptureReadings = Callable[[], Sequence[tuple[str, int, str, Mapping[str, int], str]]]

LINK_STATES: Final = ("up", "no_carrier", "down", "gone")


class Metrics:
    """What the agent and the shipper count themselves, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.batches_sent = Counter(
            "qoe_probe_batches_sent",
            "Answers of the collector to batches, by meaning",
            ["answer"],
            registry=self.registry,
        )
        self.bytes_sent = Counter(
            "qoe_probe_sent_bytes",
            "Compressed bytes of acknowledged batches",
            registry=self.registry,
        )
        self.send_seconds = Histogram(
            "qoe_probe_send_seconds", "Time until the collector answered", registry=self.registry
        )
        self.bodies_unusable = Counter(
            "qoe_probe_bodies_unusable",
            "Batches of the engine that violate the record contract",
            registry=self.registry,
        )
        self.map_reloads = Counter(
            "qoe_probe_attribution_reloads",
            "Times that the attribution map was read again, by outcome (loaded, refused)",
            ["outcome"],
            registry=self.registry,
        )
        self.bearer_files = Counter(
            "qoe_probe_bearer_files",
            "Files of bearers: loaded or refused at the start, saved or unsaved at the end",
            ["outcome"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "qoe_probe_batches_in_flight", "Batches being sent now", registry=self.registry
        )
        build = Gauge("qoe_probe_build_info", "Version", ["version"], registry=self.registry)
        build.labels(__version__).set(1)

    def show_counters(self, prefix: str, readings: Readings) -> None:
        """Show what `readings` returns, at each request, as counters `qoe_probe_PREFIX_NAME`."""
        self.registry.register(_Readings(readings, partial(_each_by_name, prefix, True)))

    def show_gauges(self, prefix: str, readings: Readings) -> None:
        """Show what `readings` returns, at each request, as gauges `qoe_probe_PREFIX_NAME`."""
        self.registry.register(_Readings(readings, partial(_each_by_name, prefix, False)))

    def show_by_reason(self, name: str, text: str, readings: Readings) -> None:
        """Show what `readings` returns as the counter `qoe_probe_NAME`, labelled by reason."""
        self.registry.register(_Readings(readings, partial(_by_reason, name, text)))

    def show_captures(self, readings: CaptureReadings) -> None:
        """Show what `readings` returns as `qoe_probe_capture_*`, labelled by interface."""
        self.registry.register(_Captures(readings))

    def show_loads(self, loads: Callable[[], Sequence[tuple[str, str, int, int]]]) -> None:
        """Show what each capture sheds (0 nothing, 1 content, 2 round trips), its ring, its lag."""
        self.registry.register(_Loads(loads))


SHEDDING: Final = ("nothing", "content", "round_trips")


class _Loads(Collector):
    """(capture point, what is shed, percent of the ring that waits, lag in ns) as gauges.

    Of several workers of one capture point the one that fares worst is shown.
    """

    def __init__(self, loads: Callable[[], Sequence[tuple[str, str, int, int]]]) -> None:
        self._loads = loads

    def collect(self) -> Iterator[Metric]:
        worst: dict[str, tuple[int, int, float]] = {}
        for point, shed, waiting, lag_ns in self._loads():
            known = worst.get(point, (0, 0, 0.0))
            load = (SHEDDING.index(shed), waiting, lag_ns / 1e9)
            worst[point] = (
                max(known[0], load[0]), max(known[1], load[1]), max(known[2], load[2])
            )  # fmt: skip
        texts = {
            "shedding": "What is left out: 0 nothing, 1 content, 2 round trips too",
            "ring_waiting_percent": "Share of the capture ring that waits to be read",
            "lag_seconds": "Age of the packet worked on while others wait",
        }
        for place, (name, text) in enumerate(texts.items()):
            family = GaugeMetricFamily(f"qoe_probe_{name}", text, labels=["capture_point"])
            for point, load in worst.items():
                family.add_metric([point], load[place])
            yield family

    def describe(self) -> list[Metric]:
        return []


class _Captures(Collector):
    """Live captures; the numbers of the workers of one interface are added up."""

    def __init__(self, readings: CaptureReadings) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        labels = ["capture_point", "interface"]
        link = GaugeMetricFamily(
            "qoe_probe_capture_link", "1 for the state of the interface", labels=[*labels, "state"]
        )
        sums: dict[str, dict[tuple[str, str], int]] = {}
        for point, worker, state, numbers, interface in self._readings():
            if worker == 0:
                for each in LINK_STATES:
                    link.add_metric([point, interface, each], float(each == state))
            for name, number in numbers.items():
                by_interface = sums.setdefault(name, {})
                key = (point, interface)
                by_interface[key] = by_interface.get(key, 0) + number
        yield link
        for name, by_interface in sums.items():
            text = f"capture {name}".replace("_", " ")
            family = CounterMetricFamily(f"qoe_probe_capture_{name}", text, labels=labels)
            for key, number in by_interface.items():
                family.add_metric(list(key), number)
            yield family

    def describe(self) -> list[Metric]:
        return []


class _Readings(Collector):
    """Asks for numbers when it is asked itself."""

    def __init__(
        self, readings: Readings, present: Callable[[Mapping[str, int | float]], Iterator[Metric]]
    ) -> None:
        self._readings = readings
        self._present = present

    def collect(self) -> Iterator[Metric]:
        return self._present(self._readings())

    def describe(self) -> list[Metric]:
        return []  # names are known only once there is something to read


def _each_by_name(
    prefix: str, counters: bool, readings: Mapping[str, int | float]
) -> Iterator[Metric]:
    family = CounterMetricFamily if counters else GaugeMetricFamily
    for name, value in readings.items():
        text = f"{prefix} {name}".replace("_", " ")
        yield family(f"qoe_probe_{prefix}_{name}", text, value=value)


def _by_reason(name: str, text: str, readings: Mapping[str, int | float]) -> Iterator[Metric]:
    family = CounterMetricFamily(f"qoe_probe_{name}", text, labels=["reason"])
    for reason, value in readings.items():
        family.add_metric([reason], value)
    yield family


async def start_metrics_server(
    metrics: Metrics, listen: ListenAddress, healthy: Callable[[], bool]
) -> web.AppRunner:
    """Serve /metrics and /healthz; call `cleanup()` on what is returned to stop (`ProbeError`)."""

    async def show(_: web.Request) -> web.Response:
        body = generate_latest(metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def health(_: web.Request) -> web.Response:
        well = healthy()
        return web.Response(status=200 if well else 503, text="ok\n" if well else "failing\n")

    application = web.Application()
    application.add_routes([web.get("/metrics", show), web.get("/healthz", health)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, listen.host, listen.port).start()
    except OSError as error:
        await runner.cleanup()
        raise ProbeError(f"metrics.listen {listen}: {error.strerror or error}") from error
    return runner
