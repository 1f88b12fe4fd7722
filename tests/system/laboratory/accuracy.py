"""How far the probe's round trips and losses are from what the relay did, in two tables.

    python -m tests.system.laboratory.accuracy [--keep DIRECTORY]

Real clients (curl) load from and send to a real server (nginx) over some hundred paths of different
delay, jitter, loss and reordering, with and without TCP timestamps and SACK, under congestion
controls that do and do not heed losses, over IPv4 and IPv6.
"""

import argparse
import itertools
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support import replay
from tests.system.laboratory import (
    FlowKey,
    FlowTruth,
    Laboratory,
    Link,
    Plan,
    Rule,
    client_address,
    path,
    server_address,
)

SECONDS_PER_FLOW = 6.0
"""For which its size is chosen; a flow that takes longer than `PATIENCE_S` is ended."""
PATIENCE_S = 14.0
START_INTERVAL_S = 0.05
"""Between one flow and the next: TLS handshakes all at once would keep the relay waiting."""
MAX_UNFINISHED = 0.15
"""Share of flows that may run out of time; what the tap saw of them counts."""
PAGES, WORDS = 8, 16
_CURL_TIMED_OUT = 28
_MSS = 1448
_TLS_PORT, _HTTP_PORT = 443, 80

# Windows as wide as the longest path needs and no wider: a flow without losses would otherwise
# send all it has at once, and the relay would be what limits it.
_WINDOWS = {"net/ipv4/tcp_rmem": "4096 131072 262144", "net/ipv4/tcp_wmem": "4096 65536 1048576"}


@dataclass(frozen=True)
class Route:
    """A path that flows take. Delays are one way; loss is per side, the same both ways."""

    client_ms: float
    server_ms: float
    jitter_ms: float = 0.0
    client_loss: float = 0.0
    server_loss: float = 0.0
    reorder: float = 0.0
    reorder_ms: float = 4.0


PATHS = (
    Route(1, 1),
    Route(5, 20, jitter_ms=1, client_loss=0.01),
    Route(20, 5, server_loss=0.01),
    Route(60, 10, jitter_ms=2, client_loss=0.02, server_loss=0.01),
    Route(10, 60, jitter_ms=2, client_loss=0.01, server_loss=0.03),
    Route(150, 40, client_loss=0.005, server_loss=0.005),
    Route(40, 150, server_loss=0.02),
    Route(1, 30, client_loss=0.05),
    Route(30, 1, server_loss=0.05),
    Route(15, 15, jitter_ms=5, client_loss=0.05, server_loss=0.05),
    Route(25, 25, reorder=0.02),
    Route(8, 12, client_loss=0.02, server_loss=0.02, reorder=0.01),
    Route(100, 3, jitter_ms=1),
)
KINDS = ("download", "upload", "pages", "chat")
"""Pages come one after the other. In a chat the client answers after `CHAT_PAUSE_MS`, less than its
kernel delays an acknowledgment: that goes with the answer."""
BULK = ("download", "upload")
CHAT_PAUSE_MS = 25


@dataclass(frozen=True)
class Setup:
    """What all flows of one laboratory have in common."""

    name: str
    timestamps: bool
    sack: bool
    congestion: str

    def sysctl(self) -> dict[str, str | int]:
        """Return the settings of both namespaces."""
        return {
            **_WINDOWS,
            "net/ipv4/tcp_timestamps": int(self.timestamps),
            "net/ipv4/tcp_sack": int(self.sack),
            "net/ipv4/tcp_congestion_control": self.congestion,
        }


SETUPS = (
    Setup("timestamps, SACK", True, True, "reno"),
    Setup("no timestamps, SACK", False, True, "bbr"),
    Setup("timestamps, no SACK", True, False, "bbr"),
    Setup("no timestamps, no SACK", False, False, "reno"),
)


