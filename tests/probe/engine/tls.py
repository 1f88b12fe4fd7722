"""TLS connections between two ends of OpenSSL in this process: real bytes, at chosen times."""

import datetime
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.probe.engine.packets import ACK, MS, PSH, Dialogue

NOT_AFTER = datetime.datetime(2041, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
NOT_BEFORE = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
OLD = "DEFAULT:@SECLEVEL=0"
VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
UP_NS, DOWN_NS = 20 * MS, 30 * MS
"""From a client's flight at the tap to the server's answer there, and the other way round."""


@cache
def certificate(*names: str) -> bytes:
    """Return a self-signed certificate for these names and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "common.example")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    signed = builder.sign(key, hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return secret + signed.public_bytes(serialization.Encoding.PEM)


def server_context(version: str, *names: str, tickets: int = 2) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as directory:
        path = Path(directory) / "server.pem"
        path.write_bytes(certificate(*names))
        context.load_cert_chain(path)
    context.num_tickets = tickets
    return _of_version(context, version)


def client_context(version: str) -> ssl.SSLContext:
    """Return the context of a client that believes every certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return _of_version(context, version)


def _of_version(context: ssl.SSLContext, version: str) -> ssl.SSLContext:
    context.set_ciphers(OLD)
    context.minimum_version = context.maximum_version = VERSIONS[version]
    return context


class End:
    """One end of a connection; its incoming and outgoing bytes are in memory."""

    def __init__(
        self, context: ssl.SSLContext, server_side: bool, name: str | None, session: object
    ) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side,
            name,
            session,  # type: ignore[arg-type]
        )

    def attempt(self, action: Callable[[], object]) -> bytes:
        """Do what can be done, and return the bytes that this sends."""
        # It may want more bytes, or say in an alert why it goes no further.
        with suppress(ssl.SSLError):
            action()
        return self.outgoing.read()


@dataclass
class Conversation:
    """TLS between both ends of a dialogue."""

    dialogue: Dialogue
    client_context: ssl.SSLContext
    server_context: ssl.SSLContext
    name: str | None = "www.example.com"
    session: object = None
    client: End = field(init=False)
    server: End = field(init=False)

    def __post_init__(self) -> None:
        self.client = End(self.client_context, False, self.name, self.session)
        self.server = End(self.server_context, True, None, None)

    def hello(self, now: int) -> int:
        """Send the ClientHello; returns the time at which an answer passes the tap."""
        return self._up(now, self.client.attempt(self.client.tls.do_handshake))

    def answer(self, now: int) -> int:
        """Send the server's flight; returns the time at which the client's next one passes."""
        return self._down(now, self.server.attempt(self.server.tls.do_handshake))

    def shake(self, now: int) -> int:
        """Shake hands to the end; returns the time after the last flight."""
        for _ in range(4):
            now = self.answer(self.hello(now))
        return now

    def ask(self, now: int, bytes_: bytes = b"x" * 300) -> int:
        now = self._up(now, self.client.attempt(lambda: self.client.tls.write(bytes_)))
        self.server.attempt(lambda: self.server.tls.read(1 << 16))
        return now

    def reply(self, now: int, bytes_: bytes = b"y" * 2000) -> int:
        now = self._down(now, self.server.attempt(lambda: self.server.tls.write(bytes_)))
        self.client.attempt(lambda: self.client.tls.read(1 << 16))
        return now

    def _up(self, now: int, sent: bytes) -> int:
        if not sent:
            return now
        self.dialogue.up(now, ACK | PSH, sent)
        self.server.incoming.write(sent)
        return now + UP_NS

    def _down(self, now: int, sent: bytes) -> int:
        if not sent:
            return now
        self.dialogue.down(now, ACK | PSH, sent)
        self.client.incoming.write(sent)
        return now + DOWN_NS
