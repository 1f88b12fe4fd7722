"""QUIC packets made byte by byte (RFC 9000, 9001), sealed with a cryptographic library of its own.

Initial packets can be read by anyone who saw the first one, so these are real; Handshake and 1-RTT
packets hold random bytes behind a true header, which is all that the engine could see of real ones.
"""

import struct
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from tests.probe.engine.packets import Capture, ipv4, udp

VERSION_1 = 1
SALT_1 = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")


def expand(secret: bytes, label: bytes, length: int) -> bytes:
    full = b"tls13 " + label
    info = struct.pack(">HB", length, len(full)) + full + b"\0"
    return HKDFExpand(hashes.SHA256(), length, info).derive(secret)


@dataclass
class Keys:
    key: bytes
    iv: bytes
    header: bytes

    @classmethod
    def of(cls, first_id: bytes, label: bytes) -> "Keys":
        initial = HKDF.extract(hashes.SHA256(), SALT_1, first_id)
        secret = expand(initial, label, 32)
        return cls(
            expand(secret, b"quic key", 16),
            expand(secret, b"quic iv", 12),
            expand(secret, b"quic hp", 16),
        )

    def seal(self, header: bytes, number: int, frames: bytes) -> bytes:
        """Return the packet; the header ends in a packet number of two bytes."""
        nonce = (int.from_bytes(self.iv, "big") ^ number).to_bytes(12, "big")
        sealed = AESGCM(self.key).encrypt(nonce, frames, header)
        mask = self._mask(sealed[2:18])
        first = bytes([header[0] ^ mask[0] & 0x0F])
        sent = bytes(byte ^ mask for byte, mask in zip(header[-2:], mask[1:3], strict=True))
        return first + header[1:-2] + sent + sealed

    def _mask(self, sample: bytes) -> bytes:
        cipher = Cipher(algorithms.AES(self.header), modes.ECB()).encryptor()
        return cipher.update(sample)


def vector(length_bytes: int, body: bytes) -> bytes:
    return len(body).to_bytes(length_bytes, "big") + body


def extension(kind: int, body: bytes) -> bytes:
    return struct.pack(">H", kind) + vector(2, body)


def client_hello(name: str, alpn: list[str], more: int = 0) -> bytes:
    """Return a ClientHello; `more` bytes of a key share stand ahead of the name."""
    names = b"".join(vector(1, protocol.encode()) for protocol in alpn)
    extensions = (
        extension(51, bytes(more))
        + extension(0, vector(2, b"\0" + vector(2, name.encode())))
        + extension(16, vector(2, names))
        + extension(43, b"\x02\x03\x04")
    )
    body = b"\x03\x03" + bytes(32) + b"\0" + vector(2, b"\x13\x01") + b"\x01\0"
    return b"\x01" + vector(3, body + vector(2, extensions))


def server_hello() -> bytes:
    body = b"\x03\x03" + bytes(32) + b"\0\x13\x01\0" + vector(2, extension(43, b"\x03\x04"))
    return b"\x02" + vector(3, body)


def varint(value: int) -> bytes:
    return struct.pack(">H", 0x4000 | value)


def crypto(offset: int, data: bytes) -> bytes:
    return b"\x06" + varint(offset) + varint(len(data)) + data


def ack(number: int) -> bytes:
    return b"\x02" + varint(number) + bytes(3)


def close(code: int) -> bytes:
    return b"\x1c" + varint(code) + b"\x06\0"


@dataclass
class Side:
    """One end of a connection: its IDs, its keys, its packet numbers."""

    keys: Keys
    own_id: bytes
    peer_id: bytes
    number: int = 0

    def _long_header(self, first: int, version: int = VERSION_1) -> bytes:
        ids = vector(1, self.peer_id) + vector(1, self.own_id)
        return bytes([first]) + struct.pack(">I", version) + ids

    def initial(self, frames: bytes, length: int = 1200, version: int = VERSION_1) -> bytes:
        header = self._long_header(0xC1, version) + b"\0"
        frames = frames.ljust(length - len(header) - 20, b"\0")
        header += varint(2 + len(frames) + 16) + struct.pack(">H", self.number)
        self.number += 1
        return self.keys.seal(header, self.number - 1, frames)

    def handshake(self) -> bytes:
        return self._long_header(0xE1) + varint(60) + bytes(range(60))

    def one_rtt(self, spin: bool = False, length: int = 60) -> bytes:
        return bytes([0x60 if spin else 0x40]) + self.peer_id + bytes(length)

    def version_negotiation(self, versions: list[int]) -> bytes:
        listed = b"".join(struct.pack(">I", version) for version in versions)
        return self._long_header(0x80, 0) + listed


@dataclass
class Connection:
    """A QUIC connection as the tap sees its datagrams."""

    capture: Capture
    client_address: str = "10.0.0.1"
    server_address: str = "192.0.2.1"
    client_port: int = 40000
    first_id: bytes = b"firstone"
    client: Side = field(init=False)
    server: Side = field(init=False)

    def __post_init__(self) -> None:
        client_id, server_id = b"clnt", b"serverid"
        client_keys = Keys.of(self.first_id, b"client in")
        self.client = Side(client_keys, client_id, self.first_id)
        self.server = Side(Keys.of(self.first_id, b"server in"), server_id, client_id)

    def up(self, time_ns: int, datagram: bytes) -> None:
        body = udp(self.client_port, 443, datagram)
        self.capture.add(time_ns, ipv4(self.client_address, self.server_address, 17, body))

    def down(self, time_ns: int, datagram: bytes) -> None:
        body = udp(443, self.client_port, datagram)
        self.capture.add(time_ns, ipv4(self.server_address, self.client_address, 17, body))

    def open(self, start_ns: int, server_rtt_ns: int, client_rtt_ns: int) -> int:
        """Shake hands; returns the time of the client's first 1-RTT packet."""
        hello = client_hello("video.example", ["h3"])
        self.up(start_ns, self.client.initial(crypto(0, hello)))
        flight = self.server.initial(ack(0) + crypto(0, server_hello()), 200)
        self.down(start_ns + server_rtt_ns, flight + self.server.handshake())
        self.client.peer_id = self.server.own_id
        now = start_ns + server_rtt_ns + client_rtt_ns
        reaction = self.client.initial(ack(0)) + self.client.handshake()
        self.up(now, reaction + self.client.one_rtt())
        return now
