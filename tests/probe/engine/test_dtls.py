"""What the engine says about DTLS."""

from tests.probe.engine.conftest import Run, only
from tests.probe.engine.packets import MINUTE, MS, SECOND, Capture, ipv4, udp
from tests.probe.engine.quic import extension, vector

NOON = MINUTE + 5 * SECOND
CLIENT, SERVER = ("10.0.0.1", 50000), ("192.0.2.1", 5684)
ALERT, HANDSHAKE, DATA = 21, 22, 23
HELLO_VERIFY_REQUEST = 3


def record(kind: int, body: bytes, epoch: int = 0) -> bytes:
    return bytes((kind, 0xFE, 0xFD)) + epoch.to_bytes(2, "big") + bytes(6) + vector(2, body)


def message(kind: int, body: bytes, start: int = 0, end: int | None = None) -> bytes:
    """Return a record with a fragment of a handshake message, or with all of it."""
    part = body[start:end]
    place = start.to_bytes(3, "big") + len(part).to_bytes(3, "big")
    head = bytes([kind]) + len(body).to_bytes(3, "big") + bytes(2) + place
    return record(HANDSHAKE, head + part)


def client_hello(cookie: bytes = b"") -> bytes:
    name = extension(0, vector(2, b"\0" + vector(2, b"coap.example")))
    offers = extension(16, vector(2, vector(1, b"coap")))
    head = b"\xfe\xfd" + bytes(32) + b"\0" + vector(1, cookie) + vector(2, b"\xc0\x2b")
    return head + b"\x01\0" + vector(2, name + offers)


def server_hello(*extensions: bytes) -> bytes:
    head = b"\xfe\xfd" + bytes(32) + b"\0\xc0\x2b\0"
    return head + vector(2, b"".join(extensions))


def talk(*datagrams: tuple[tuple[str, int], bytes]) -> Capture:
    """Send datagrams 10 ms apart."""
    capture = Capture()
    for number, (sender, datagram) in enumerate(datagrams):
        receiver = SERVER if sender == CLIENT else CLIENT
        packet = ipv4(sender[0], receiver[0], 17, udp(sender[1], receiver[1], datagram))
        capture.add(NOON + number * 10 * MS, packet)
    return capture


def test_a_handshake_tells_names_version_and_time(run: Run) -> None:
    hello = client_hello(b"cookie")
    row = only(
        run(
            talk(
                (CLIENT, message(1, client_hello())),
                (SERVER, message(HELLO_VERIFY_REQUEST, b"\xfe\xfd\x06cookie")),
                (CLIENT, message(1, hello, 0, 50)),
                (CLIENT, message(1, hello, 50)),
                (SERVER, message(2, server_hello())),
                (CLIENT, record(DATA, bytes(40), epoch=1)),
                (SERVER, record(DATA, bytes(40), epoch=1)),
            )
        )
    )
    assert (row["app_protocol"], row["server_name"]) == ("dtls", "coap.example")
    assert (row["server_name_source"], row["alpn"]) == ("sni", "coap")
    assert (row["tls_version"], row["tls_setup_us"]) == ("1.2", 50_000)
    assert (row["outcome"], row["failure_cause"]) == ("ok", None)


def test_in_1_3_the_first_data_ends_the_handshake(run: Run) -> None:
    row = only(
        run(
            talk(
                (CLIENT, message(1, client_hello())),
                (SERVER, message(2, server_hello(extension(43, b"\xfe\xfc")))),
                (SERVER, b"\x2e\0\x01\0\x28" + bytes(40)),
                (CLIENT, b"\x2e\0\x01\0\x28" + bytes(40)),
                (CLIENT, b"\x2f\0\x01\0\x28" + bytes(40)),
            )
        )
    )
    assert (row["tls_version"], row["tls_setup_us"]) == ("1.3", 40_000)


def test_a_server_that_finds_no_cipher_says_so(run: Run) -> None:
    capture = talk((CLIENT, message(1, client_hello())), (SERVER, record(ALERT, b"\x02\x28")))
    row = only(run(capture))
    assert (row["failure_cause"], row["failure_stage"]) == ("tls_no_common_cipher", "tls")
    assert (row["failure_side"], row["evidence"]) == (
        "server",
        ["alert_handshake_failure_by_server"],
    )


def test_in_a_call_the_far_end_may_begin_and_the_side_is_told_from_here(run: Run) -> None:
    """Either end of a call may say ClientHello (RFC 5763 5), after a check of the path by STUN."""
    binding = b"\0\x01\0\0\x21\x12\xa4\x42" + bytes(12)
    capture = talk(
        (CLIENT, binding),
        (SERVER, message(1, client_hello())),
        (CLIENT, record(ALERT, b"\x02\x28")),
    )
    row = only(run(capture))
    assert (row["app_protocol"], row["failure_side"]) == ("dtls", "device")


def test_datagrams_in_the_wrong_order_are_survived(run: Run) -> None:
    hello = client_hello()
    capture = talk(
        (SERVER, message(2, server_hello())),
        (CLIENT, message(1, hello, 50)),
        (CLIENT, message(1, hello, 0, 50)),
        (CLIENT, message(1, hello)),
        (CLIENT, message(1, hello)[:40]),
    )
    row = only(run(capture))
    assert (row["app_protocol"], row["server_name"]) == ("dtls", "coap.example")
