"""What the engine says about TLS over TCP, on handshakes that OpenSSL makes."""

import ssl
from collections.abc import Callable
from typing import Any

import pytest

from tests.probe.engine.conftest import Result, Run, only
from tests.probe.engine.packets import (
    ACK,
    FIN,
    MINUTE,
    MS,
    PSH,
    RST,
    SECOND,
    SYN,
    Capture,
    Dialogue,
)
from tests.probe.engine.tls import (
    DOWN_NS,
    NOT_AFTER,
    UP_NS,
    VERSIONS,
    Conversation,
    client_context,
    server_context,
)

# Old versions are what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")

NOON = MINUTE + 5 * SECOND  # far from the ends of an interval
ALERT = 19
"""Bytes of a protected record of TLS 1.3 with an alert in it."""


def verdict(result: Result) -> tuple[Any, ...]:
    row = only(result)
    return row["outcome"], row["failure_cause"], ",".join(row["evidence"] or [])


def sealed(length: int) -> bytes:
    """Return a record of application data of this length."""
    return b"\x17\x03\x03" + length.to_bytes(2, "big") + bytes(length)


def begin(
    version: str = "1.3", tickets: int = 2, name: str | None = "www.example.com", **ends: Any
) -> tuple[Conversation, int]:
    """Open a connection; returns the conversation and the time."""
    dialogue = Dialogue(Capture(), **ends)
    client, server = client_context(version), server_context(version, tickets=tickets)
    return Conversation(dialogue, client, server, name), dialogue.open(NOON)


def begin_with_a_long_certificate(version: str) -> tuple[Conversation, int]:
    names = [f"a-name-of-the-usual-length-{number}.example.com" for number in range(30)]
    dialogue = Dialogue(Capture())
    server = server_context(version, *names)
    return Conversation(dialogue, client_context(version), server), dialogue.open(NOON)


def leave(talk: Conversation, now: int, flags: int = FIN | ACK) -> Capture:
    """Let the client leave and the server take note."""
    dialogue = talk.dialogue
    dialogue.up(now, flags)
    if flags & FIN:
        dialogue.down(now + UP_NS, FIN | ACK)
        dialogue.up(now + UP_NS + DOWN_NS, ACK)
    return dialogue.capture


# -------------------------------------------------------------------------- what handshakes say


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_tells_its_names_and_times(run: Run, version: str) -> None:
    talk, now = begin(version)
    talk.client_context.set_alpn_protocols(["http/1.1"])
    talk.server_context.set_alpn_protocols(["http/1.1"])
    talk = Conversation(talk.dialogue, talk.client_context, talk.server_context)
    start, now = now, talk.shake(now)
    asked = now + 40 * MS
    talk.reply(talk.ask(asked) + 70 * MS)
    row = only(run(leave(talk, asked + SECOND)))
    assert (row["app_protocol"], row["server_name"]) == ("tls", "www.example.com")
    assert (row["server_name_source"], row["alpn"]) == ("sni", "http/1.1")
    assert (row["tls_version"], row["ech"]) == (version, False)
    visible = version != "1.3"
    not_after = NOT_AFTER.strftime("%Y-%m-%dT%H:%M:%S.000000000Z")
    assert row["certificate_not_after"] == (not_after if visible else None)
    # Up to TLS 1.2 the client's first data ends it, in TLS 1.3 its Finished.
    end = asked if visible else start + UP_NS + DOWN_NS
    assert row["tls_setup_us"] == (end - start) // 1000
    assert row["time_to_first_byte_us"] == 90_000
    assert (row["outcome"], row["failure_cause"]) == ("ok", None)


def test_without_a_server_name_the_certificate_names_the_server(run: Run) -> None:
    dialogue = Dialogue(Capture())
    server = server_context("1.2", "shop.example", "other.example")
    talk = Conversation(dialogue, client_context("1.2"), server, name=None)
    talk.shake(dialogue.open(NOON))
    row = only(run(dialogue.capture))
    assert (row["server_name"], row["server_name_source"]) == ("shop.example", "certificate")


def test_a_certificate_without_other_names_gives_its_common_name(run: Run) -> None:
    talk, now = begin("1.2", name=None)
    talk.shake(now)
    assert only(run(talk.dialogue.capture))["server_name"] == "common.example"


