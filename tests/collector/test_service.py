"""The collector as a process: what it takes, refuses, keeps, survives, and how it ends."""

import gzip
import hashlib
import hmac
import http.client
import json
import signal
import socket
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from probe.record import codec

MIB = 1 << 20
SUBSCRIBER = "0123456789abcdef0123456789abcdef"
NETWORK = "/api/v1/network?from=0&to=now"


def rows(count: int, **fields: Any) -> list[dict[str, Any]]:
    def at(number: int) -> str:
        return f"2026-01-31T12:00:{number % 60:02d}.000000000Z"

    return [
        {
            "flow_start_time": at(number),
            "start_time": at(number),
            "end_time": at(number),
            "bytes_up": 100,
            "bytes_down": 1000,
            "cell_id": "001-01-0019B01",
            "subscriber_id": SUBSCRIBER,
            **fields,
        }
        for number in range(count)
    ]


def stored(collector: Any) -> tuple[int, int]:
    """Return (records, bytes_down) of all time, by query."""
    data = collector.ask(NETWORK).json["data"]
    return data["records"], data["bytes_down"]


@pytest.fixture(scope="module")
def collector(start_collector: Callable[..., Any]) -> Iterator[Any]:
    settings = "site_key_file: key\nopen_on_loopback: true\nincidents: {enabled: false}\n"
    collector = start_collector(settings, key="the site key\n")
    yield collector
    assert collector.stop() == 0, collector.log.read_text()


@pytest.fixture(scope="module")
def token(collector: Any) -> str:
    return collector.token("probe", "edge-1")


@pytest.fixture
def unchanged(collector: Any) -> Iterator[None]:
    """Check that the test stores nothing."""
    before = stored(collector)
    yield
    assert stored(collector) == before


# ------------------------------------------------------------------------------------- batches


def test_a_batch_is_stored_once_however_often_it_is_sent(
    collector: Any, token: str, sealed: Callable[..., bytes]
) -> None:
    records, volume = stored(collector)
    body = sealed(rows(7), sequence=1)
    assert collector.send(body, token).json == {"duplicate": False}
    assert stored(collector) == (records + 7, volume + 7000)
    compressed = zstandard.compress(body)
    for _ in range(3):
        answer = collector.send(compressed, token, Content_Encoding="zstd")
        assert (answer.status, answer.json) == (200, {"duplicate": True})
    assert stored(collector) == (records + 7, volume + 7000)


def test_the_same_name_with_other_content_is_409_and_changes_nothing(
    collector: Any, token: str, sealed: Callable[..., bytes]
) -> None:
    assert collector.send(sealed(rows(2), sequence=2), token).status == 200
    before = stored(collector)
    assert collector.send(sealed(rows(3), sequence=2), token).status == 409
    assert stored(collector) == before


def test_a_crash_between_store_and_acknowledgement_stores_once(
    collector: Any, token: str, sealed: Callable[..., bytes]
) -> None:
    body = sealed(rows(5), sequence=3)
    assert collector.send(body, token).json == {"duplicate": False}
    before = stored(collector)
    # What a crash before the mark leaves behind: the rows are stored, the name is not known.
    state = sqlite3.connect(collector.directory / "store.state.sqlite")
    with state:
        state.execute("DELETE FROM accepted_batches WHERE sequence = 3")
    state.close()
    assert collector.send(body, token).json == {"duplicate": False}
    assert stored(collector) == before
    assert collector.run("check-store").returncode == 0


GARBAGE = {
    "empty": b"",
    "random": bytes(range(256)) * 64,
    "json": b'{"probe_id": "edge-1"}',
    "empty map": b"\x80",
}


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
@pytest.mark.usefixtures("unchanged")
def test_garbage_is_400_and_changes_nothing(collector: Any, token: str, body: bytes) -> None:
    answer = collector.send(body, token)
    assert answer.status == 400
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.json["detail"]