@dataclass(frozen=True)
class Case:
    """One client's errand over one path."""

    number: int
    """Of its client address and its server address."""
    path: Route
    kind: str
    version: int
    secure: bool
    congestion: str

    @property
    def round_trip_ms(self) -> float:
        """Return the mean round trip from end to end."""
        return 2 * (self.path.client_ms + self.path.server_ms + self.path.jitter_ms)

    @property
    def bytes(self) -> int:
        """Return what a sender gets through in time, between 100 kB and 1.5 MB.

        Reno heeds losses (Mathis et al. 1997); BBR is held by the receive window alone.
        """
        loss = self.path.client_loss + self.path.server_loss + 1e-4
        round_trip_s = self.round_trip_ms / 1000
        in_flight = _MSS * math.sqrt(1.5 / loss) if self.congestion == "reno" else 100_000
        return int(min(1_500_000, max(100_000, in_flight / round_trip_s * SECONDS_PER_FLOW)))

    def rule(self) -> Rule:
        """Return what the relay does to this case's packets."""
        way = self.path
        link = Link(jitter_ms=way.jitter_ms, reorder=way.reorder, reorder_ms=way.reorder_ms)
        links = path(
            way.client_ms,
            way.server_ms,
            replace(link, loss=way.client_loss),
            replace(link, loss=way.server_loss),
        )
        return Rule(clients=client_address(self.number, self.version), **links)

    def words(self, directory: Path) -> list[str | Path]:
        """Return the client's command."""
        host = server_address(self.number, self.version)
        host = f"[{host}]" if self.version == 6 else host
        url = f"{'https' if self.secure else 'http'}://{host}"
        words: list[str | Path] = ["curl", "-sSk", "--http1.1", "--max-time", f"{PATIENCE_S}"]
        words += ["--interface", client_address(self.number, self.version)]
        if self.kind == "upload":
            return [*words, "-o", "/dev/null", "-T", _body(directory, self.bytes), f"{url}/upload"]
        if self.kind == "download":
            return [*words, "-o", "/dev/null", "-r", f"0-{self.bytes - 1}", f"{url}/body"]
        page, count = "page", PAGES
        if self.kind == "chat":
            page, count = "word", WORDS
            every_ms = self.round_trip_ms + CHAT_PAUSE_MS
            words += ["--rate", f"{round(3_600_000 / every_ms)}/h"]
        pages = ([f"{url}/{page}", "-o", "/dev/null"] for _ in range(count))
        return [*words, *itertools.chain.from_iterable(pages)]


def cases(setup: Setup) -> list[Case]:
    """Return the cases of a setup: bulk over each path, small pages over one in three."""
    errands = [
        (way, kind)
        for number, way in enumerate(PATHS)
        for kind in KINDS
        if kind in BULK or number % 3 == 0
    ]
    return [
        Case(number, way, kind, 6 if number % 3 == 2 else 4, number % 2 == 0, setup.congestion)
        for number, (way, kind) in enumerate(errands, start=1)
    ]


# --------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Measured:
    """One flow: what was asked for, what the relay did, what the probe's record says."""

    setup: Setup
    case: Case
    truth: FlowTruth
    record: dict[str, Any]


def measure(setup: Setup, directory: Path) -> list[Measured]:
    """Run all cases of a setup at once, replay what the tap saw, and pair records with truth."""
    todo = {case.number: case for case in cases(setup)}
    rules = tuple(case.rule() for case in todo.values())
    plan = Plan(rules, client_sysctl=setup.sysctl(), server_sysctl=setup.sysctl())
    with Laboratory(plan, directory) as lab:
        _serve(lab, directory)
        _run_all(lab, list(todo.values()), directory)
    if lab.kernel_drops or lab.log.refused:
        raise RuntimeError(f"the relay lost packets: {lab.kernel_drops} + {lab.log.refused}")
    records = _records(lab.capture, directory)
    by_address = {client_address(c.number, c.version): c for c in todo.values()}
    return [
        Measured(setup, by_address[key.client_ip], truth, records[key])
        for key, truth in lab.log.truth().items()
    ]


def measure_all(directory: Path) -> list[Measured]:
    """Measure every setup, one after the other."""
    return [
        flow
        for number, setup in enumerate(SETUPS)
        for flow in measure(setup, directory / f"setup{number}")
    ]


def _run_all(lab: Laboratory, todo: list[Case], directory: Path) -> None:
    started = []
    for case in todo:
        words = case.words(directory)
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started.append(lab.client.popen(words, **silent))
        time.sleep(START_INTERVAL_S)
    deadline = time.monotonic() + PATIENCE_S + 4
    codes = [process.wait(timeout=max(0.1, deadline - time.monotonic())) for process in started]
    unfinished = sum(code == _CURL_TIMED_OUT for code in codes)
    if set(codes) - {0, _CURL_TIMED_OUT} or unfinished > len(codes) * MAX_UNFINISHED:
        raise RuntimeError(f"the flows did not go as planned: curl ended with {codes}")


