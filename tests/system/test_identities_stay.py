"""IMSIs, MSISDNs and IMEIs of a control plane never leave the probe, nor stay in its memory."""

import json
import re
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import zstandard

from probe.spool.survey import survey
from tests.support import command
from tests.system.test_bearers import digits_of

SUBSCRIBERS = 60


def forms_of(digits: str) -> set[bytes]:
    """As text, and as binary-coded digits in both orders of halves, without a filled last byte."""
    even = digits[: len(digits) // 2 * 2]
    packed = bytes.fromhex(even)
    behind_first = digits[1 : 1 + (len(digits) - 1) // 2 * 2]  # a mobile identity has one in front
    swapped = [bytes((b & 15) << 4 | b >> 4 for b in bytes.fromhex(p)) for p in (even, behind_first)]
    return {digits.encode(), packed, *swapped}


class Needles:
    """Looks for any of many byte strings: by their common beginnings first."""

    def __init__(self, identities: list[str]) -> None:
        self.forms = {form for digits in identities for form in forms_of(digits)}
        heads = sorted({form[:4] for form in self.forms})
        lengths = sorted({len(form) for form in self.forms})
        self._head = re.compile(b"(?=" + b"|".join(map(re.escape, heads)) + b")", re.DOTALL)
        self._lengths = lengths

    def found_in(self, hay: bytes) -> set[bytes]:
        starts = (match.start() for match in self._head.finditer(hay))
        cuts = (hay[at : at + length] for at in starts for length in self._lengths)
        return {cut for cut in cuts if cut in self.forms}


def memory_of(pid: int) -> bytes:
    """All that a core file would hold: writable memory but for what is excluded from dumps."""
    pieces: list[bytes] = []
    smaps = Path(f"/proc/{pid}/smaps").read_text()
    areas = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) rw(?:.*\n)+?VmFlags:(.*)$", smaps, re.MULTILINE)
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for start, end, flags in areas:
            if "dd" in flags.split():
                continue
            try:
                memory.seek(int(start, 16))
                pieces.append(memory.read(int(end, 16) - int(start, 16)))
            except OSError:
                continue  # special areas of the kernel
    return b"\n".join(pieces)


def test_identities_are_found_nowhere(tmp_path: Path) -> None:
    capture = tmp_path / "all.pcap"
    words = [command("qoe-probe"), "simulate", str(capture), "--view", "s1u+s11", "--cells", "12"]
    words += ["--subscribers", str(SUBSCRIBERS), "--duration", "60s", "--handovers", "20"]
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    truth = json.loads(capture.with_suffix(".truth.json").read_text())
    identities = sorted(set(digits_of(truth["identities"])))
    needles = Needles(identities)
    assert len(identities) > 2 * SUBSCRIBERS
    assert len(needles.found_in(capture.read_bytes())) > SUBSCRIBERS  # the search finds what is there
    for name in ("key", "token"):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text("secret")
    config = tmp_path / "probe.yaml"
    config.write_text(
        f"""\
probe_id: p
capture: [{{file: {capture}, capture_point: s1u}}]
site_key_file: key
spool: {{path: spool}}
collector: {{urls: ["http://127.0.0.1:9"], token_file: token, stop_timeout: 1s}}
metrics: {{listen: "127.0.0.1:18643"}}
"""
    )
    log = tmp_path / "log"
    with log.open("wb") as output:
        probe = subprocess.Popen(
            [command("qoe-probe"), "run", "--config", str(config)], stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 120
        while b"bearers saved=" not in log.read_bytes():
            assert probe.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        time.sleep(1)
        with urllib.request.urlopen("http://127.0.0.1:18643/metrics", timeout=10) as answer:
            metrics = answer.read()
        try:
            memory = memory_of(probe.pid)
        except PermissionError:
            memory = b""  # not even its own user may look
    finally:
        probe.terminate()
        probe.wait(timeout=60)
    batches = [one.payload or b"" for one in survey(tmp_path / "spool", payloads=True).pending]
    places = {
        "spool and bearers": b"".join(
            p.read_bytes() for p in (tmp_path / "spool").rglob("*") if p.is_file()
        ),
        "batches": b"".join(zstandard.decompress(batch, 1 << 28) for batch in batches),
        "log": log.read_bytes(),
        "metrics": metrics,
        "memory": memory,
    }
    assert batches
    leaks = {place: sorted(needles.found_in(hay))[:5] for place, hay in places.items()}
    counts = {place: len(needles.found_in(hay)) for place, hay in places.items()}
    sizes = {place: len(hay) for place, hay in places.items()}
    assert not any(counts.values()), (counts, sizes, leaks)
    print(sizes)