def test_a_handshake_that_is_asked_for_again_is_one_handshake(run: Run) -> None:
    talk, start = begin()
    talk.server_context.set_ecdh_curve("secp384r1")  # no client sends a key share of it
    talk = Conversation(talk.dialogue, talk.client_context, talk.server_context)
    now = talk.shake(start)
    talk.reply(talk.ask(now))
    row = only(run(leave(talk, now + SECOND)))
    assert row["tls_setup_us"] == 2 * (UP_NS + DOWN_NS) // 1000
    assert row["time_to_first_byte_us"] == UP_NS // 1000


def in_pieces(capture: Capture, size: int, order: Callable[[list[bytes]], list[bytes]]) -> Capture:
    """Cut every payload into segments of this size and put those of each packet in order anew."""
    cut = Capture()
    for time_ns, frame in capture.packets:
        header, payload = frame[:54], frame[54:]
        sequence = int.from_bytes(header[38:42], "big")
        pieces = [
            (header[:16] + (40 + len(payload[at : at + size])).to_bytes(2, "big"))
            + header[18:38]
            + (sequence + at).to_bytes(4, "big")
            + header[42:]
            + payload[at : at + size]
            for at in range(0, max(len(payload), 1), size)
        ]
        cut.packets += [(time_ns, piece) for piece in order(pieces)]
    return cut


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("order", [list, lambda pieces: pieces[::-1], lambda pieces: pieces * 2])
def test_segments_cut_reordered_and_repeated_tell_the_same(
    run: Run, version: str, order: Callable[[list[bytes]], list[bytes]]
) -> None:
    talk, now = begin(version)
    now = talk.shake(now)
    talk.reply(talk.ask(now))
    capture = leave(talk, now + SECOND)
    facts = ["server_name", "tls_version", "ech", "certificate_not_after", "tls_setup_us"]
    facts += ["time_to_first_byte_us"]
    whole, cut = only(run(capture)), only(run(in_pieces(capture, 100, order)))
    assert {name: cut[name] for name in facts} == {name: whole[name] for name in facts}


def test_tls_behind_other_bytes_is_found(run: Run) -> None:
    talk, now = begin("1.2", server_port=587)
    dialogue = talk.dialogue
    dialogue.down(now, ACK | PSH, b"220 mail.example ESMTP\r\n")
    dialogue.up(now + MS, ACK | PSH, b"STARTTLS\r\n")
    dialogue.down(now + 2 * MS, ACK | PSH, b"220 go ahead\r\n")
    talk.shake(now + 3 * MS)
    row = only(run(dialogue.capture))
    assert (row["app_protocol"], row["tls_version"]) == ("tls", "1.2")


# ----------------------------------------------------------------------------- time to first byte


@pytest.mark.parametrize(("tickets", "expected"), [(0, 90_000), (1, None), (2, 90_000)])
def test_a_lone_ticket_right_before_the_answer_leaves_the_wait_open(
    run: Run, tickets: int, expected: int | None
) -> None:
    """The request is in the flight of the client's Finished, and the server thinks for 70 ms."""
    talk, now = begin(tickets=tickets)
    now = talk.answer(talk.hello(now))
    finished = talk.client.attempt(talk.client.tls.do_handshake)
    request = talk.client.attempt(lambda: talk.client.tls.write(b"x" * 300))
    now = talk._up(now, finished + request)
    talk.answer(now)
    talk.server.attempt(lambda: talk.server.tls.read(1 << 16))
    talk.reply(now + 70 * MS, b"y" * 900)
    talk.reply(now + 71 * MS, b"y" * 1900)
    assert only(run(leave(talk, now + SECOND)))["time_to_first_byte_us"] == expected


def test_a_ticket_that_crosses_the_request_is_not_its_answer(run: Run) -> None:
    talk, now = begin(tickets=1)
    now = talk.answer(talk.hello(now))
    now = talk._up(now, talk.client.attempt(talk.client.tls.do_handshake))
    ticket = talk.server.attempt(talk.server.tls.do_handshake)
    unaware = talk.dialogue.client_sequence
    request = talk.client.attempt(lambda: talk.client.tls.write(b"x" * 300))
    talk._up(now - MS, request)
    aware, talk.dialogue.client_sequence = talk.dialogue.client_sequence, unaware
    talk._down(now, ticket)
    talk.dialogue.client_sequence = aware
    talk.server.attempt(lambda: talk.server.tls.read(1 << 16))
    talk.reply(now + 99 * MS, b"y" * 900)
    assert only(run(leave(talk, now + SECOND)))["time_to_first_byte_us"] == 100_000


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_the_preface_of_a_preconnected_http2_is_no_request(run: Run, version: str) -> None:
    talk, _ = begin(version)
    for context in (talk.client_context, talk.server_context):
        context.set_alpn_protocols(["h2"])
    talk = Conversation(Dialogue(Capture()), talk.client_context, talk.server_context)
    now = talk.shake(talk.dialogue.open(NOON))
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9 + 24 + 13)
    talk.reply(talk.ask(now, preface), bytes(9 + 18))
    asked = now + 6 * SECOND
    talk.reply(talk.ask(asked, bytes(350)) + 10 * MS, bytes(1200))
    assert only(run(leave(talk, asked + SECOND)))["time_to_first_byte_us"] == 30_000


