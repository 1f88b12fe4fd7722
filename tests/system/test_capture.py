"""Live capture over a cable of this test: what is sent into it, and what the engine says of that.

Each test runs its part again in a network namespace, which holds a pair of virtual interfaces and
goes with it.
"""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from probe.engine import Engine
from probe.record import codec
from probe.settings.capture_filter import compile_filter
from tests.probe.engine.conftest import options
from tests.support import ROOT, command

WORKERS = 3
Row = dict[str, Any]
Report = dict[str, Any]


@pytest.fixture
def inside(tmp_path: Path) -> Callable[[str], Report]:
    """Return a function that runs a function of this module in a namespace and gives its report."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs root, unshare and ip to make a network namespace")

    def run(name: str) -> Report:
        words = ["unshare", "--net", "--kill-child", sys.executable, "-m", __name__, name]
        done = subprocess.run(
            [*words, str(tmp_path)],
            cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        report: Report = json.loads(done.stdout)
        return report

    return run


def test_the_ledger_agrees_with_the_interface_to_the_packet(
    inside: Callable[[str], Report],
) -> None:
    seen = inside("exact")
    assert seen["link"] == seen["sent"]
    assert seen["ledger"]["offered"] == seen["link"]
    assert seen["ledger"]["received"] == seen["link"]
    assert seen["ledger"]["dropped_kernel"] == 0
    assert "unaccounted" not in seen["ledger"]
    accounted = seen["ledger"]["decoded"] + seen["shed"] + seen["undecodable"]
    assert accounted == seen["ledger"]["received"]


def test_what_does_not_fit_is_counted_to_the_packet(inside: Callable[[str], Report]) -> None:
    seen = inside("overflow")
    ledger = seen["ledger"]
    assert ledger["dropped_kernel"] > 0
    assert ledger["offered"] == seen["link"]
    assert ledger["received"] + ledger["dropped_kernel"] == seen["link"]
    assert "unaccounted" not in ledger


def test_what_the_filter_keeps_out_is_counted(inside: Callable[[str], Report]) -> None:
    seen = inside("filtered")
    ledger = seen["ledger"]
    assert ledger["filtered"] == seen["kept_out"] > 0
    assert ledger["received"] + ledger["filtered"] == ledger["offered"] == seen["link"]


def test_several_workers_give_the_sessions_of_one(inside: Callable[[str], Report]) -> None:
    seen = inside("workers")
    assert seen["of_one"] > 100
    assert seen["attributed"] > 0
    assert seen["only_one"] == []
    assert seen["only_several"] == []
    assert seen["busy"] == WORKERS
    assert seen["ledger"]["received"] == seen["link"]
    assert "unaccounted" not in seen["ledger"]


def test_an_interface_that_went_and_came_is_captured_again(
    inside: Callable[[str], Report],
) -> None:
    seen = inside("away")
    assert seen["links"] == ["up", "down", "up", "gone", "up"]
    assert seen["interruptions"] == 2
    assert seen["received"] >= 3


# ------------------------------------------------------------------------------- in the namespace


def _ip(words: str) -> str:
    return subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True).stdout


def _cable() -> None:
    """Lay a cable from `near` to `far`, on which nothing but the test's packets is sent."""
    _ip("link add near type veth peer name far")
    for end in ("near", "far"):
        Path(f"/proc/sys/net/ipv6/conf/{end}/disable_ipv6").write_text("1")
        _ip(f"link set {end} mtu 9000 arp off multicast off up")


def _received() -> int:
    """Return what `ip -s link` says that `far` has received."""
    (link,) = json.loads(_ip("-json -stats link show dev far"))
    return int(link["stats64"]["rx"]["packets"])


def _send(frames: list[bytes]) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as cable:
        cable.bind(("near", 0))
        for frame in frames:
            cable.send(frame)


class _Capture:
    """The engine on `far`, its bodies taken by a thread."""

    def __init__(self, *captures: Row, **changes: Any) -> None:
        entries = [
            {"interface": "far", "time_offset_ns": 0, "ignore_outgoing": True} | capture
            for capture in captures
        ]
        text = json.dumps(options([], **changes) | {"captures": entries})
        self.engine = Engine(text, b"a site key")
        self.bodies: list[bytes] = []
        self.engine.start()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        while not self.engine.finished():
            if (body := self.engine.next_body(0.2)) is not None:
                self.bodies.append(body)

    def link(self) -> str:
        return self.engine.captures()[0][2]

    def packets(self) -> int:
        return self.engine.counters().get("packets", 0)

    def finish(self) -> list[codec.Batch]:
        time.sleep(0.5)
        self.engine.stop()
        self._thread.join()
        head: Any = {"probe_id": "test-probe", "epoch": 0, "created_at": 0}
        return [
            codec.decode(codec.seal(body, sequence=number, **head))
            for number, body in enumerate(self.bodies)
        ]


def _ledger(batches: list[codec.Batch], capture_point: str) -> Row:
    sums: Row = {}
    for entry in (entry for batch in batches for entry in batch.ledger):
        if entry["capture_point"] == capture_point:
            for name, value in entry.items():
                if isinstance(value, int):
                    sums[name] = sums.get(name, 0) + value
    return sums


def _reasons(batches: list[codec.Batch], name: str) -> int:
    return sum(sum(entry[name].values()) for batch in batches for entry in batch.ledger)


