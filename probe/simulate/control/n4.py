"""PFCP between SMF and UPF (TS 29.244), beside the UPF's user plane on N3."""

import struct
from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from probe.simulate.control.codes import bcd, labels
from probe.simulate.control.connection import Connection, Gateway
from probe.simulate.control.frames import Framer
from probe.simulate.control.gateway import GatewayInterface
from probe.simulate.control.signalling import Exchange, Greeting, Kind, Outcome
from probe.simulate.flow import packed

SMF_ADDRESS: Final = "10.40.0.2"
PORT: Final = 8805
_NTP_OFFSET_S: Final = 2_208_988_800  # 1900 to 1970

# Message types, TS 29.244 table 7.3-1; an answer's is its request's plus one.
_HEARTBEAT, _ASSOCIATION, _ESTABLISHMENT, _MODIFICATION, _DELETION = 1, 5, 50, 52, 54
# Elements, TS 29.244 table 8.1.2-1.
_CREATE_PDR, _PDI, _CREATE_FAR, _FORWARDING, _CREATED_PDR = 1, 2, 3, 4, 8
_UPDATE_FAR, _UPDATE_FORWARDING, _CAUSE, _SOURCE_INTERFACE, _FTEID = 10, 11, 19, 20, 21
_NETWORK_INSTANCE, _PRECEDENCE, _DESTINATION_INTERFACE, _UP_FEATURES = 22, 29, 42, 43
_APPLY_ACTION, _REQUEST_FLAGS, _PDR_ID, _FSEID, _NODE_ID = 44, 49, 56, 57, 60
_OUTER_HEADER_CREATION, _CP_FEATURES, _UE_ADDRESS, _OUTER_HEADER_REMOVAL = 84, 89, 93, 95
_RECOVERY, _FAR_ID, _PDN_TYPE, _QFI, _USER_ID, _DNN = 96, 108, 113, 124, 141, 159

_ACCESS, _CORE = 0, 1  # TS 29.244 table 8.2.2-1
_FORWARD, _BUFFER_AND_NOTIFY = 0x02, 0x0C  # TS 29.244 8.2.26
_CHOOSE_IPV4: Final = 0x05  # CH and V4, TS 29.244 8.2.3
_SEND_END_MARKERS: Final = 0x02  # SNDEM, TS 29.244 8.2.33
_UP, _DOWN = 1, 2  # numbers of rules
_FLOW: Final = 9
_CAUSES: Final = {  # TS 29.244 table 8.2.1-1
    Outcome.ACCEPTED: 1,
    Outcome.REFUSED: 75,  # no resources available
    Outcome.UNKNOWN_APN: 64,  # rejected, reason not specified: N4 has no number of its own
}