@pytest.mark.usefixtures("unchanged")
def test_an_oversized_batch_is_413_and_changes_nothing(collector: Any, token: str) -> None:
    assert collector.send(bytes(8 * MIB + 1), token).status == 413


@pytest.mark.parametrize("compress", [zstandard.compress, gzip.compress])
@pytest.mark.usefixtures("unchanged")
def test_a_bomb_is_413_and_changes_nothing(
    collector: Any, token: str, compress: Callable[[bytes], bytes]
) -> None:
    encoding = "zstd" if compress is zstandard.compress else "gzip"
    bomb = compress(bytes(256 * MIB))
    assert len(bomb) < MIB
    assert collector.send(bomb, token, Content_Encoding=encoding).status == 413


@pytest.mark.usefixtures("unchanged")
def test_a_batch_without_a_valid_token_is_401_and_changes_nothing(
    collector: Any, sealed: Callable[..., bytes]
) -> None:
    body = sealed(rows(2), sequence=50)
    assert collector.send(body, "eqo_" + "0" * 12 + "_" + "0" * 64).status == 401
    assert collector.send(body, "").status == 401
    answer = collector.ask("/api/v1/batches", body=body, Content_Type="application/msgpack")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.usefixtures("unchanged")
def test_a_batch_of_another_probe_is_403_and_changes_nothing(
    collector: Any, token: str, sealed: Callable[..., bytes]
) -> None:
    body = sealed(rows(2), sequence=51, probe_id="edge-2")
    assert collector.send(body, token).status == 403
    assert collector.send(body, collector.token("admin", "edge-2")).status == 403


@pytest.mark.usefixtures("unchanged")
def test_another_content_type_is_415_and_changes_nothing(
    collector: Any, token: str, sealed: Callable[..., bytes]
) -> None:
    body = sealed(rows(2), sequence=52)
    assert collector.send(body, token, Content_Type="application/json").status == 415
    assert collector.send(body, token, Content_Encoding="br").status == 415


# -------------------------------------------------------------------------------------- tokens


def test_a_token_works_at_once_and_is_refused_within_2_s_of_its_revocation(
    collector: Any, sealed: Callable[..., bytes]
) -> None:
    token = collector.token("probe", "edge-9")
    body = sealed(rows(1), probe_id="edge-9")
    assert collector.send(body, token).status == 200
    token_id = token.split("_")[1]
    assert token_id in collector.run("token", "list").stdout
    assert collector.run("token", "revoke", token_id).returncode == 0
    revoked = time.monotonic()
    while collector.send(body, token).status != 401:
        assert time.monotonic() < revoked + 2.0
        time.sleep(0.05)


def test_token_create_prints_the_token_alone(collector: Any) -> None:
    made = collector.run("token", "create", "--role", "reader", "--name", "dashboard")
    assert made.stdout.strip().startswith("eqo_") and len(made.stdout.split()) == 1
    secret = made.stdout.strip().rpartition("_")[2]
    assert secret not in made.stderr
    assert secret not in collector.run("token", "list").stdout


# --------------------------------------------------------------------------------- other doors


def test_health_readiness_and_description_are_open(collector: Any) -> None:
    assert collector.ask("/healthz").json == {"status": "alive"}
    assert collector.ask("/readyz").json == {"status": "ready"}
    paths = collector.ask("/openapi.json").json["paths"]
    assert "post" in paths["/api/v1/batches"]
    assert {"/api/v1/incidents", "/api/v1/network", "/api/v1/subscribers/lookup"} <= paths.keys()


def test_metrics_count_what_became_of_batches(collector: Any, token: str) -> None:
    assert collector.send(b"garbage", token).status == 400
    text = collector.ask("/metrics").body.decode()
    assert 'qoe_collector_batches_total{outcome="malformed"}' in text
    assert "qoe_collector_in_flight_bytes 0.0" in text