def test_a_server_that_speaks_first_is_not_timed(run: Run) -> None:
    talk, now = begin("1.2", server_port=993)
    now = talk.shake(now)
    talk.reply(now, b"* OK ready\r\n")
    talk.reply(talk.ask(now + 50 * MS))
    assert only(run(leave(talk, now + SECOND)))["time_to_first_byte_us"] is None


# ------------------------------------------------- clients that leave, and what that does not say


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("flags", [FIN | ACK, RST | ACK])
def test_a_tab_closed_right_after_the_handshake_is_no_failure(
    run: Run, version: str, flags: int
) -> None:
    talk, now = begin(version)
    now = talk.shake(now)
    assert verdict(run(leave(talk, now + MS, flags)))[:2] == ("ok", None)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_speculative_connection_is_no_failure(run: Run, version: str) -> None:
    talk, now = begin(version)
    now = talk.shake(now)
    talk.dialogue.up(now + 30 * SECOND, ACK | PSH, sealed(ALERT) if version == "1.3" else b"")
    assert verdict(run(leave(talk, now + 30 * SECOND)))[:2] == ("ok", None)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("flags", [FIN | ACK, RST | ACK])
@pytest.mark.parametrize("after_ns", [MS, 800 * MS, 5 * SECOND])
def test_a_client_that_leaves_without_a_word_is_not_known_to_reject(
    run: Run, version: str, flags: int, after_ns: int
) -> None:
    """It may verify slowly, or its user left, or its other connection was faster."""
    talk, now = begin_with_a_long_certificate(version)
    now = talk.answer(talk.hello(now))
    talk.dialogue.up(now, ACK)
    found = verdict(run(leave(talk, now + after_ns, flags)))
    assert found == ("unknown", None, "tls_unfinished,aborted_by_client")


def test_a_slow_client_is_only_slow(run: Run) -> None:
    talk, start = begin()
    now = talk.answer(talk.hello(start))
    talk.dialogue.up(now, ACK)
    now = talk.shake(now + 4 * SECOND)
    talk.reply(talk.ask(now))
    row = only(run(leave(talk, now + SECOND)))
    assert (row["outcome"], row["tls_setup_us"]) == ("ok", 4_050_000)


def resumable(version: str) -> tuple[Conversation, Any]:
    """Return a conversation that held, and the session it leaves."""
    talk, now = begin(version)
    talk.reply(talk.ask(talk.shake(now)))
    return talk, talk.client.tls.session


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_resumed_session_is_measured_like_any_other(run: Run, version: str) -> None:
    first, session = resumable(version)
    dialogue = Dialogue(Capture())
    talk = Conversation(dialogue, first.client_context, first.server_context, session=session)
    now = talk.shake(dialogue.open(NOON))
    assert talk.client.tls.session_reused
    talk.reply(talk.ask(now) + 30 * MS)
    row = only(run(leave(talk, now + SECOND)))
    assert (row["outcome"], row["tls_version"]) == ("ok", version)
    assert (row["certificate_not_after"], row["time_to_first_byte_us"]) == (None, 50_000)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_client_that_leaves_a_resumed_session_has_nothing_to_reject(
    run: Run, version: str
) -> None:
    first, session = resumable(version)
    dialogue = Dialogue(Capture())
    talk = Conversation(dialogue, first.client_context, first.server_context, session=session)
    now = talk.answer(talk.hello(dialogue.open(NOON)))
    dialogue.up(now, ACK)
    assert verdict(run(leave(talk, now + MS)))[:2] == ("unknown", None)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_client_without_the_certificate_asked_for_has_not_rejected_the_server(
    run: Run, version: str
) -> None:
    talk, _ = begin(version)
    server = talk.server_context
    server.verify_mode = ssl.CERT_OPTIONAL
    talk = Conversation(Dialogue(Capture()), talk.client_context, server)
    now = talk.shake(talk.dialogue.open(NOON))
    talk.reply(talk.ask(now))
    assert verdict(run(leave(talk, now + SECOND)))[:2] == ("ok", None)


