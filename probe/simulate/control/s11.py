"""GTPv2-C between MME and SGW (TS 29.274), beside the SGW's user plane on S1-U."""

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import ClassVar, Final

from probe.simulate.control.codes import (
    BEARER_ID,
    MAX_RATE_DOWN_BPS,
    MAX_RATE_UP_BPS,
    PLMN,
    PRIORITY,
    QOS_CLASS,
    area_number,
    bcd,
    cell_number,
    labels,
)
from probe.simulate.control.connection import Connection, Gateway
from probe.simulate.control.frames import Framer
from probe.simulate.control.gateway import GatewayInterface
from probe.simulate.control.signalling import Exchange, Greeting, Kind, Outcome
from probe.simulate.flow import packed
from probe.simulate.network import Cell

MME_ADDRESS: Final = "10.40.0.1"
PORT: Final = 2123

# Message types, TS 29.274 table 6.1-1; an answer's is its request's plus one.
_ECHO, _CREATE, _MODIFY, _DELETE, _RELEASE_ACCESS = 1, 32, 34, 36, 170
# Elements, TS 29.274 table 8.1-1.
_IMSI, _CAUSE, _RECOVERY, _APN, _AMBR, _EBI, _MEI, _MSISDN = 1, 2, 3, 71, 72, 73, 75, 76
_PAA, _BEARER_QOS, _RAT, _SERVING_NETWORK, _ULI, _FTEID = 79, 80, 82, 83, 86, 87
_BEARER_CONTEXT, _PDN_TYPE, _APN_RESTRICTION, _SELECTION_MODE = 93, 99, 127, 128
# Interface types of F-TEIDs, TS 29.274 table 8.22-1.
_S1U_ENB, _S1U_SGW, _S5U_PGW, _S5C_PGW, _S11_MME, _S11_SGW = 0, 1, 5, 7, 10, 11
_EUTRAN: Final = 6  # TS 29.274 table 8.17-1
_CAUSES: Final = {  # TS 29.274 table 8.4-1
    Outcome.ACCEPTED: 16,
    Outcome.REFUSED: 73,  # no resources available
    Outcome.UNKNOWN_APN: 78,  # missing or unknown APN
}


class S11(GatewayInterface):
    """The MME's requests and the SGW's answers."""

    name = "s11"
    procedures: ClassVar = {
        Kind.CREATE: "create_session",
        Kind.ACTIVATE: "modify_bearer",
        Kind.MOVE: "modify_bearer",
        Kind.SUSPEND: "release_access_bearers",
        Kind.RESUME: "modify_bearer",
        Kind.DELETE: "delete_session",
    }
    core_address = MME_ADDRESS
    port = PORT
    causes = _CAUSES
    last_sequence = 0x7F_FFFF

    def __init__(self, gateways: Sequence[Gateway], framer: Framer) -> None:
        super().__init__(gateways, framer)
        self._restarts = {gateway.number: 1 for gateway in gateways}

    def _ask(self, exchange: Exchange, sequence: int) -> bytes:
        message_type, elements = _REQUESTS[exchange.kind]
        teid = 0 if exchange.kind is Kind.CREATE else exchange.connection.keys.sgw_teid
        return _message(message_type, teid, sequence, elements(exchange))

    def _reply(self, exchange: Exchange, sequence: int, outcome: Outcome) -> bytes:
        connection = exchange.connection
        elements = _cause(_CAUSES[outcome])
        if outcome is Outcome.ACCEPTED and exchange.kind is Kind.CREATE:
            elements += _created(connection, self._restarts[connection.gateway.number])
        elif outcome is Outcome.ACCEPTED and exchange.kind in _BEARER_CHANGES:
            elements += _bearer_changed(connection)
        message_type = _REQUESTS[exchange.kind][0] + 1
        return _message(message_type, connection.keys.mme_teid, sequence, elements)

    def greetings(self) -> Sequence[Greeting]:
        return [self._echo(gateway) for gateway in self._gateways]

    def restart(self, gateway: Gateway, now_us: int) -> Sequence[Greeting]:
        """The recovery counter tells (TS 23.007 18)."""
        self._restarts[gateway.number] += 1
        return [self._echo(gateway)]

    def _echo(self, gateway: Gateway) -> Greeting:
        """Return an echo that the gateway asks for; both say their restart counters."""
        sequence = self._next_sequence()
        request = _message(_ECHO, None, sequence, _recovery(self._restarts[gateway.number]))
        answer = _message(_ECHO + 1, None, sequence, _recovery(1))
        to_core, to_gateway = self._to_core(gateway, request), self._to_gateway(gateway, answer)
        return Greeting("echo", [to_core], [to_gateway])


_BEARER_CHANGES: Final = (Kind.ACTIVATE, Kind.MOVE, Kind.RESUME)


def _message(message_type: int, teid: int | None, sequence: int, elements: bytes) -> bytes:
    """TS 29.274 5.1; an echo has no TEID."""
    rest = struct.pack("!I", sequence << 8) + elements
    if teid is None:
        return struct.pack("!BBH", 0x40, message_type, len(rest)) + rest
    return struct.pack("!BBHI", 0x48, message_type, 4 + len(rest), teid) + rest


def _element(element_type: int, value: bytes, instance: int = 0) -> bytes:
    return struct.pack("!BHB", element_type, len(value), instance) + value


# ---------------------------------------------------------------------------- messages' elements


