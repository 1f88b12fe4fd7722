"""A restart of the probe does not forget who is who; a real process, stopped and started again."""

import json
import socket
import stat
import struct
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard

from probe.record.codec import decode, rows
from probe.spool.survey import survey
from tests.support import command

GTPU_PORT = 2152


@dataclass(frozen=True)
class Halves:
    """A capture of S1-U and S11, and its halves; of the second also the user packets alone."""

    directory: Path
    identities: list[str]


def records_of(capture: bytes) -> Iterator[tuple[float, bytes, bytes]]:
    """Each packet's time in seconds, its record header, and its frame (little-endian pcap)."""
    magic = capture[:4]
    fraction = 1e9 if magic == b"\x4d\x3c\xb2\xa1" else 1e6
    at = 24
    while at < len(capture):
        seconds, rest, length, _ = struct.unpack_from("<4I", capture, at)
        yield seconds + rest / fraction, capture[at : at + 16], capture[at + 16 : at + 16 + length]
        at += 16 + length


def is_user_packet(frame: bytes) -> bool:
    return frame[23] == 17 and GTPU_PORT in struct.unpack_from("!2H", frame, 34)


def digits_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for part in value.values():
            yield from digits_of(part)
    elif isinstance(value, list):
        for part in value:
            yield from digits_of(part)
    elif isinstance(value, str | int):
        text = str(value).rpartition(":")[2].lstrip("+")
        if text.isdigit() and 11 <= len(text) <= 16:
            yield text


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Halves:
    directory = tmp_path_factory.mktemp("bearers")
    words = [command("qoe-probe"), "simulate", str(directory / "all.pcap"), "--view", "s1u+s11"]
    words += ["--cells", "12", "--subscribers", "60", "--duration", "60s", "--handovers", "20"]
    subprocess.run(words, check=True, capture_output=True, timeout=180)
    capture = (directory / "all.pcap").read_bytes()
    packets = list(records_of(capture))
    middle = (packets[0][0] + packets[-1][0]) / 2
    before = [head + frame for time, head, frame in packets if time < middle]
    rest = [head + frame for time, head, frame in packets if time >= middle]
    after = [head + f for time, head, f in packets if time >= middle and is_user_packet(f)]
    (directory / "before.pcap").write_bytes(capture[:24] + b"".join(before))
    (directory / "rest.pcap").write_bytes(capture[:24] + b"".join(rest))
    (directory / "after.pcap").write_bytes(capture[:24] + b"".join(after))
    truth = json.loads((directory / "all.truth.json").read_text())
    return Halves(directory, sorted(set(digits_of(truth["identities"]))))


@dataclass
class Probe:
    """`qoe-probe run` over a file, with a collector that is not there."""

    directory: Path
    site_key: str = "a key of the test site"
    metrics: str = ""  # of the last run, at its end

    @property
    def spool(self) -> Path:
        return self.directory / "spool"

    def run(self, capture: Path) -> str:
        for name, secret in (("key", self.site_key), ("token", "t")):
            (self.directory / name).touch(mode=0o600)
            (self.directory / name).write_text(secret)
        port, config = free_port(), self.directory / "probe.yaml"
        config.write_text(
            f"""\
probe_id: p
capture: [{{file: {capture}, capture_point: s1u}}]
site_key_file: key
client_address: full
spool: {{path: spool}}
collector: {{urls: ["http://127.0.0.1:9"], token_file: token, stop_timeout: 1s}}
metrics: {{listen: "127.0.0.1:{port}"}}
"""
        )
        words = [command("qoe-probe"), "run", "--config", str(config)]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        log = ""
        for line in process.stderr:
            log += line
            if "bearers saved=" in line:
                self.metrics = metrics_at(port)
                process.terminate()
        process.wait(timeout=60)
        return log

    def rows(self) -> list[dict[str, Any]]:
        batches = survey(self.spool, payloads=True).pending
        bodies = [zstandard.decompress(b.payload or b"", 1 << 28) for b in batches]
        return [row for body in bodies for row in rows(decode(body))]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def metrics_at(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def named_share(found: list[dict[str, Any]]) -> float:
    """Share of bytes of flows whose subscriber the control plane named."""
    size = [row["bytes_up"] + row["bytes_down"] for row in found]
    known = [row["subscriber_source"] == "gtpv2" for row in found]
    return sum(s for s, k in zip(size, known, strict=True) if k) / sum(size)


def test_a_restarted_probe_knows_the_subscribers(halves: Halves, tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    assert "bearers saved=yes" in probe.run(halves.directory / "before.pcap")
    kept = probe.spool / "bearers"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    first = len(probe.rows())
    assert "bearers loaded=yes" in probe.run(halves.directory / "after.pcap")
    again = probe.rows()[first:]
    fresh = Probe(tmp_path / "fresh")
    fresh.directory.mkdir()
    fresh.run(halves.directory / "after.pcap")
    assert named_share(fresh.rows()) == 0
    # Who moved or came anew since is in tunnels that nobody told of: rather unnamed than another's.
    assert named_share(again) > 0.8


def test_a_restart_gives_nobody_anothers_traffic(halves: Halves, tmp_path: Path) -> None:
    """Nobody has an address that was not theirs without a restart."""
    whole, cut = Probe(tmp_path / "whole"), Probe(tmp_path / "cut")
    for probe in (whole, cut):
        probe.directory.mkdir()
    whole.run(halves.directory / "all.pcap")
    owners = {(row["client_ip"], row["subscriber_id"]) for row in whole.rows()}
    cut.run(halves.directory / "before.pcap")
    first = len(cut.rows())
    cut.run(halves.directory / "rest.pcap")
    named = [row for row in cut.rows()[first:] if row["subscriber_source"] == "gtpv2"]
    assert named
    wrong = [row for row in named if (row["client_ip"], row["subscriber_id"]) not in owners]
    assert not wrong


def damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes((content[middle] ^ 1,)) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (damaged, "damaged, or of another probe_id or site key"),
        (lambda content: content[: len(content) // 2], "damaged"),
        (lambda _: b"", "not a file of bearers"),
        (lambda _: b"something else" * 9, "not a file of bearers"),
        (lambda content: content[:8] + b"\x02" + content[9:], "version 2 is unknown"),
    ],
)
def test_a_file_that_cannot_be_used_stops_nothing(
    halves: Halves, tmp_path: Path, change: Callable[[bytes], bytes], reason: str
) -> None:
    probe = Probe(tmp_path)
    probe.run(halves.directory / "before.pcap")
    kept, first = probe.spool / "bearers", len(probe.rows())
    kept.write_bytes(content := change(kept.read_bytes()))
    said = probe.run(halves.directory / "after.pcap")
    assert said.count("bearers loaded=no") == 1
    assert reason in said
    assert 'qoe_probe_bearer_files_total{outcome="refused"} 1.0' in probe.metrics
    assert (probe.spool / "bearers.refused").read_bytes() == content
    assert "bearers saved=yes" in said
    assert named_share(probe.rows()[first:]) == 0


def test_another_site_key_opens_nothing(halves: Halves, tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    probe.run(halves.directory / "before.pcap")
    probe.site_key = "another key"
    assert "another probe_id or site key" in probe.run(halves.directory / "after.pcap")


def test_a_directory_in_the_files_place_stops_nothing(halves: Halves, tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    (probe.spool / "bearers").mkdir(parents=True)
    said = probe.run(halves.directory / "before.pcap")
    assert "bearers loaded=no" in said
    assert "bearers saved=yes" in said