def rejection(*records: int) -> tuple[Conversation, int]:
    """Let the client answer the server's flight with records of these lengths."""
    talk, now = begin()
    now = talk.answer(talk.hello(now))
    for length in records:
        talk.dialogue.up(now, ACK | PSH, sealed(length))
        now += MS
    return talk, now


@pytest.mark.parametrize("flags", [FIN | ACK, RST | ACK])
def test_one_alert_in_place_of_a_finished_is_a_rejection(run: Run, flags: int) -> None:
    talk, now = rejection(ALERT)
    expected = ("failed", "tls_client_rejected", "client_alert_after_server_flight")
    assert verdict(run(leave(talk, now, flags))) == expected


def test_a_rejection_counts_though_the_server_hangs_up_first(run: Run) -> None:
    talk, now = rejection(ALERT)
    talk.dialogue.down(now + UP_NS, FIN | ACK)
    talk.dialogue.up(now + UP_NS + DOWN_NS, FIN | ACK)
    assert verdict(run(talk.dialogue.capture))[1] == "tls_client_rejected"


def test_a_handshake_that_is_cancelled_in_order_is_no_rejection(run: Run) -> None:
    talk, now = rejection(ALERT, ALERT)
    found = verdict(run(leave(talk, now)))
    assert found == ("unknown", None, "tls_unfinished,aborted_by_client")


def test_a_version_that_the_client_did_not_offer_is_why_it_leaves(run: Run) -> None:
    dialogue = Dialogue(Capture())
    talk = Conversation(dialogue, client_context("1.3"), server_context("1.3"))
    now = talk.hello(dialogue.open(NOON))
    hello = b"\x02\x00\x00\x26\x03\x03" + bytes(32) + b"\x00\xc0\x2f\x00"
    dialogue.down(now, ACK | PSH, b"\x16\x03\x03\x00\x2a" + hello)
    dialogue.up(now + DOWN_NS, ACK)
    found = verdict(run(leave(talk, now + 2 * DOWN_NS)))
    assert found == ("failed", "tls_version_unsupported", "version_not_offered,client_left")


def test_a_client_that_does_not_trust_the_server_says_so_up_to_1_2(run: Run) -> None:
    talk, _ = begin("1.2")
    talk.client_context.verify_mode = ssl.CERT_REQUIRED
    talk = Conversation(Dialogue(Capture()), talk.client_context, talk.server_context)
    now = talk.shake(talk.dialogue.open(NOON))
    found = verdict(run(leave(talk, now)))
    assert found == ("failed", "tls_certificate", "alert_unknown_ca_by_client")


def test_a_handshake_with_a_hole_in_it_is_no_failure(run: Run) -> None:
    talk, now = begin()
    now = talk.shake(now)
    talk.reply(talk.ask(now))
    capture = leave(talk, now + SECOND)
    flight = max(range(6), key=lambda number: len(capture.packets[number][1]))
    del capture.packets[flight]
    row = only(run(capture))
    assert row["failure_cause"] is None
    assert "capture_loss" in row["flags"]


def test_a_handshake_under_way_when_the_capture_begins_is_no_failure(run: Run) -> None:
    talk, now = begin()
    now = talk.shake(now)
    talk.reply(talk.ask(now))
    capture = leave(talk, now + SECOND)
    for first in range(1, len(capture.packets)):
        rows = run(Capture(capture.packets[first:])).rows
        assert all(row["failure_cause"] is None for row in rows), first


def test_a_syn_that_says_hello_is_read(run: Run) -> None:
    """TCP Fast Open (RFC 7413): the ClientHello stands in the SYN."""
    dialogue = Dialogue(Capture())
    talk = Conversation(dialogue, client_context("1.3"), server_context("1.3"))
    hello = talk.client.attempt(talk.client.tls.do_handshake)
    dialogue.up(NOON, SYN, hello)
    talk.server.incoming.write(hello)
    dialogue.down(NOON + UP_NS, SYN | ACK)
    talk.shake(NOON + UP_NS + MS)
    row = only(run(dialogue.capture))
    assert (row["server_name"], row["tls_version"]) == ("www.example.com", "1.3")