def _create(exchange: Exchange) -> bytes:
    """TS 29.274 table 7.2.1-1."""
    connection, identity = exchange.connection, exchange.connection.identity
    gateway = connection.gateway
    bearer = _element(_EBI, bytes((BEARER_ID,))) + _bearer_qos()
    pdn_type = 3 if connection.ipv6_prefix else 1
    return b"".join(
        (
            _element(_IMSI, bcd(identity.imsi)),
            _element(_MSISDN, bcd(identity.msisdn)),
            _element(_MEI, bcd(identity.imeisv)),
            _where(exchange.cell),
            _fteid(_S11_MME, connection.keys.mme_teid, MME_ADDRESS),
            _fteid(_S5C_PGW, 0, gateway.control_address, instance=1),
            _element(_APN, labels(f"{connection.apn}.mnc001.mcc001.gprs")),
            _element(_SELECTION_MODE, b"\0"),
            _element(_PDN_TYPE, bytes((pdn_type,))),
            _address(None, None, pdn_type),
            _element(_APN_RESTRICTION, b"\0"),
            _element(_AMBR, struct.pack("!II", MAX_RATE_UP_BPS // 1000, MAX_RATE_DOWN_BPS // 1000)),
            _element(_BEARER_CONTEXT, bearer),
            _recovery(1),
        )
    )


def _created(connection: Connection, restarts: int) -> bytes:
    """TS 29.274 table 7.2.2-1, behind its cause."""
    gateway, keys = connection.gateway, connection.keys
    pdn_type = 3 if connection.ipv6_prefix else 1
    bearer = b"".join(
        (
            _element(_EBI, bytes((BEARER_ID,))),
            _cause(_CAUSES[Outcome.ACCEPTED]),
            _fteid(_S1U_SGW, connection.teid_up, gateway.address),
            _fteid(_S5U_PGW, connection.teid_up, gateway.address, instance=2),
        )
    )
    return b"".join(
        (
            _fteid(_S11_SGW, keys.sgw_teid, gateway.control_address),
            _fteid(_S5C_PGW, keys.sgw_teid, gateway.control_address, instance=1),
            _address(connection.ipv4, connection.ipv6_prefix, pdn_type),
            _element(_APN_RESTRICTION, b"\0"),
            _element(_BEARER_CONTEXT, bearer),
            _recovery(restarts),
        )
    )


def _modify(exchange: Exchange) -> bytes:
    """TS 29.274 table 7.2.7-1: the eNB's end of the tunnel, and where the device is."""
    end = _fteid(_S1U_ENB, exchange.teid_down, exchange.cell.node_address)
    bearer = _element(_EBI, bytes((BEARER_ID,))) + end
    return _where(exchange.cell) + _element(_BEARER_CONTEXT, bearer)


def _bearer_changed(connection: Connection) -> bytes:
    """TS 29.274 table 7.2.8-1, behind its cause."""
    end = _fteid(_S1U_SGW, connection.teid_up, connection.gateway.address)
    cause = _cause(_CAUSES[Outcome.ACCEPTED])
    return _element(_BEARER_CONTEXT, _element(_EBI, bytes((BEARER_ID,))) + cause + end)


def _delete(exchange: Exchange) -> bytes:
    """TS 29.274 table 7.2.9.1-1."""
    return _element(_EBI, bytes((BEARER_ID,))) + _user_location(exchange.cell)


def _nothing(_exchange: Exchange) -> bytes:
    """TS 29.274 table 7.2.21-1: all elements are optional."""
    return b""


_REQUESTS: Final[dict[Kind, tuple[int, Callable[[Exchange], bytes]]]] = {
    Kind.CREATE: (_CREATE, _create),
    Kind.ACTIVATE: (_MODIFY, _modify),
    Kind.MOVE: (_MODIFY, _modify),
    Kind.SUSPEND: (_RELEASE_ACCESS, _nothing),
    Kind.RESUME: (_MODIFY, _modify),
    Kind.DELETE: (_DELETE, _delete),
}


# --------------------------------------------------------------------------------------- elements


def _cause(number: int) -> bytes:
    return _element(_CAUSE, bytes((number, 0)))


def _recovery(restarts: int) -> bytes:
    return _element(_RECOVERY, bytes((restarts & 0xFF,)))


@lru_cache(maxsize=1024)
def _where(cell: Cell) -> bytes:
    network = _element(_SERVING_NETWORK, PLMN)
    return _user_location(cell) + network + _element(_RAT, bytes((_EUTRAN,)))


def _user_location(cell: Cell) -> bytes:
    """TAI and ECGI, TS 29.274 8.21."""
    area = PLMN + struct.pack("!H", area_number(cell))
    return _element(_ULI, b"\x18" + area + PLMN + struct.pack("!I", cell_number(cell)))


def _fteid(interface: int, teid: int, address: str, instance: int = 0) -> bytes:
    """IPv4, TS 29.274 8.22."""
    return _element(_FTEID, struct.pack("!BI", 0x80 | interface, teid) + packed(address), instance)


def _address(ipv4: str | None, ipv6_prefix: str | None, pdn_type: int) -> bytes:
    """Return the PDN address allocation (TS 29.274 8.14), all zero in a request."""
    fourth = packed(ipv4) if ipv4 else bytes(4)
    if pdn_type == 1:
        return _element(_PAA, b"\x01" + fourth)
    sixth = packed(ipv6_prefix.partition("/")[0]) if ipv6_prefix else bytes(16)
    length = 64 if ipv6_prefix else 0
    return _element(_PAA, bytes((pdn_type, length)) + sixth + fourth)


@lru_cache(maxsize=1)
def _bearer_qos() -> bytes:
    """TS 29.274 8.15: no pre-emption, no guaranteed rates."""
    flags = 0x40 | PRIORITY << 2 | 0x01
    return _element(_BEARER_QOS, bytes((flags, QOS_CLASS)) + bytes(20))
