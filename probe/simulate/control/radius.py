"""RADIUS from the gateway to an accounting server (RFC 2865, RFC 2866), with the attributes of
TS 29.061 16.4.7, beside plain IP on SGi."""

import hashlib
import struct
from collections.abc import Sequence
from random import Random
from typing import Final

from probe.simulate.control.codes import BEARER_ID, PLMN, area_number, cell_number
from probe.simulate.control.connection import Connection, Gateway
from probe.simulate.control.frames import Framer
from probe.simulate.control.signalling import (
    Answer,
    Exchange,
    Greeting,
    Kind,
    Outcome,
    Transaction,
)
from probe.simulate.flow import packed
from probe.simulate.network import Cell

SERVER_ADDRESS: Final = "10.50.0.1"
SECRET: Final = b"shared secret"
_ACCESS_PORT, _ACCOUNTING_PORT = 1812, 1813
_CLIENT_PORTS: Final = 16  # so many sockets: an identifier counts to 256 in each
_FIRST_CLIENT_PORT: Final = 20_000

_ACCESS_REQUEST, _ACCESS_ACCEPT, _ACCESS_REJECT = 1, 2, 3
_ACCOUNTING_REQUEST, _ACCOUNTING_RESPONSE = 4, 5
_START, _STOP, _INTERIM, _ON = 1, 2, 3, 7  # Acct-Status-Type
_STATUSES: Final = {Kind.STARTED: _START, Kind.MOVED: _INTERIM, Kind.STOPPED: _STOP}
_VENDOR_3GPP: Final = 10_415
_EUTRAN, _NR = 6, 51  # 3GPP-RAT-Type


