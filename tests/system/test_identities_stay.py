"""Planted identities are found nowhere: nothing leaves the probe, nothing stays in its memory.

Real processes: a probe that reads a pipe, a relay that keeps what it sends, a collector with its
store. EDGEQOE_PLANTED says how many people are planted, 2,000 unless it does: `make identities`.
"""

import array
import fcntl
import http.server
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import termios
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.collector.conftest import CollectorProcess
from tests.support import ROOT, command
from tests.system.planted import Finds, Needles, Planted, identities_of, people
from tests.system.test_bearers import free_port, metrics_at

PLANTED = int(os.environ.get("EDGEQOE_PLANTED", "2000"))
# Of some people the messages come in pieces, in which nothing but pieces is found.
ENTERED = PLANTED + PLANTED // 20
SITE_KEY, PROBE = b"a key of the test site", "planted"
pytestmark = pytest.mark.timeout(300 + PLANTED // 50)

Places = dict[str, list[Path]]


class Relay:
    """Hands on what the probe sends to the collector, and keeps it."""

    def __init__(self, collector: str, directory: Path) -> None:
        self.directory = directory
        relay, numbers = self, iter(range(1 << 30))

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                relay.keep(next(numbers), f"{self.requestline}\n{self.headers}".encode(), body)
                headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                request = urllib.request.Request(collector + self.path, body, headers)
                try:
                    answer = urllib.request.urlopen(request, timeout=120)
                except urllib.error.HTTPError as error:
                    answer = error
                with answer:
                    content = answer.read()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers["Content-Type"] or "text/plain")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def keep(self, number: int, head: bytes, body: bytes) -> None:
        """Keep a request as it was sent, and what it says."""
        (self.directory / f"{number}.sent").write_bytes(head + body)
        plain = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        (self.directory / f"{number}.plain").write_bytes(plain)


@dataclass
class Street:
    """What a probe and a collector left of the planted identities' traffic."""

    needles: Needles
    planted: Finds
    places: Places
    memory: str | None = None  # why it could not be looked at
    dumpable_bytes: int = 0
    core_limit: tuple[int, int] = (-1, -1)
    counters: dict[str, float] = field(default_factory=dict)

    def found_in(self, place: str) -> Finds:
        finds = Finds()
        for path in self.places[place]:
            finds.update(self.needles.found_in(path.read_bytes()))
        return finds


def configured(directory: Path, collector: str, token: str, port: int) -> Path:
    for name, secret in (("key", SITE_KEY), ("token", token.encode())):
        (directory / name).touch(mode=0o600)
        (directory / name).write_bytes(secret)
    config = directory / "probe.yaml"
    config.write_text(
        f"""\
probe_id: {PROBE}
capture: [{{file: "-", capture_point: s1u}}]
site_key_file: key
client_address: full
spool: {{path: spool}}
collector: {{urls: ["{collector}"], token_file: token, batch_interval: 1s}}
metrics: {{listen: "127.0.0.1:{port}"}}
"""
    )
    return config


def unread(pipe: int) -> int:
    """Bytes that wait in a pipe."""
    waiting = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, waiting)
    return waiting[0]


def wait_for(what: str, is_so: "object", seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.2)


def counters_of(metrics: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in metrics.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def write_memory(pid: int, path: Path) -> int:
    """Write what a core file would hold: writable memory that is not excluded from dumps."""
    smaps = Path(f"/proc/{pid}/smaps").read_text()
    areas = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) rw(?:.*\n)+?VmFlags:(.*)$", smaps, re.MULTILINE)
    size = 0
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory, path.open("wb") as dump:
        for start, end, flags in areas:
            if "dd" in flags.split():
                continue
            at, stop = int(start, 16), int(end, 16)
            while at < stop:
                memory.seek(at)
                try:
                    piece = memory.read(min(stop - at, 64 << 20))
                except OSError:
                    break  # an area of the kernel's own
                size += dump.write(piece)
                at += len(piece)
            dump.write(bytes(64))
    return size


def opened(sealed: bytes) -> bytes:
    """Open a file of bearers as docs/adr/0027 says, with another library than the engine's."""
    header, content = sealed[:41], sealed[41:]

    def derived(what: bytes, length: int) -> bytes:
        info = b"edgeqoe bearers " + what + b" " + PROBE.encode()
        return HKDF(SHA256(), length, salt=header[9:], info=info).derive(SITE_KEY)

    return AESGCM(derived(b"key", 32)).decrypt(derived(b"nonce", 12), content, header)


DUMP_TABLES = """
import sys
from pathlib import Path
import clickhouse_connect
client = clickhouse_connect.get_client(interface="chdb", path=sys.argv[1])
names = client.query("SELECT database, name, engine FROM system.tables "
                     "WHERE database NOT IN ('system', 'INFORMATION_SCHEMA', 'information_schema')")
for database, name, engine in names.result_rows:
    if engine != "MaterializedView":
        content = client.raw_query(f"SELECT * FROM `{database}`.`{name}` FORMAT RowBinary")
        (Path(sys.argv[2]) / f"{database}.{name}").write_bytes(content)
"""


def answers(collector: CollectorProcess, directory: Path) -> list[Path]:
    """Ask for everything that can be asked for without knowing more."""
    paths = json.loads(collector.ask("/openapi.json").body)["paths"]
    asked = [path for path, methods in paths.items() if "get" in methods and "{" not in path]
    asked = [path for path in asked if not path.endswith("/live")]
    listed = collector.ask("/api/v1/subscribers?from=0&to=now&limit=5").json["data"]
    asked += [f"/api/v1/subscribers/{one['subscriber_id']}/sessions" for one in listed]
    found = []
    for number, path in enumerate(asked):
        answer = collector.ask(f"{path}?from=0&to=now&limit=1000")
        found.append(directory / f"{number}")
        found[-1].write_bytes(answer.body)
    return found


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for part in ("wire", "tables", "answers", "collector", "probe"):
            (directory / part).mkdir()
        yield driven(directory)