class N4(GatewayInterface):
    """The SMF's requests and the UPF's answers; the UPF chooses its TEIDs."""

    name = "n4"
    procedures: ClassVar = {
        Kind.CREATE: "session_establishment",
        Kind.ACTIVATE: "session_modification",
        Kind.MOVE: "session_modification",
        Kind.SUSPEND: "session_modification",
        Kind.RESUME: "session_modification",
        Kind.DELETE: "session_deletion",
    }
    core_address = SMF_ADDRESS
    port = PORT
    causes = _CAUSES
    last_sequence = 0xFF_FFFF

    def __init__(self, gateways: Sequence[Gateway], framer: Framer, start_ns: int) -> None:
        super().__init__(gateways, framer)
        self._start_s = start_ns // 1_000_000_000

    def _ask(self, exchange: Exchange, sequence: int) -> bytes:
        message_type, elements = _REQUESTS[exchange.kind]
        seid = 0 if exchange.kind is Kind.CREATE else exchange.connection.keys.upf_seid
        return _message(message_type, seid, sequence, elements(exchange))

    def _reply(self, exchange: Exchange, sequence: int, outcome: Outcome) -> bytes:
        connection = exchange.connection
        elements = _element(_CAUSE, bytes((_CAUSES[outcome],)))
        if exchange.kind is Kind.CREATE:
            elements = _node(connection.gateway.control_address) + elements
            if outcome is Outcome.ACCEPTED:
                elements += _established(connection)
        message_type = _REQUESTS[exchange.kind][0] + 1
        return _message(message_type, connection.keys.smf_seid, sequence, elements)

    def greetings(self) -> Sequence[Greeting]:
        started_s = self._start_s - 86_400
        return [self._associate(gateway, started_s) for gateway in self._gateways]

    def restart(self, gateway: Gateway, now_us: int) -> Sequence[Greeting]:
        """The time of the UPF's start tells (TS 29.244 6.2.2 and 8.2.65)."""
        started_s = self._start_s + now_us // 1_000_000
        return [self._associate(gateway, started_s), self._heartbeat(gateway, started_s)]

    def _associate(self, gateway: Gateway, started_s: int) -> Greeting:
        """TS 29.244 7.4.4.1 and 7.4.4.2, asked for by the UPF."""
        sequence = self._next_sequence()
        # FTUP: the UPF chooses TEIDs. EMPU: it sends end markers (TS 29.244 8.2.25).
        features = _element(_UP_FEATURES, b"\x10\x01")
        from_upf = _node(gateway.control_address) + _recovery(started_s) + features
        cause = _element(_CAUSE, b"\x01")
        from_smf = (
            _node(SMF_ADDRESS) + cause + _recovery(self._start_s - 90_000)
            + _element(_CP_FEATURES, b"\0")
        )  # fmt: skip
        request = _message(_ASSOCIATION, None, sequence, from_upf)
        answer = _message(_ASSOCIATION + 1, None, sequence, from_smf)
        to_core, to_gateway = self._to_core(gateway, request), self._to_gateway(gateway, answer)
        return Greeting("association_setup", [to_core], [to_gateway], cause=1)

    def _heartbeat(self, gateway: Gateway, started_s: int) -> Greeting:
        sequence = self._next_sequence()
        request = _message(_HEARTBEAT, None, sequence, _recovery(self._start_s - 90_000))
        answer = _message(_HEARTBEAT + 1, None, sequence, _recovery(started_s))
        to_gateway, to_core = self._to_gateway(gateway, request), self._to_core(gateway, answer)
        return Greeting("heartbeat", [to_gateway], [to_core])


def _message(message_type: int, seid: int | None, sequence: int, elements: bytes) -> bytes:
    """TS 29.244 7.2.2; messages between nodes have no SEID."""
    rest = struct.pack("!I", sequence << 8) + elements
    if seid is None:
        return struct.pack("!BBH", 0x20, message_type, len(rest)) + rest
    return struct.pack("!BBHQ", 0x21, message_type, 8 + len(rest), seid) + rest


def _element(element_type: int, value: bytes) -> bytes:
    return struct.pack("!HH", element_type, len(value)) + value


# ---------------------------------------------------------------------------- messages' elements


def _establish(exchange: Exchange) -> bytes:
    """TS 29.244 table 7.5.2.1-1: what goes up may pass, what comes down waits."""
    connection = exchange.connection
    return b"".join(
        (
            _node(SMF_ADDRESS),
            _fseid(connection.keys.smf_seid, SMF_ADDRESS),
            _rule_up(connection),
            _rule_down(connection),
            _forward_up(connection),
            _buffer_down(),
            _element(_PDN_TYPE, bytes((3 if connection.ipv6_prefix else 1,))),
            _user(connection),
            _element(_DNN, labels(connection.apn)),
        )
    )


def _established(connection: Connection) -> bytes:
    """TS 29.244 table 7.5.3.1-1, behind node and cause."""
    end = struct.pack("!BI", 0x01, connection.teid_up) + packed(connection.gateway.address)
    created = _element(_PDR_ID, struct.pack("!H", _UP)) + _element(_FTEID, end)
    seid = _fseid(connection.keys.upf_seid, connection.gateway.control_address)
    return seid + _element(_CREATED_PDR, created)


def _point_down(exchange: Exchange) -> bytes:
    """TS 29.244 table 7.5.4.3-1: what comes down goes to the gNB."""
    end = struct.pack("!HI", 0x0100, exchange.teid_down) + packed(exchange.cell.node_address)
    forwarding = _element(_DESTINATION_INTERFACE, bytes((_ACCESS,)))
    forwarding += _element(_OUTER_HEADER_CREATION, end)
    if exchange.kind is Kind.MOVE:
        forwarding += _element(_REQUEST_FLAGS, bytes((_SEND_END_MARKERS,)))
    far = _far_id(_DOWN) + _element(_APPLY_ACTION, bytes((_FORWARD,)))
    return _element(_UPDATE_FAR, far + _element(_UPDATE_FORWARDING, forwarding))