def test_a_lookup_gives_the_probes_pseudonym_and_is_audited_without_the_identity(
    collector: Any,
) -> None:
    imsi = "001010000000001"
    body = json.dumps({"imsi": imsi}).encode()
    answer = collector.ask(
        "/api/v1/subscribers/lookup",
        collector.token("admin", "care"),
        body=body,
        Content_Type="application/json",
    )
    expected = hmac.new(b"the site key", f"imsi:{imsi}".encode(), hashlib.sha256).hexdigest()[:32]
    assert answer.json == {"subscriber_id": expected}
    state = sqlite3.connect(collector.directory / "store.state.sqlite")
    (entry,) = state.execute("SELECT who, what, subject FROM audit WHERE what LIKE '%lookup%'")
    state.close()
    assert entry[0].startswith("care") and entry[2] == expected
    for file in collector.directory.iterdir():
        assert not file.is_file() or imsi.encode() not in file.read_bytes(), file


@pytest.mark.parametrize(
    "body", [b"{}", b"nonsense", b'{"imsi": "x"}', b'{"imsi": "001010000000001", "ip": "::1"}']
)
def test_a_wrong_lookup_is_400(collector: Any, body: bytes) -> None:
    path = "/api/v1/subscribers/lookup"
    assert collector.ask(path, body=body, Content_Type="application/json").status == 400
    assert collector.ask(path, body=body, Content_Type="text/plain").status == 415
    answer = collector.ask(path, body=bytes(5000), Content_Type="application/json")
    assert answer.status == 413


# ------------------------------------------------------------------------- commands of the store


def test_an_erased_subscriber_is_in_no_answer_and_others_stay(
    collector: Any, token: str, sealed: Callable[..., bytes]
) -> None:
    gone, kept = "e" * 32, "a" * 32
    batch = rows(4, subscriber_id=gone) + rows(3, subscriber_id=kept)
    assert collector.send(sealed(batch, sequence=70), token).status == 200
    span = "?from=0&to=now"
    assert collector.ask(f"/api/v1/subscribers/{gone}{span}").json["data"]["records"] == 4
    erased = collector.run("erase-subscriber", gone.upper())
    assert erased.returncode == 0, erased.stderr
    assert collector.ask(f"/api/v1/subscribers/{gone}{span}").status == 404
    assert collector.ask(f"/api/v1/subscribers/{gone}/sessions{span}").json["data"] == []
    assert collector.ask(f"/api/v1/subscribers/{kept}{span}").json["data"]["records"] == 3
    assert collector.send(sealed(batch, sequence=70), token).json == {"duplicate": True}
    assert collector.ask(f"/api/v1/subscribers/{gone}{span}").status == 404


def test_erasure_follows_links_and_leaves_the_next_owner_of_an_address(
    collector: Any, token: str
) -> None:
    gone, number, address, other = ("71" * 16, "72" * 16, "73" * 16, "74" * 16)
    at = 1_794_996_000 * 10**9  # 2026-11-18T10:00:00Z
    half = 1800 * 10**9
    seen = [(gone, at), (number, at + 1), (address, at + 2), (address, at + half), (other, at)]
    found = [
        rows(1)[0]
        | {"session_id": f"{place:016x}", "record_kind": "final", "capture_point": "s1u"}
        | {"transport": "tcp", "subscriber_id": whose}
        | {name: codec.time_to_text(begin) for name in ("start_time", "end_time")}
        for place, (whose, begin) in enumerate(seen, start=9000)
    ]
    links = [
        {"from": bytes.fromhex(a), "to": bytes.fromhex(b), "since": since, "until": until}
        for a, b, since, until in (
            (gone, number, at, None),
            (gone, address, at, at + half),
            (other, address, at + half, None),
        )
    ]
    head = {"probe_id": "edge-1", "epoch": 1, "sequence": 71, "created_at": at}
    body = codec.seal(codec.body_from_rows(found, links=links), **head)
    assert collector.send(body, token).status == 200
    span = f"?from={at // 10**9}&to={at // 10**9 + 3600}"
    answer = collector.ask(f"/api/v1/subscribers/{number}{span}").json
    assert answer["data"]["records"] == 3
    assert collector.run("erase-subscriber", gone).returncode == 0
    for pseudonym in (gone, number):
        assert collector.ask(f"/api/v1/subscribers/{pseudonym}{span}").status == 404
    answer = collector.ask(f"/api/v1/subscribers/{other}{span}").json
    assert (answer["data"]["records"], answer["linked"]) == (2, [address])
    assert collector.run("check-store").returncode == 0


