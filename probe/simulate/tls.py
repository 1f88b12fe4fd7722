"""TLS as it looks from outside: plausible handshakes (RFC 8446, RFC 5246) around random bytes.

Nothing here is encrypted for real: records that would be ciphertext hold random bytes.
"""

import struct
from collections.abc import Iterable
from enum import IntEnum
from random import Random
from typing import Final

_MAX_RECORD: Final = 16_384 + 17  # RFC 8446 5.2: content type and tag included
_TLS12, _TLS13 = 0x0303, 0x0304
_PADDED_HELLO_BYTES: Final = 512  # RFC 7685
_GREASE: Final = 0x3A3A  # RFC 8701
_X25519: Final = 0x001D
_CIPHERS_13: Final = (0x1301, 0x1302, 0x1303)
_CIPHERS_12: Final = (0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8)
_SIGNATURES: Final = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501)


class ContentType(IntEnum):
    """RFC 8446 5.1."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23


class AlertDescription(IntEnum):
    """RFC 8446 6.2."""

    HANDSHAKE_FAILURE = 40
    PROTOCOL_VERSION = 70
    UNRECOGNIZED_NAME = 112


_FATAL: Final = 2
_CHANGE_CIPHER_SPEC: Final = b"\x14\x03\x03\x00\x01\x01"


class TlsSession:
    """Makes the messages of one session. `version` is "1.2" (resumed) or "1.3"."""

    def __init__(
        self, random: Random, server_name: str, alpn: str, version: str, noise: bytes
    ) -> None:
        self._random = random
        self._server_name = server_name
        self._alpn = alpn
        self._is_13 = version == "1.3"
        self._noise = noise  # ciphertext is cut from here; at least two records long
        self._session_id = random.randbytes(32)

    def client_hello(self) -> bytes:
        """Return the ClientHello record, padded so that its size says little."""
        versions = (_GREASE, _TLS13, _TLS12) if self._is_13 else (_GREASE, _TLS12)
        ciphers = (_GREASE, *_CIPHERS_13, *_CIPHERS_12) if self._is_13 else _CIPHERS_12
        body = b"".join(
            (
                struct.pack("!H", _TLS12),
                self._random.randbytes(32),
                _vector(1, self._session_id),
                _vector(2, _uint16s(ciphers)),
                _vector(1, b"\x00"),
            )
        )
        extensions = self._client_extensions(versions)
        missing = _PADDED_HELLO_BYTES - 4 - len(body) - 2 - len(extensions)
        if missing >= 4:
            extensions += _extension(21, bytes(missing - 4))
        return _record(ContentType.HANDSHAKE, _handshake(1, body + _vector(2, extensions)), 0x0301)

    def _client_extensions(self, versions: Iterable[int]) -> bytes:
        name = _vector(2, b"\x00" + _vector(2, self._server_name.encode("ascii")))
        offered = [protocol.encode("ascii") for protocol in offered_protocols(self._alpn)]
        protocols = b"".join(_vector(1, protocol) for protocol in offered)
        ticket = b"" if self._is_13 else self._random.randbytes(160)
        extensions = [
            _extension(_GREASE, b""),
            _extension(0, name),
            _extension(23, b""),
            _extension(0xFF01, b"\x00"),
            _extension(10, _vector(2, _uint16s((_GREASE, _X25519, 0x0017, 0x0018)))),
            _extension(11, _vector(1, b"\x00")),
            _extension(35, ticket),
            _extension(16, _vector(2, protocols)),
            _extension(13, _vector(2, _uint16s(_SIGNATURES))),
            _extension(43, _vector(1, _uint16s(versions))),
        ]
        if self._is_13:
            share = _key_share(_GREASE, b"\x00") + _key_share(_X25519, self._random.randbytes(32))
            extensions += [_extension(51, _vector(2, share)), _extension(45, b"\x01\x01")]
        return b"".join(extensions)

    def server_flight(self) -> bytes:
        """Return what the server answers to the ClientHello, up to its Finished."""
        hello = _record(ContentType.HANDSHAKE, _handshake(2, self._server_hello()), _TLS12)
        if self._is_13:
            certificate_and_more = self._random.randint(2_200, 3_600)
            return hello + _CHANGE_CIPHER_SPEC + self.application_data(certificate_and_more)
        return hello + _CHANGE_CIPHER_SPEC + self._ciphertext(ContentType.HANDSHAKE, 40)

    def _server_hello(self) -> bytes:
        cipher = _CIPHERS_13[0] if self._is_13 else _CIPHERS_12[1]
        head = struct.pack("!H", _TLS12) + self._random.randbytes(32) + _vector(1, self._session_id)
        return head + struct.pack("!HB", cipher, 0) + _vector(2, self._server_extensions())

    def _server_extensions(self) -> bytes:
        if self._is_13:
            share = _key_share(_X25519, self._random.randbytes(32))
            return _extension(43, struct.pack("!H", _TLS13)) + _extension(51, share)
        protocol = _vector(2, _vector(1, self._alpn.encode("ascii")))
        return _extension(0xFF01, b"\x00") + _extension(23, b"") + _extension(16, protocol)

    def client_finished(self) -> bytes:
        """Return the client's last handshake flight."""
        if self._is_13:
            return _CHANGE_CIPHER_SPEC + self.application_data(53)
        return _CHANGE_CIPHER_SPEC + self._ciphertext(ContentType.HANDSHAKE, 40)

    def application_data(self, length: int) -> bytes:
        """Return records that carry `length` bytes, each at most as long as allowed."""
        records = []
        while length > 0:
            records.append(self._ciphertext(ContentType.APPLICATION_DATA, min(length, _MAX_RECORD)))
            length -= _MAX_RECORD
        return b"".join(records)

    def close_notify(self) -> bytes:
        """Return an encrypted close_notify."""
        if self._is_13:
            return self.application_data(19)
        return self._ciphertext(ContentType.ALERT, 26)

    def _ciphertext(self, content_type: ContentType, length: int) -> bytes:
        start = self._random.randrange(len(self._noise) - length)
        return _record(content_type, self._noise[start : start + length], _TLS12)


def offered_protocols(preferred: str) -> list[str]:
    """Return the ALPN protocols of a client that prefers `preferred` (RFC 7301)."""
    return [preferred] if preferred == "http/1.1" else [preferred, "http/1.1"]


def fatal_alert(description: AlertDescription) -> bytes:
    """Return a fatal alert in the clear."""
    return _record(ContentType.ALERT, bytes((_FATAL, description)), _TLS12)


def _record(content_type: ContentType, fragment: bytes, version: int) -> bytes:
    return struct.pack("!BHH", content_type, version, len(fragment)) + fragment


def _handshake(message_type: int, body: bytes) -> bytes:
    return bytes((message_type,)) + _vector(3, body)


def _vector(length_bytes: int, content: bytes) -> bytes:
    return len(content).to_bytes(length_bytes, "big") + content


def _extension(extension_type: int, content: bytes) -> bytes:
    return struct.pack("!H", extension_type) + _vector(2, content)


def _key_share(group: int, key: bytes) -> bytes:
    return struct.pack("!H", group) + _vector(2, key)


def _uint16s(values: Iterable[int]) -> bytes:
    return b"".join(struct.pack("!H", value) for value in values)