class Radius:
    """The requests of the gateways and what the server says."""

    name = "radius"
    procedures: Final = {
        Kind.CREATE: "access",
        Kind.STARTED: "accounting_start",
        Kind.MOVED: "accounting_interim",
        Kind.STOPPED: "accounting_stop",
    }
    unanswered: Final[frozenset[Kind]] = frozenset()

    def __init__(
        self, gateways: Sequence[Gateway], framer: Framer, random: Random, start_ns: int
    ) -> None:
        self._gateways = gateways
        self._framer = framer
        self._random = random
        self._start_s = start_ns // 1_000_000_000
        self._sent = 0
        self._asked: dict[int, bytes] = {}  # open requests: repetitions are the same bytes

    def request(self, exchange: Exchange, transaction: Transaction) -> Sequence[bytes]:
        if not transaction.sequence:
            transaction.sequence = self._next_number()
        number = transaction.sequence
        if number not in self._asked:
            self._asked[number] = self._message(exchange, number)
        port = _ACCESS_PORT if exchange.kind is Kind.CREATE else _ACCOUNTING_PORT
        gateway = exchange.connection.gateway
        return [self._to_server(gateway, number, port, self._asked[number])]

    def _message(self, exchange: Exchange, number: int) -> bytes:
        attributes = _attributes(exchange, self._start_s)
        if exchange.kind is Kind.CREATE:
            return _message(_ACCESS_REQUEST, number, self._random.randbytes(16), attributes)
        return _accounting_request(number, attributes)

    def answer(self, exchange: Exchange, transaction: Transaction, outcome: Outcome) -> Answer:
        number, connection = transaction.sequence, exchange.connection
        code, attributes, port = _ACCOUNTING_RESPONSE, b"", _ACCOUNTING_PORT
        if exchange.kind is Kind.CREATE:
            code, port = _ACCESS_REJECT, _ACCESS_PORT
            if outcome is Outcome.ACCEPTED:
                code, attributes = _ACCESS_ACCEPT, _addresses(connection)
            else:
                attributes = _attribute(18, b"not allowed")
        asked = self._asked.pop(number)[4:20]
        message = _answer(code, number, asked, attributes)
        return Answer([self._to_client(connection.gateway, number, port, message)], code)

    def greetings(self) -> Sequence[Greeting]:
        return [self._accounting_on(gateway, 0) for gateway in self._gateways]

    def restart(self, gateway: Gateway, now_us: int) -> Sequence[Greeting]:
        """Accounting-On: the gateway has forgotten its sessions (RFC 2866 5.1)."""
        return [self._accounting_on(gateway, now_us)]

    def _accounting_on(self, gateway: Gateway, now_us: int) -> Greeting:
        number = self._next_number()
        attributes = b"".join(
            (
                _integer(40, _ON),
                _attribute(44, f"on-{gateway.number}-{number}".encode()),
                _attribute(4, packed(gateway.control_address)),
                _integer(55, self._start_s + now_us // 1_000_000),
            )
        )
        request = _accounting_request(number, attributes)
        answer = _answer(_ACCOUNTING_RESPONSE, number, request[4:20], b"")
        to_server = self._to_server(gateway, number, _ACCOUNTING_PORT, request)
        to_client = self._to_client(gateway, number, _ACCOUNTING_PORT, answer)
        return Greeting("accounting_on", [to_server], [to_client], _ACCOUNTING_RESPONSE)

    def _next_number(self) -> int:
        self._sent += 1
        return self._sent

    def _to_server(self, gateway: Gateway, number: int, port: int, message: bytes) -> bytes:
        client = (gateway.control_address, _client_port(number))
        return self._framer.udp(client, (SERVER_ADDRESS, port), True, message)

    def _to_client(self, gateway: Gateway, number: int, port: int, message: bytes) -> bytes:
        client = (gateway.control_address, _client_port(number))
        return self._framer.udp((SERVER_ADDRESS, port), client, False, message)


def _client_port(number: int) -> int:
    """Return the socket of a request: the next one after each 256 requests (RFC 2865 2.4)."""
    return _FIRST_CLIENT_PORT + (number // 256) % _CLIENT_PORTS


# --------------------------------------------------------------------------------------- messages


def _message(code: int, number: int, authenticator: bytes, attributes: bytes) -> bytes:
    """RFC 2865 3."""
    return struct.pack("!BBH", code, number & 0xFF, 20 + len(attributes)) + (
        authenticator + attributes
    )


def _accounting_request(number: int, attributes: bytes) -> bytes:
    """The authenticator is a digest of the message (RFC 2866 3)."""
    blank = _message(_ACCOUNTING_REQUEST, number, bytes(16), attributes)
    digest = hashlib.md5(blank + SECRET, usedforsecurity=False).digest()
    return _message(_ACCOUNTING_REQUEST, number, digest, attributes)


def _answer(code: int, number: int, asked: bytes, attributes: bytes) -> bytes:
    """The authenticator is a digest with that of the request (RFC 2865 3)."""
    blank = _message(code, number, asked, attributes)
    digest = hashlib.md5(blank + SECRET, usedforsecurity=False).digest()
    return _message(code, number, digest, attributes)


def _attributes(exchange: Exchange, start_s: int) -> bytes:
    connection, kind = exchange.connection, exchange.kind
    parts = [
        _attribute(1, connection.identity.msisdn.encode()),  # User-Name
        _attribute(4, packed(connection.gateway.control_address)),  # NAS-IP-Address
        _integer(6, 2),  # Service-Type: framed
        _integer(7, 7),  # Framed-Protocol: GPRS PDP context
        _attribute(30, connection.apn.encode()),  # Called-Station-Id
        _attribute(31, connection.identity.msisdn.encode()),  # Calling-Station-Id
        _integer(61, 18),  # NAS-Port-Type: wireless, other
    ]
    if kind in _STATUSES:
        parts += [_integer(40, _STATUSES[kind]), _session_id(connection), _addresses(connection)]
        parts.append(_integer(55, start_s + exchange.now_us // 1_000_000))  # Event-Timestamp
    if kind in (Kind.MOVED, Kind.STOPPED):
        parts.append(_counters(exchange))
    return b"".join([*parts, _vendor_attributes(exchange)])


def _session_id(connection: Connection) -> bytes:
    """Acct-Session-Id: gateway and charging id (TS 29.061 16.4.3)."""
    address = packed(connection.gateway.control_address).hex().upper()
    return _attribute(44, f"{address}{connection.keys.charging_id:08X}".encode())


def _addresses(connection: Connection) -> bytes:
    """Framed-IP-Address, and Framed-IPv6-Prefix (RFC 3162 2.3)."""
    found = _attribute(8, packed(connection.ipv4))
    if connection.ipv6_prefix:
        prefix = packed(connection.ipv6_prefix.partition("/")[0])
        found += _attribute(97, bytes((0, 64)) + prefix)
    return found


def _counters(exchange: Exchange) -> bytes:
    """Bytes and packets so far (RFC 2866 5.3 on; RFC 2869 5.1 for their upper halves)."""
    volumes = [stay.volume for stay in exchange.connection.stays]
    up, down = sum(v.bytes_up for v in volumes), sum(v.bytes_down for v in volumes)
    length_s = (exchange.now_us - exchange.connection.start_us) // 1_000_000
    return b"".join(
        (
            _integer(42, up & 0xFFFF_FFFF),
            _integer(43, down & 0xFFFF_FFFF),
            _integer(46, length_s),
            _integer(47, sum(v.packets_up for v in volumes)),
            _integer(48, sum(v.packets_down for v in volumes)),
            _integer(52, up >> 32),
            _integer(53, down >> 32),
        )
    )


def _vendor_attributes(exchange: Exchange) -> bytes:
    """TS 29.061 16.4.7.1."""
    connection, identity = exchange.connection, exchange.connection.identity
    rat = _NR if exchange.cell.rat == "nr" else _EUTRAN
    return b"".join(
        (
            _of_3gpp(1, identity.imsi.encode()),
            _of_3gpp(2, struct.pack("!I", connection.keys.charging_id)),
            _of_3gpp(7, packed(connection.gateway.control_address)),  # GGSN-Address
            _of_3gpp(8, b"00101"),  # IMSI-MCC-MNC
            _of_3gpp(10, f"{BEARER_ID:X}".encode()),  # NSAPI
            _of_3gpp(18, b"00101"),  # SGSN-MCC-MNC
            _of_3gpp(20, identity.imeisv.encode()),
            _of_3gpp(21, bytes((rat,))),
            _of_3gpp(22, _user_location(exchange.cell)),
            _of_3gpp(23, b"\0\0"),  # MS-TimeZone
        )
    )


def _user_location(cell: Cell) -> bytes:
    """TAI and cell of 4G (130) or 5G (137), TS 29.061 16.4.7.2."""
    area, number = area_number(cell), cell_number(cell)
    if cell.rat == "nr":
        # 36 bits and four spare ones behind them, as the bit string of TS 38.413 9.3.1.7.
        cell_identity = (number << 4).to_bytes(5, "big")
        return b"\x89" + PLMN + area.to_bytes(3, "big") + PLMN + cell_identity
    return b"\x82" + PLMN + struct.pack("!H", area) + PLMN + struct.pack("!I", number)


def _attribute(kind: int, value: bytes) -> bytes:
    return bytes((kind, 2 + len(value))) + value


def _integer(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("!I", value))


def _of_3gpp(kind: int, value: bytes) -> bytes:
    return _attribute(26, struct.pack("!I", _VENDOR_3GPP) + _attribute(kind, value))