def test_the_admin_socket_is_its_owners_alone(collector: Any) -> None:
    path = collector.directory / "store.state.sqlite.admin"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_collector_says_what_stands_in_its_way(collector: Any, tmp_path: Path) -> None:
    second = collector.run("serve")
    assert (second.returncode, second.stdout) == (1, "")
    assert "another collector serves" in second.stderr

    collector_config = collector.config.read_text()
    try:
        collector.config.write_text(collector_config + "state: other.sqlite\n")
        second = collector.run("serve")
        assert second.returncode == 1
        assert "another process has it open" in second.stderr
        assert "Traceback" not in second.stderr
    finally:
        collector.config.write_text(collector_config)


# ------------------------------------------------------------------------------- start and end


def test_a_port_in_use_is_one_clear_line_and_exit_code_1(
    start_collector: Callable[..., Any], tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = tmp_path / "collector.yaml"
        config.write_text(
            f"listen: 127.0.0.1:{port}\nstore: {{engine: chdb, path: {tmp_path}/store}}\n"
        )
        ended = _serve_to_the_end(config)
    assert ended[0] == 1
    assert f"listen: 127.0.0.1:{port}: another process listens there" in ended[1]


def _serve_to_the_end(config: Path) -> tuple[int, str]:
    import subprocess
    import sys

    command = [sys.executable, "-m", "collector.cli", "serve", "--config", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stderr


def test_what_was_acknowledged_survives_a_kill(
    start_collector: Callable[..., Any], sealed: Callable[..., bytes]
) -> None:
    collector = start_collector("open_on_loopback: true\n")
    token = collector.token("probe", "edge-1")
    for sequence in range(1, 4):
        assert collector.send(sealed(rows(10), sequence=sequence), token).status == 200
    collector.stop(signal.SIGKILL)
    collector.start()  # over the socket and the locks that the dead process left
    assert stored(collector) == (30, 30_000)
    assert collector.send(sealed(rows(10), sequence=2), token).json == {"duplicate": True}
    assert stored(collector) == (30, 30_000)
    assert collector.stop() == 0


def test_sigterm_finishes_what_is_in_flight_and_takes_nothing_new(
    start_collector: Callable[..., Any], sealed: Callable[..., bytes]
) -> None:
    collector = start_collector("open_on_loopback: true\n")
    token = collector.token("probe", "edge-1")
    body = sealed(rows(10))
    host, port = collector.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.putrequest("POST", "/api/v1/batches")
    connection.putheader("Authorization", f"Bearer {token}")
    connection.putheader("Content-Type", "application/msgpack")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:100])
    time.sleep(0.5)
    assert collector.process is not None
    collector.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    with pytest.raises(OSError):
        socket.create_connection((host, int(port)), timeout=5)
    connection.send(body[100:])
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())) == (200, {"duplicate": False})
    assert collector.process.wait(timeout=60) == 0
    assert collector.run("check-store").returncode == 0  # by opening the store itself
    collector.process = None
    collector.start()
    assert stored(collector) == (10, 10_000)


def test_the_store_commands_work_while_no_collector_runs(
    start_collector: Callable[..., Any], sealed: Callable[..., bytes]
) -> None:
    collector = start_collector("open_on_loopback: true\n")
    token = collector.token("probe", "edge-1")
    assert collector.send(sealed(rows(4)), token).status == 200
    collector.stop()
    for command in (["migrate"], ["check-store"], ["erase-subscriber", SUBSCRIBER]):
        ended = collector.run(*command)
        assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
    collector.start()
    assert collector.ask(f"/api/v1/subscribers/{SUBSCRIBER}?from=0&to=now").status == 404