def _frames(directory: Path, view: str) -> list[bytes]:
    """Return the packets of some simulated subscribers."""
    path = directory / "traffic.pcap"
    words = ["simulate", str(path), "--duration", "30s", "--view", view, "--subscribers", "40"]
    subprocess.run([command("qoe-probe"), *words], check=True, capture_output=True)
    return list(_packets(path.read_bytes()))


def _packets(content: bytes) -> Iterator[bytes]:
    order = "<" if content[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    at = 24
    while at + 16 <= len(content):
        captured = struct.unpack_from(order + "I", content, at + 8)[0]
        yield content[at + 16 : at + 16 + captured]
        at += 16 + captured


def exact(directory: Path) -> Report:
    _cable()
    frames = _frames(directory, "s1u+s11+s1ap")
    frames += [b"\x02" * 12 + b"\x08\x06" + b"?" * 40, b"\x02" * 12 + b"\x08\x00" + b"\x45" * 9]
    capture = _Capture({"capture_point": "tap"})
    _send(frames)
    batches = capture.finish()
    return {
        "sent": len(frames),
        "link": _received(),
        "ledger": _ledger(batches, "tap"),
        "shed": _reasons(batches, "shed"),
        "undecodable": _reasons(batches, "undecodable"),
    }


def overflow(_: Path) -> Report:
    _cable()
    capture = _Capture({"capture_point": "tap", "ring_bytes": 1})
    udp = struct.pack("!HHHH", 4000, 5000, 8008, 0) + bytes(8000)
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 8028, 1, 0x4000, 64, 17, 0, b"\n\0\0\1", b"\n\0\0\2"
    )
    _send([b"\x02" * 12 + b"\x08\x00" + header + udp] * 20_000)
    return {"ledger": _ledger(capture.finish(), "tap"), "link": _received()}


def filtered(directory: Path) -> Report:
    _cable()
    frames = _frames(directory, "sgi")
    kept_out = sum(frame[12:14] == b"\x08\x00" and frame[23] == 6 for frame in frames)
    program = compile_filter("not (ip and tcp)")
    capture = _Capture({"capture_point": "tap", "filter": program})
    _send(frames)
    ledger = _ledger(capture.finish(), "tap")
    return {"ledger": ledger, "link": _received(), "kept_out": kept_out}


def workers(directory: Path) -> Report:
    _cable()
    frames = _frames(directory, "s1u+s11+s1ap")
    # A mirror's copies are found within a worker, and here all is sent within a moment.
    capture = _Capture(
        {"capture_point": "one"},
        {"capture_point": "several", "workers": WORKERS},
        subscriber_prefixes=["100.64.0.0/10", "2001:db8:64::/48"],
        ran_prefixes=["10.20.0.0/16"],
        limits={"flows": 100_000, "copies": 0},
    )
    _send(frames)
    batches = capture.finish()
    busy = [batch for batch in batches if batch.ledger and batch.ledger[0]["received"]]
    by_point: dict[str, dict[str, int]] = {"one": {}, "several": {}}
    attributed = 0
    for row in (row for batch in batches for row in codec.rows(batch)):
        point = row.pop("capture_point")
        row.pop("session_id")
        # Asked for over IPv4, a name is known to the worker of the subscriber's IPv4 address.
        if row["server_name_source"] == "dns" and ":" in row["client_ip"]:
            row["server_name"] = row["server_name_source"] = None
        attributed += row["subscriber_source"] not in (None, "address")
        text = json.dumps(row, sort_keys=True, default=str)
        by_point[point][text] = by_point[point].get(text, 0) + 1
    one, several = by_point["one"], by_point["several"]
    return {
        "of_one": sum(one.values()),
        "attributed": attributed,
        "only_one": [text for text in one if several.get(text) != one[text]][:3],
        "only_several": [text for text in several if one.get(text) != several[text]][:3],
        "busy": sum(batch.ledger[0]["capture_point"] == "several" for batch in busy),
        "ledger": _ledger(batches, "several"),
        "link": _received(),
    }


def away(_: Path) -> Report:
    frame = b"\x02" * 12 + b"\x08\x00" + bytes(60)
    _cable()
    capture = _Capture({"capture_point": "tap"})
    links = [capture.link()]

    def until(wanted: str) -> None:
        deadline = time.monotonic() + 20
        while capture.link() != wanted and time.monotonic() < deadline:
            time.sleep(0.02)
        links.append(capture.link())

    def passes() -> None:
        before, deadline = capture.packets(), time.monotonic() + 20
        while capture.packets() == before and time.monotonic() < deadline:
            _send([frame])
            time.sleep(0.1)

    passes()
    _ip("link set far down")
    until("down")
    _ip("link set far up")
    until("up")
    passes()
    _ip("link delete far")
    until("gone")
    _cable()
    until("up")
    passes()
    numbers = capture.engine.captures()[0][3]
    ledger = _ledger(capture.finish(), "tap")
    return {
        "links": links,
        "interruptions": numbers["interruptions"],
        "received": ledger["received"],
    }


PARTS = {part.__name__: part for part in (exact, overflow, filtered, workers, away)}

if __name__ == "__main__":
    json.dump(PARTS[sys.argv[1]](Path(sys.argv[2])), sys.stdout)