def driven(directory: Path) -> Street:
    everyone = people(ENTERED)
    needles, planted, traffic = Needles(list(identities_of(everyone))), Finds(), Planted(everyone)
    pieces = list(batched(traffic.capture()))
    for piece in pieces:
        planted.update(needles.found_in(piece))
    street = Street(needles, planted, {})
    collector = CollectorProcess(directory / "collector", "open_on_loopback: true\n")
    collector.start()
    relay, port = Relay(collector.url, directory / "wire"), free_port()
    home, log = directory / "probe", directory / "probe.log"
    config = configured(home, relay.url, collector.token("probe", PROBE), port)
    words = [command("qoe-probe"), "--log-level", "debug", "run", "--config", str(config)]
    with log.open("wb") as output:
        probe = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=output, stderr=output)
    assert probe.stdin is not None
    try:
        for piece in pieces:
            probe.stdin.write(piece)
        probe.stdin.flush()
        pipe = probe.stdin.fileno()
        wait_for("reading", lambda: unread(pipe) == 0)

        def is_shipped() -> bool:
            shown = counters_of(metrics_at(port))
            street.counters = shown
            seen = shown.get("qoe_probe_engine_packets_total", 0)
            return seen > traffic.packets - 4096 and not shown["qoe_probe_spool_pending_batches"]

        wait_for("shipping", is_shipped)
        time.sleep(2)
        street.core_limit = resource.prlimit(probe.pid, resource.RLIMIT_CORE)
        try:
            street.dumpable_bytes = write_memory(probe.pid, directory / "memory")
        except PermissionError:
            street.memory = "the memory of the probe is not to be read even by its own user"
        (directory / "metrics").write_text(metrics_at(port))
        probe.stdin.close()
        assert probe.wait(timeout=300) == 0, log.read_text()
    finally:
        probe.kill()
        probe.wait()
    (directory / "bearers").write_bytes(opened((home / "spool" / "bearers").read_bytes()))
    (directory / "collector.metrics").write_bytes(collector.ask("/metrics").body)
    answered = answers(collector, directory / "answers")
    collector.stop()
    store = directory / "collector" / "store"
    words = [sys.executable, "-c", DUMP_TABLES, str(store), str(directory / "tables")]
    subprocess.run(words, check=True, cwd=ROOT, capture_output=True, timeout=300)

    def files(part: str) -> list[Path]:
        return [path for path in (directory / part).rglob("*") if path.is_file()]

    street.places = {
        "the wire": files("wire"),
        "the spool": files("probe"),
        "what is kept over a restart": [directory / "bearers"],
        "the probe's log": [log],
        "the metrics": [directory / "metrics", directory / "collector.metrics"],
        "the collector's files": files("collector"),
        "the tables": files("tables"),
        "the answers": answered,
        "memory": [path for path in [directory / "memory"] if path.exists()],
    }
    return street


def batched(records: Iterator[bytes]) -> Iterator[bytes]:
    """Join records to pieces of some megabytes, so that a search cuts few of them."""
    pieces: list[bytes] = []
    size = 0
    for record in records:
        pieces.append(record)
        size += len(record)
        if size > 8 << 20:
            yield b"".join(pieces)
            pieces, size = [], 0
    yield b"".join(pieces)


def test_the_search_finds_each_form_of_an_identity() -> None:
    digits = "4915123456789012"
    needles = Needles(["001017654321098", digits])
    for hay in (
        b"x" + digits.encode() + b"y",
        b"1" + digits.encode(),
        digits.encode()[3:],
        digits.encode()[2:-1],
        b"\x91" + bytes.fromhex(digits),
        bytes.fromhex("0" + digits + "f"),
        swapped(digits),
        swapped("1" + digits[:-1]),
        int(digits).to_bytes(8, "little"),
        b"xyz" + int(digits).to_bytes(8, "big"),
    ):
        for start in range(9):
            found = needles.found_in(bytes(start) + hay)
            assert found.identities == {1}, (start, hay)
    assert not needles.found_in(os.urandom(1 << 20))
    assert not needles.found_in(b"491512345678" + b"\0" * 99 + b"123456789012")


def swapped(digits: str) -> bytes:
    return bytes(int(b + a, 16) for a, b in zip(digits[::2], digits[1::2], strict=True))


def test_everybody_is_named_on_the_tapped_links(street: Street) -> None:
    for kind in range(3):  # IMSI, MSISDN, IMEISV
        assert sum(one % 3 == kind for one in street.planted.identities) >= PLANTED
    shown = street.counters
    assert shown["qoe_probe_engine_control_messages_total"] > 3 * PLANTED
    assert shown["qoe_probe_engine_control_malformed_truncated_total"] > PLANTED // 40


@pytest.mark.parametrize(
    "place",
    [
        "the wire",
        "the spool",
        "what is kept over a restart",
        "the probe's log",
        "the metrics",
        "the collector's files",
        "the tables",
        "the answers",
    ],
)
def test_no_identity_is_found_in(street: Street, place: str) -> None:
    assert sum(path.stat().st_size for path in street.places[place]) > 0
    assert not (found := street.found_in(place)), found


def test_no_identity_is_found_in_memory_once_traffic_has_ended(street: Street) -> None:
    if street.memory is not None:
        pytest.skip(street.memory)
    assert street.dumpable_bytes > 10 << 20
    assert not (found := street.found_in("memory")), found


def test_the_probe_leaves_no_core_file(street: Street) -> None:
    assert street.core_limit == (0, 0)