def _records(capture: Path, directory: Path) -> dict[FlowKey, dict[str, Any]]:
    """Return one record per flow; of several intervals, counters are added up.

    Round trips are taken from the interval that holds most samples of them.
    """
    config = directory / "replay.yaml"
    config.write_text("active_timeout: 1h\n")
    done = replay("--config", config, capture)
    if done.code != 0:
        raise RuntimeError(f"the replay failed: {done.error}")
    records: dict[FlowKey, dict[str, Any]] = {}
    for row in done.rows:
        ports = (row["client_port"] or 0, row["server_port"] or 0)
        key = FlowKey(row["transport"], row["client_ip"], ports[0], row["server_ip"], ports[1])
        records[key] = _joined(records[key], row) if key in records else row
    return records


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    joined = dict(first)
    for name in ("lost_before_tap", "lost_after_tap", "retransmitted_packets"):
        for direction in ("up", "down"):
            column = f"{name}_{direction}"
            joined[column] = (first[column] or 0) + (second[column] or 0)
    for side in ("client", "server"):
        samples = f"rtt_{side}_samples"
        if (second[samples] or 0) > (first[samples] or 0):
            joined |= {name: second[name] for name in second if name.startswith(f"rtt_{side}")}
    return joined


def _serve(lab: Laboratory, directory: Path) -> None:
    """Start nginx on every server address, with pages to load and a place to send to."""
    root = directory / "www"
    root.mkdir()
    (root / "body").write_bytes(bytes(range(256)) * (1_500_000 // 256 + 1))
    (root / "page").write_bytes(b"x" * 6000)
    (root / "word").write_bytes(b"x" * 60)
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-keyout", directory / "key.pem", "-out", directory / "certificate.pem"]
    words += ["-subj", "/CN=laboratory", "-days", "2"]
    subprocess.run(words, check=True, capture_output=True, timeout=20)
    config = directory / "nginx.conf"
    config.write_text(_NGINX.replace("@", str(directory.resolve())))
    lab.server.popen(["nginx", "-e", "stderr", "-c", config.resolve()])
    lab.server.wait_for_port(server_address(1), _TLS_PORT)


_NGINX = """\
daemon off;
user root;
pid @/nginx.pid;
error_log stderr crit;
events { worker_connections 1000; }
http {
  access_log off;
  client_max_body_size 0;
  client_body_temp_path @/body;
  proxy_temp_path @/proxy;
  fastcgi_temp_path @/fastcgi;
  uwsgi_temp_path @/uwsgi;
  scgi_temp_path @/scgi;
  ssl_certificate @/certificate.pem;
  ssl_certificate_key @/key.pem;
  server { listen 127.0.0.1:81; return 200; }
  server {
    listen 80;
    listen [::]:80;
    listen 443 ssl;
    listen [::]:443 ssl;
    root @/www;
    location = /upload { proxy_pass http://127.0.0.1:81/; }
  }
}
"""


def _body(directory: Path, size: int) -> Path:
    body = directory / f"body-{size}"
    if not body.exists():
        body.write_bytes(b"u" * size)
    return body


# ------------------------------------------------------------------------------------- comparisons


@dataclass(frozen=True)
class RttErrors:
    """Record's median less truth over flows, in us, of one side and one way of measuring."""

    label: str
    path: list[float]
    full: list[float]

    @property
    def path_error_us(self) -> float:
        """Return the median of the errors' sizes against the links alone."""
        return statistics.median(map(abs, self.path))

    @property
    def path_bias_us(self) -> float:
        """Return the median of the errors against the links alone."""
        return statistics.median(self.path)

    @property
    def full_error_us(self) -> float:
        """Return the same against the links and the end's own time."""
        return statistics.median(map(abs, self.full))


def rtt_errors(
    flows: Iterable[Measured], side: str, label: str = "", statistic: str = "median"
) -> RttErrors:
    """Compare one side's round trip, `median` or `min`, with the true median.

    Flows without a sample or without truth are left out. An end that acknowledged nothing has no
    `full` truth: the record's sample is then held against the path.
    """
    with_path, with_full = [], []
    for flow in flows:
        recorded, truth = flow.record[f"rtt_{side}_{statistic}_us"], flow.truth.rtt[side]
        if recorded is None or truth.path is None:
            continue
        with_path.append(recorded - truth.path)
        with_full.append(recorded - (truth.path if truth.full is None else truth.full))
    return RttErrors(label, with_path, with_full)


@dataclass(frozen=True)
class LossCount:
    """Lost segments of all flows, one side and one direction."""

    label: str
    dropped: int
    visible: int
    needless: int
    recorded: int
    right: int

    @property
    def relative_error(self) -> float:
        """Return by how much the records differ from what shows at the tap."""
        return self.recorded / self.visible - 1 if self.visible else float(self.recorded > 0)


def loss_count(flows: Iterable[Measured], place: str, direction: str) -> LossCount:
    """Add up losses `before` or `after` the tap in one direction.

    `right` counts, flow by flow, the losses that truth and record agree on.
    """
    flows = list(flows)
    truths = [flow.truth.loss[direction] for flow in flows]
    recorded = [flow.record[f"lost_{place}_tap_{direction}"] or 0 for flow in flows]
    visible = [getattr(truth, f"visible_{place}") for truth in truths]
    return LossCount(
        f"{place} the tap, {direction}",
        sum(getattr(truth, place) for truth in truths),
        sum(visible),
        sum(truth.needless for truth in truths) if place == "after" else 0,
        sum(recorded),
        sum(map(min, visible, recorded)),
    )


PLACES = tuple(itertools.product(("before", "after"), ("up", "down")))


def loss_counts(flows: list[Measured]) -> list[LossCount]:
    """Return the four counts: before and after the tap, up and down."""
    return [loss_count(flows, *place) for place in PLACES]


def with_sack(flows: Iterable[Measured], sack: bool) -> list[Measured]:
    """Return the flows whose receivers say, or do not say, what they got."""
    return [flow for flow in flows if flow.setup.sack is sack]


def side_right(flows: list[Measured]) -> float:
    """Return the share of visible losses that the records put on the right side."""
    counts = loss_counts(flows)
    return sum(count.right for count in counts) / max(1, sum(count.visible for count in counts))


# ------------------------------------------------------------------------------------------ tables


def rtt_table(flows: list[Measured]) -> str:
    """Return the table of round trip errors: by side, setup and method."""
    rows = []
    for side in ("client", "server"):
        groups: list[tuple[str, Callable[[Measured], object]]] = [
            ("all", lambda _: ""),
            ("", lambda flow: flow.setup.name),
            ("method ", lambda flow, side=side: flow.record[f"rtt_{side}_method"] or "none"),
            ("", lambda flow: flow.case.kind),
        ]
        for prefix, key in groups:
            names = dict.fromkeys(str(key(flow)) for flow in flows)
            for name in names:
                chosen = [flow for flow in flows if str(key(flow)) == name]
                rows.append(_rtt_row(side, rtt_errors(chosen, side, f"{prefix}{name}")))
    heads = ["side", "flows", "n", "|error|", "error", "p90 |error|", "|error|", "error"]
    groups_line = f"{'':45}{'against the path':>34}{'with the end':>22}"
    return "\n".join(
        ["Round trips: record's median less truth, ms", groups_line, *_laid(heads, rows)]
    )


def _rtt_row(side: str, errors: RttErrors) -> list[str]:
    if not errors.path:
        return [side, errors.label, "0", *["-"] * 5]
    sizes = sorted(map(abs, errors.path))
    figures = [
        errors.path_error_us,
        errors.path_bias_us,
        sizes[math.ceil(0.9 * len(sizes)) - 1],
        errors.full_error_us,
        statistics.median(errors.full),
    ]
    return [side, errors.label, str(len(sizes)), *(f"{us / 1000:.3f}" for us in figures)]


def loss_table(flows: list[Measured]) -> str:
    """Return the table of losses: by setup, place and direction."""
    rows = []
    for name in ["all", *(setup.name for setup in SETUPS)]:
        chosen = [flow for flow in flows if name in {"all", flow.setup.name}]
        for count in loss_counts(chosen):
            figures = (count.dropped, count.visible, count.recorded, count.needless)
            share = count.right / count.visible if count.visible else 1.0
            shares = (f"{count.relative_error:+.1%}", f"{share:.1%}")
            rows.append([name, count.label, *map(str, figures), *shares])
    heads = ["flows", "place", "dropped", "visible", "recorded", "needless", "error", "right"]
    lines = ["Lost segments (error: recorded against visible)", *_laid(heads, rows)]
    return "\n".join([*lines, f"side right: {side_right(flows):.1%} of visible losses"])


def _laid(heads: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number < 2 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (heads, *rows)
    ]


def main() -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="leave captures and logs in this directory")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        flows = measure_all(chosen.keep or Path(name))
    print(rtt_table(flows), loss_table(flows), sep="\n\n")


if __name__ == "__main__":
    main()
