"""What the engine says about HTTP/1.x, and about what begins with it."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.probe.engine.conftest import Row, Run, only
from tests.probe.engine.packets import ACK, FIN, MINUTE, MS, PSH, SECOND, Capture, Dialogue
from tests.probe.engine.tls import Conversation, client_context, server_context

NOON = MINUTE + 5 * SECOND  # far from the ends of an interval
GET = b"GET /index.html HTTP/1.1\r\nHost: a.example\r\n\r\n"
HEAD = GET.replace(b"GET", b"HEAD")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NOT_FOUND = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
BROKEN = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"


def told(row: Row) -> tuple[Any, ...]:
    """Return (requests, failed, worst status, median wait in ms)."""
    wait_us = row["time_to_first_byte_us"]
    wait_ms = wait_us if wait_us is None else wait_us // 1000
    return row["requests"], row["requests_failed"], row["http_status"], wait_ms


@dataclass
class Web:
    """A connection to a web server; `now` goes on with every message."""

    dialogue: Dialogue = field(default_factory=lambda: Dialogue(Capture(), server_port=80))
    now: int = NOON

    def __post_init__(self) -> None:
        self.now = self.dialogue.open(self.now)

    def up(self, *segments: bytes) -> "Web":
        for segment in segments:
            self.now += MS
            self.dialogue.up(self.now, ACK | PSH, segment)
        return self

    def down(self, *segments: bytes, after_ms: int = 1) -> "Web":
        self.now += (after_ms - 1) * MS
        for segment in segments:
            self.now += MS
            self.dialogue.down(self.now, ACK | PSH, segment)
        return self

    def close(self) -> Capture:
        self.now += MS
        self.dialogue.close(self.now)
        return self.dialogue.capture


def test_a_request_tells_host_status_and_wait(run: Run) -> None:
    row = only(run(Web().up(GET).down(OK, after_ms=40).close()))
    assert told(row) == (1, 0, 200, 40)
    assert (row["app_protocol"], row["server_name"]) == ("http", "a.example")
    assert (row["server_name_source"], row["outcome"]) == ("host", "ok")


def test_of_several_requests_the_median_wait_and_the_worst_status_are_told(run: Run) -> None:
    web = Web()
    for answer, wait_ms in ((OK, 10), (NOT_FOUND, 500), (OK, 30)):
        web.up(GET).down(answer, after_ms=wait_ms)
    assert told(only(run(web.close()))) == (3, 0, 404, 30)


def test_each_interval_tells_its_own_requests(run: Run) -> None:
    web = Web().up(GET).down(OK)
    web.now += 60 * SECOND
    first, second = run(web.up(GET, GET).down(BROKEN, OK).close()).rows
    assert (told(first), told(second)) == ((1, 0, 200, 1), (2, 1, 503, 2))


def test_a_pipeline_is_answered_in_order(run: Run) -> None:
    web = Web().up(GET + HEAD + GET)
    web.down(OK, b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", NOT_FOUND, after_ms=20)
    assert told(only(run(web.close()))) == (3, 0, 404, 21)


@pytest.mark.parametrize(
    ("request_", "status"),
    [(HEAD, b"200 OK"), (GET, b"204 No Content"), (GET, b"304 Not Modified")],
)
def test_an_answer_without_a_body_does_not_swallow_the_next(
    run: Run, request_: bytes, status: bytes
) -> None:
    web = Web().up(request_).down(b"HTTP/1.1 " + status + b"\r\nContent-Length: 99999\r\n\r\n")
    assert told(only(run(web.up(GET).down(BROKEN).close())))[:3] == (2, 1, 503)


def test_chunks_end_where_they_say(run: Run) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    web = Web().up(GET).down(head + b"5\r\nHTTP/\r\n", b"a;x=y\r\n0123456789\r\n0\r\n", b"\r\n")
    assert told(only(run(web.up(GET).down(BROKEN).close()))) == (2, 1, 503, 1)


def test_a_permission_to_continue_is_not_the_answer(run: Run) -> None:
    put = b"PUT / HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    web = Web().up(put).down(b"HTTP/1.1 100 Continue\r\n\r\n", after_ms=10).up(b"some body")
    created = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
    assert told(only(run(web.down(created, after_ms=50).close()))) == (1, 0, 201, 61)


def test_a_request_cut_into_segments_out_of_order_is_one_request(run: Run) -> None:
    web = Web().up(GET).down(OK)
    dialogue, start = web.dialogue, web.dialogue.client_sequence
    for at in (20, 0, 10, 20, 30):
        dialogue.client_sequence = start + at
        web.up(GET[at : at + 10] if at < 30 else GET[30:])
    dialogue.client_sequence = start + len(GET)
    assert told(only(run(web.down(BROKEN).close())))[:3] == (2, 1, 503)


def test_a_first_request_out_of_order_is_read(run: Run) -> None:
    web = Web()
    dialogue, start = web.dialogue, web.dialogue.client_sequence
    for at, piece in ((20, GET[20:]), (0, GET[:20])):
        dialogue.client_sequence = start + at
        web.up(piece)
    dialogue.client_sequence = start + len(GET)
    row = only(run(web.down(BROKEN, after_ms=9).close()))
    assert (told(row)[:3], row["server_name"]) == ((1, 1, 503), "a.example")


@pytest.mark.parametrize(
    ("status", "cause", "side"),
    [
        (404, None, None),
        (401, None, None),
        (400, "http_client_error", "device"),
        (500, "http_server_error", "server"),
        (503, "http_server_error", "server"),
    ],
)
def test_a_status_is_a_failure_only_where_something_went_wrong(
    run: Run, status: int, cause: str | None, side: str | None
) -> None:
    answer = b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % status
    row = only(run(Web().up(GET).down(answer).close()))
    assert (row["failure_cause"], row["failure_side"]) == (cause, side)
    assert row["requests_failed"] == (cause is not None)


# ----------------------------------------------------------------------- what begins with HTTP


@pytest.mark.parametrize(
    ("name", "protocol"), [(b"websocket", "websocket"), (b"h2c", "http2"), (b"irc/6.9", "http")]
)
def test_an_upgrade_names_what_follows(run: Run, name: bytes, protocol: str) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: " + name + b"\r\n\r\n"
    web = Web().up(GET[:-2] + b"Upgrade: " + name + b"\r\n\r\n").down(switch, after_ms=8)
    row = only(run(web.up(b"\x81\x85frame").down(b"\x81\x02hi").close()))
    assert (row["app_protocol"], row["server_name"]) == (protocol, "a.example")
    assert (told(row), row["outcome"]) == ((1, 0, 101, 8), "ok")


def test_tls_within_a_tunnel_is_read(run: Run) -> None:
    web = Web().up(b"CONNECT proxied.example:443 HTTP/1.1\r\nHost: proxied.example\r\n\r\n")
    web.down(b"HTTP/1.1 200 Connection established\r\n\r\n", after_ms=15)
    talk = Conversation(web.dialogue, client_context("1.3"), server_context("1.3"))
    web.now = talk.shake(web.now)
    web.now = talk.reply(talk.ask(web.now) + 20 * MS)
    row = only(run(web.close()))
    assert (row["app_protocol"], row["tls_version"]) == ("tls", "1.3")
    assert (row["server_name"], row["server_name_source"]) == ("www.example.com", "sni")
    assert told(row) == (1, 0, 200, 40)


def test_a_tunnel_without_a_server_name_is_named_by_what_was_asked_for(run: Run) -> None:
    web = Web().up(b"CONNECT proxied.example:443 HTTP/1.1\r\n\r\n")
    web.down(b"HTTP/1.1 200 Connection established\r\n\r\n")
    talk = Conversation(web.dialogue, client_context("1.2"), server_context("1.2"), name=None)
    talk.shake(web.now)
    row = only(run(web.dialogue.capture))
    assert (row["server_name"], row["server_name_source"]) == ("proxied.example", "host")


def test_a_refused_tunnel_is_http(run: Run) -> None:
    web = Web().up(b"CONNECT a.example:443 HTTP/1.1\r\n\r\n")
    row = only(run(web.down(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n").close()))
    assert (row["app_protocol"], row["failure_cause"]) == ("http", "http_server_error")


def test_http2_with_prior_knowledge_is_named_and_not_read(run: Run) -> None:
    web = Web().up(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)).down(bytes(9))
    row = only(run(web.close()))
    assert (row["app_protocol"], row["requests"], row["http_status"]) == ("http2", None, None)


# ------------------------------------------------------------------------------ what is missing


def test_a_connection_under_way_is_read_from_the_next_request_on(run: Run) -> None:
    web = Web().up(GET).down(OK[:-2])
    begun = len(web.dialogue.capture.packets)
    web.down(b"ok").up(GET).down(BROKEN, after_ms=7).up(GET).down(OK)
    row = only(run(Capture(web.close().packets[begun:])))
    assert (row["app_protocol"], row["flags"]) == ("http", ["missed_start"])
    assert told(row) == (2, 1, 503, 1)


def test_a_lost_body_hides_nothing_behind_it(run: Run) -> None:
    web = Web().up(GET).down(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n")
    web.dialogue.server_sequence += 50_000
    row = only(run(web.up(GET).down(BROKEN, after_ms=3).close()))
    assert told(row)[:3] == (2, 1, 503)


def test_a_lost_head_is_told_apart_from_an_answer_that_never_came(run: Run) -> None:
    web = Web().up(GET)
    web.dialogue.server_sequence += 400
    web.up(GET).down(OK).up(GET).down(NOT_FOUND, after_ms=5)
    row = only(run(web.close()))
    assert (row["requests"], row["requests_failed"], row["outcome"]) == (3, 0, "ok")
    assert "capture_loss" in row["flags"]


def test_an_answer_sent_again_is_one_answer(run: Run) -> None:
    web = Web().up(GET).down(BROKEN)
    web.dialogue.server_sequence -= len(BROKEN)
    assert told(only(run(web.down(BROKEN).close()))) == (1, 1, 503, 1)


def test_an_answer_that_ends_with_the_connection_is_whole(run: Run) -> None:
    web = Web().up(GET).down(b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 500 is text\r\n\r\n")
    web.dialogue.down(web.now + MS, FIN | ACK)
    web.dialogue.up(web.now + 2 * MS, FIN | ACK)
    row = only(run(web.dialogue.capture))
    assert (told(row)[:3], row["outcome"]) == ((1, 0, 200), "ok")


def test_what_only_begins_like_a_request_is_not_http(run: Run) -> None:
    row = only(run(Web().up(b"GET ", b"\x00\x01\x02\n").down(b"what?").close()))
    assert (row["app_protocol"], row["requests"]) == (None, None)
