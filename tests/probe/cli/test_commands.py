"""qoe-probe as a person or a script uses it: exit codes, one clear line, nothing in the way."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgpack
import pytest

from probe import __version__
from probe.cli import COMMANDS, main
from probe.config import SpoolConfig
from probe.record.schema import COLUMN_BY_NAME
from probe.spool import Spool
from tests.probe.engine.packets import ACK, FIN, MINUTE, MS, PSH, SYN, Capture, ipv4, tcp

PROBE = [sys.executable, "-c", "import sys; from probe.cli import main; sys.exit(main())"]


def qoe_probe(*words: Any, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*PROBE, *map(str, words)], input=stdin, capture_output=True, timeout=60, check=False
    )


def errors(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    """Return the lines on standard error without the warning of the well-known key."""
    assert b"Traceback" not in done.stderr
    return [line for line in done.stderr.decode().splitlines() if "warning: " not in line]


def session(capture: Capture, start: int, port: int) -> None:
    """A TCP connection to port 80 of 192.0.2.1: 20 ms to the server, 2 ms to the client."""
    client, server = "10.0.0.1", "192.0.2.1"
    packets = [
        (0, port, 80, SYN, 100, 0, b""),
        (20, 80, port, SYN | ACK, 500, 101, b""),
        (22, port, 80, ACK, 101, 501, b""),
        (23, port, 80, ACK | PSH, 101, 501, b"hello"),
        (43, 80, port, ACK | FIN, 501, 106, b""),
        (45, port, 80, ACK | FIN, 106, 502, b""),
        (65, 80, port, ACK, 502, 107, b""),
    ]
    for after, source, destination, flags, sequence, acknowledged, body in packets:
        ends = (client, server) if source == port else (server, client)
        segment = tcp(source, destination, flags, sequence, acknowledged, body)
        capture.add(start + after * MS, ipv4(*ends, 6, segment))


@pytest.fixture
def pcap(tmp_path: Path) -> Path:
    capture = Capture()
    for number in range(5):
        session(capture, MINUTE + number * 100 * MS, 40_000 + number)
    path = tmp_path / "five.pcap"
    path.write_bytes(capture.pcap())
    return path


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_every_command_has_help_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"example: qoe-probe {name}" in shown
    assert "--log-level" in shown


def test_the_version_is_one_line(capsys):
    for words in (["--version"], ["replay", "--version"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
        assert capsys.readouterr().out == f"qoe-probe {__version__}\n"


@pytest.mark.parametrize("words", [[], ["fly"], ["replay"], ["replay", "x", "--format", "xml"]])
def test_bad_usage_ends_with_2(words):
    done = qoe_probe(*words)
    assert done.returncode == 2
    assert done.stdout == b""
    assert errors(done)


# ----------------------------------------------------------------------------------------- replay


def test_jsonl_has_every_field_of_every_record(pcap: Path):
    done = qoe_probe("replay", pcap)
    assert (done.returncode, errors(done)) == (0, [])
    assert b"well-known key" in done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 5
    for row in rows:
        assert list(row) == ["probe_id", *COLUMN_BY_NAME]
        assert row["handshake_rtt_server_us"] == 20_000
        assert row["handshake_rtt_client_us"] == 2000
        assert row["client_ip"] == "10.0.0.1", "a replay keeps addresses as they are"
        assert row["cell_id"] is None


@pytest.mark.parametrize("form", ["jsonl", "table", "msgpack"])
def test_the_same_capture_gives_the_same_bytes(pcap: Path, tmp_path: Path, form: str):
    first = qoe_probe("replay", pcap, "--format", form)
    again = qoe_probe("replay", pcap, "--format", form, "--output", tmp_path / "out")
    assert first.returncode == again.returncode == 0
    assert first.stdout
    assert (tmp_path / "out").read_bytes() == first.stdout
    assert again.stdout == b""


def test_standard_input_and_a_directory_give_what_the_file_gives(pcap: Path):
    expected = qoe_probe("replay", pcap).stdout
    assert qoe_probe("replay", "-", stdin=pcap.read_bytes()).stdout == expected
    assert qoe_probe("replay", pcap.parent).stdout == expected


def test_msgpack_is_a_row_of_batches_that_never_change(pcap: Path):
    done = qoe_probe("replay", pcap, "--format", "msgpack")
    batches = list(msgpack.Unpacker(io.BytesIO(done.stdout)))
    assert sum(batch["rows"] for batch in batches) == 5
    assert [batch["sequence"] for batch in batches] == list(range(len(batches)))
    assert {(batch["epoch"], batch["created_at"]) for batch in batches} == {(0, 0)}


def test_a_table_is_for_people(pcap: Path):
    lines = qoe_probe("replay", pcap, "--format", "table").stdout.decode().splitlines()
    assert len(lines) == 6
    assert sum("10.0.0.1:4000" in line for line in lines) == 5
    assert "22.0" in lines[1], "the set-up in milliseconds"


def test_attribution_and_key_come_from_the_configuration(pcap: Path, tmp_path: Path):
    (tmp_path / "key").write_text("one key\n")
    config = tmp_path / "probe.yaml"
    config.write_text(
        "probe_id: mine\nsite_key_file: key\n"
        "attribution:\n  map:\n"
        "    - {client_prefix: 10.0.0.0/8, subscriber: 'imsi:001010000000001', "
        "cell_id: 001-01-0019B01}\n"
    )
    done = qoe_probe("replay", pcap, "--config", config)
    assert (done.returncode, done.stderr) == (0, b"")
    row = json.loads(done.stdout.splitlines()[0])
    assert (row["probe_id"], row["cell_id"]) == ("mine", "001-01-0019B01")
    (tmp_path / "other").write_text("other key")
    other = qoe_probe("replay", pcap, "--config", config, "--site-key-file", tmp_path / "other")
    assert json.loads(other.stdout.splitlines()[0])["subscriber_id"] != row["subscriber_id"]


def test_a_truncated_capture_gives_its_records_and_one_line(pcap: Path):
    whole = pcap.read_bytes()
    pcap.write_bytes(whole[:-10])
    done = qoe_probe("replay", pcap)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 5
    (line,) = errors(done)
    assert line.startswith("qoe-probe: ")
    assert "five.pcap" in line


@pytest.mark.parametrize("content", [b"", b"garbage", os.urandom(5000), b"%PDF-1.4"])
def test_what_is_no_capture_is_one_line_and_exit_code_1(tmp_path: Path, content: bytes):
    path = tmp_path / "x.pcap"
    path.write_bytes(content)
    done = qoe_probe("replay", path)
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = errors(done)
    assert "x.pcap" in line


def test_files_that_are_not_there_are_named(pcap: Path, tmp_path: Path):
    done = qoe_probe("replay", tmp_path / "nowhere.pcap")
    assert done.returncode == 1
    assert "nowhere.pcap" in errors(done)[0]
    done = qoe_probe("replay", pcap, "--output", tmp_path / "no" / "out")
    assert (done.returncode, len(errors(done))) == (1, 1)
    done = qoe_probe("replay", pcap, "--site-key-file", tmp_path / "no-key")
    assert done.returncode == 2
    assert "no-key: cannot be read" in errors(done)[0]


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path):
    capture = Capture()
    for number in range(500):
        session(capture, MINUTE + number * 100 * MS, 10_000 + number)
    (tmp_path / "many.pcap").write_bytes(capture.pcap())
    running = subprocess.Popen(
        [*PROBE, "replay", str(tmp_path / "many.pcap")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdout is not None
    running.stdout.readline()
    running.stdout.close()
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 0
    assert b"Traceback" not in stderr
    assert b"Broken" not in stderr


# ------------------------------------------------------------------------- configuration and spool


def test_check_config_names_every_problem_and_ends_with_2(tmp_path: Path):
    config = tmp_path / "probe.yaml"
    config.write_text("probe_id: 5\ncaptur: []\nactive_timeout: 60\n")
    done = qoe_probe("check-config", config)
    assert done.returncode == 2
    text = "\n".join(errors(done))
    assert f"{config}:1: probe_id: wrong type" in text
    assert f"{config}:2: captur: unknown key, did you mean 'capture'" in text
    assert f"{config}:3: active_timeout: a duration carries a unit" in text
    assert qoe_probe("run", "--config", config).returncode == 2


def test_check_config_looks_at_the_files_too(repository: Path, tmp_path: Path):
    text = (repository / "configs" / "probe-laptop.yaml").read_text().replace("../var/", "")
    (tmp_path / "probe.yaml").write_text(text)
    done = qoe_probe("check-config", tmp_path / "probe.yaml")
    assert done.returncode == 2
    assert len(errors(done)) == 3
    for name in ("site.key", "probe.token", "demo.pcap"):
        (tmp_path / name).write_text("x")
    done = qoe_probe("check-config", tmp_path / "probe.yaml")
    assert (done.returncode, errors(done)) == (0, [f"{tmp_path / 'probe.yaml'}: correct"])


def test_the_spool_can_be_looked_into(tmp_path: Path):
    config = SpoolConfig(path=tmp_path / "spool")
    with Spool(config) as spool:
        spool.append(lambda *_: msgpack.packb({"not": "a batch"}))
        done = qoe_probe("spool", "status", "--path", config.path)
        assert json.loads(done.stdout)["pending_batches"] == 1
        done = qoe_probe("spool", "inspect", "--path", config.path)
        assert "schema_version" in json.loads(done.stdout)["error"]
    done = qoe_probe("spool", "status", "--path", tmp_path)
    assert (done.returncode, len(errors(done))) == (1, 1)


def test_doctor_tells_what_is_missing(tmp_path: Path, repository: Path):
    text = (repository / "configs" / "probe-sgi.yaml").read_text()
    text = text.replace("/var/lib/edgeqoe/spool", "spool").replace("eth1", "nosuch0")
    text = text.replace("https://collector.example.net", "http://127.0.0.1:9")
    (tmp_path / "probe.yaml").write_text(text)
    done = qoe_probe("doctor", "--config", tmp_path / "probe.yaml")
    assert done.returncode == 1
    lines = done.stdout.decode().splitlines()
    assert all(line.split()[0] in ("ok", "warn", "fail") for line in lines)
    assert any(line.startswith("fail  nosuch0: there is no such interface") for line in lines)
    assert any(line.startswith("fail  collector: http://127.0.0.1:9") for line in lines)
    assert any(line.startswith("ok    spool:") for line in lines)


def test_explain_shows_wireshark_beside_our_record(pcap: Path, tool):
    tool("tshark")
    pytest.importorskip("pyshark")
    row = json.loads(qoe_probe("replay", pcap).stdout.splitlines()[0])
    done = qoe_probe("explain", pcap, "--session", row["session_id"])
    shown = done.stdout.decode().splitlines()
    assert done.returncode == 0
    packets = shown[next(i for i, line in enumerate(shown) if line.startswith("Wireshark")) + 1 :]
    assert len(packets) == 7
    assert "[S] seq 0" in packets[0]
    assert qoe_probe("explain", pcap, "--session", "0" * 16).returncode == 1


# --------------------------------------------------------------------------------------------- run


def test_sigterm_ends_run_with_0_and_the_batches_kept(pcap: Path, tmp_path: Path):
    """The collector is away: what was measured must wait in the spool."""
    for name in ("key", "token"):
        (tmp_path / name).write_text("x")
    (tmp_path / "probe.yaml").write_text(
        f"probe_id: p\ncapture: [{{file: {pcap.name}, capture_point: tap, time: now}}]\n"
        "site_key_file: key\nspool: {path: spool}\n"
        "collector: {urls: ['http://127.0.0.1:9'], token_file: token, stop_timeout: 100ms}\n"
        "metrics: {listen: '127.0.0.1:0'}\n"
    )
    running = subprocess.Popen(
        [*PROBE, "run", "--config", str(tmp_path / "probe.yaml")], stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 30
    while not list((tmp_path / "spool" / "segments").glob("*.seg")) or not _pending(tmp_path):
        assert time.monotonic() < deadline, "nothing was spooled"
        time.sleep(0.1)
    running.send_signal(signal.SIGTERM)
    _, stderr = running.communicate(timeout=30)
    assert b"Traceback" not in stderr
    assert running.returncode == 0
    lines = qoe_probe("spool", "inspect", "--path", tmp_path / "spool").stdout.splitlines()
    assert sum(json.loads(line)["records"] for line in lines) == 5


def _pending(directory: Path) -> int:
    done = qoe_probe("spool", "status", "--path", directory / "spool")
    return int(json.loads(done.stdout)["pending_batches"]) if done.returncode == 0 else 0