def _hold_down(_exchange: Exchange) -> bytes:
    action = _element(_APPLY_ACTION, bytes((_BUFFER_AND_NOTIFY,)))
    return _element(_UPDATE_FAR, _far_id(_DOWN) + action)


def _nothing(_exchange: Exchange) -> bytes:
    return b""


_REQUESTS: Final[dict[Kind, tuple[int, Callable[[Exchange], bytes]]]] = {
    Kind.CREATE: (_ESTABLISHMENT, _establish),
    Kind.ACTIVATE: (_MODIFICATION, _point_down),
    Kind.MOVE: (_MODIFICATION, _point_down),
    Kind.SUSPEND: (_MODIFICATION, _hold_down),
    Kind.RESUME: (_MODIFICATION, _point_down),
    Kind.DELETE: (_DELETION, _nothing),
}


def _rule_up(connection: Connection) -> bytes:
    source = _element(_SOURCE_INTERFACE, bytes((_ACCESS,)))
    end = _element(_FTEID, bytes((_CHOOSE_IPV4,)))
    network = _element(_NETWORK_INSTANCE, labels(connection.apn))
    flow = _element(_QFI, bytes((_FLOW,)))
    information = source + end + network + _device_address(connection, False) + flow
    removal = _element(_OUTER_HEADER_REMOVAL, b"\0")
    return _rule(_UP, information, removal)


def _rule_down(connection: Connection) -> bytes:
    source = _element(_SOURCE_INTERFACE, bytes((_CORE,)))
    network = _element(_NETWORK_INSTANCE, labels(connection.apn))
    return _rule(_DOWN, source + network + _device_address(connection, True), b"")


def _rule(number: int, information: bytes, removal: bytes) -> bytes:
    """A packet detection rule, TS 29.244 table 7.5.2.2-1."""
    head = _element(_PDR_ID, struct.pack("!H", number)) + _element(
        _PRECEDENCE, struct.pack("!I", 255)
    )
    return _element(_CREATE_PDR, head + _element(_PDI, information) + removal + _far_id(number))


def _forward_up(connection: Connection) -> bytes:
    """A forwarding action rule, TS 29.244 table 7.5.2.3-1."""
    to = _element(_DESTINATION_INTERFACE, bytes((_CORE,)))
    to += _element(_NETWORK_INSTANCE, labels(connection.apn))
    action = _element(_APPLY_ACTION, bytes((_FORWARD,)))
    return _element(_CREATE_FAR, _far_id(_UP) + action + _element(_FORWARDING, to))


def _buffer_down() -> bytes:
    action = _element(_APPLY_ACTION, bytes((_BUFFER_AND_NOTIFY,)))
    return _element(_CREATE_FAR, _far_id(_DOWN) + action)


# --------------------------------------------------------------------------------------- elements


def _far_id(number: int) -> bytes:
    return _element(_FAR_ID, struct.pack("!I", number))


def _node(address: str) -> bytes:
    return _element(_NODE_ID, b"\0" + packed(address))


def _fseid(seid: int, address: str) -> bytes:
    return _element(_FSEID, struct.pack("!BQ", 0x02, seid) + packed(address))


def _recovery(started_s: int) -> bytes:
    return _element(_RECOVERY, struct.pack("!I", (started_s + _NTP_OFFSET_S) & 0xFFFF_FFFF))


def _device_address(connection: Connection, is_destination: bool) -> bytes:
    """TS 29.244 8.2.62."""
    flags = 0x02 | (0x04 if is_destination else 0)
    addresses = packed(connection.ipv4)
    if connection.ipv6_prefix:
        flags |= 0x01
        addresses += packed(connection.ipv6_prefix.partition("/")[0])
    return _element(_UE_ADDRESS, bytes((flags,)) + addresses)


def _user(connection: Connection) -> bytes:
    """IMSI, IMEI and MSISDN, TS 29.244 8.2.101."""
    identity = connection.identity
    parts = [bcd(digits) for digits in (identity.imsi, identity.imeisv, identity.msisdn)]
    return _element(_USER_ID, b"\x07" + b"".join(bytes((len(p),)) + p for p in parts))
