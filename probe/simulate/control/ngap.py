"""NGAP between gNB and AMF (TS 38.413): where a device is, and both ends of its tunnel."""

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from probe.simulate.control import ran
from probe.simulate.control.aper import (
    IGNORE,
    INITIATING,
    REJECT,
    SUCCESSFUL,
    UNSUCCESSFUL,
    Bits,
    Element,
    container,
    message,
)
from probe.simulate.control.codes import (
    MAX_RATE_DOWN_BPS,
    MAX_RATE_UP_BPS,
    PLMN,
    PRIORITY,
    QOS_CLASS,
    SESSION_ID,
    area_number,
    cell_number,
    node_number,
)
from probe.simulate.control.connection import Connection
from probe.simulate.control.nas import registration_request, service_request_5g
from probe.simulate.control.signalling import Exchange, Kind, Outcome
from probe.simulate.network import Cell

AMF_ADDRESS: Final = "10.40.0.3"

# Procedures, TS 38.413 9.4.7.
_CONTEXT_SETUP, _INITIAL_UE, _NG_SETUP, _PATH_SWITCH, _SESSION_SETUP = 14, 15, 21, 25, 29
_RELEASE, _RELEASE_REQUEST = 41, 42
# Elements, TS 38.413 9.4.7.
_ALLOWED_SLICES, _AMF_NAME, _AMF_ID, _CAUSE, _PAGING_CYCLE, _GLOBAL_NODE, _GUAMI = (
    0, 1, 10, 15, 21, 27, 28,
)  # fmt: skip
_NAS, _FAILED_LIST, _RELEASED_LIST = 38, 58, 69
_TO_SET_UP_LIST, _SET_UP_LIST, _TO_SWITCH_LIST, _SWITCHED_LIST = 74, 75, 76, 77
_PLMN_SUPPORT, _RAN_ID, _CAPACITY, _RRC_CAUSE, _SECURITY_CONTEXT = 80, 85, 86, 90, 93
_SECURITY_KEY, _SERVED, _SOURCE_AMF_ID, _SUPPORTED_AREAS, _MAX_RATE = 94, 96, 100, 102, 110
_CONTEXT_WANTED, _UE_IDS, _CAPABILITIES, _LOCATION = 112, 114, 119, 121
_SESSION_TYPE, _FLOW_LIST, _UP_END = 134, 136, 139
# Causes, TS 38.413 9.3.1.2.
_GROUPS: Final = {ran.RADIO: 44, ran.NAS: 3}  # highest number before the extensions
_HANDOVER_FAILED: Final[ran.Cause] = (ran.RADIO, 7)
_FLOW: Final = 9
_SLICE_TYPE, _SLICE = 1, 0x0000AB
_MAX_RATE_BPS: Final = 4_000_000_000_000
_IDS: Final = ran.DeviceIds(_AMF_ID, (1 << 40) - 1, _RAN_ID, 0xFFFF_FFFF)


class Ngap(ran.RanInterface):
    """gNBs and an AMF."""

    name = "n2"
    procedures: ClassVar = ran.PROCEDURES | {
        Kind.CONTEXT: "initial_context_setup",
        Kind.SETUP: "pdu_session_resource_setup",
    }
    core_address = AMF_ADDRESS
    port = 38_412
    protocol = 60
    _setup_name = "ng_setup"
    _setup_procedure = _NG_SETUP

    def _ask(self, exchange: Exchange) -> bytes:
        return _REQUESTS[exchange.kind](exchange)

    def _reply(self, exchange: Exchange, outcome: Outcome) -> tuple[bytes, int | None]:
        accepted = outcome is Outcome.ACCEPTED
        if exchange.kind is Kind.SETUP:
            return _setup_response(exchange) if accepted else _setup_failure(exchange)
        if exchange.kind is Kind.SWITCH:
            return _switch_acknowledge(exchange) if accepted else _switch_failure(exchange)
        procedure = _CONTEXT_SETUP if exchange.kind is Kind.CONTEXT else _RELEASE
        return message(SUCCESSFUL, procedure, REJECT, _IDS.both(exchange, IGNORE)), None

    def _node_setup(self, cells: Sequence[Cell]) -> tuple[list[Element], list[Element]]:
        """TS 38.413 9.2.6.1 and 9.2.6.2."""
        node = Bits().put(0, 2).put(0, 2).append(PLMN).put(0, 1)
        node.constrained(28, 22, 32).align().put(node_number(cells[0]), 28)
        areas = sorted({area_number(cell) for cell in cells})
        supported = Bits().constrained(len(areas), 1, 256)
        for area in areas:
            supported.put(0, 2).append(area.to_bytes(3, "big")).constrained(1, 1, 12)
            supported.put(0, 2).append(PLMN)
            _slices(supported)
        setup: list[Element] = [
            (_GLOBAL_NODE, REJECT, bytes(node)),
            (_SUPPORTED_AREAS, REJECT, bytes(supported)),
            (_PAGING_CYCLE, IGNORE, bytes(Bits().extensible(2, 0, 3))),
        ]
        name = b"amf"
        served = Bits().constrained(1, 1, 256).put(0, 3)
        _guami(served)
        support = Bits().constrained(1, 1, 12).put(0, 2).append(PLMN)
        _slices(support)
        done: list[Element] = [
            (_AMF_NAME, REJECT, bytes(Bits().extensible(len(name), 1, 150).append(name))),
            (_SERVED, REJECT, bytes(served)),
            (_CAPACITY, IGNORE, b"\xff"),
            (_PLMN_SUPPORT, REJECT, bytes(support)),
        ]
        return setup, done


# --------------------------------------------------------------------------------------- messages


def _initial(exchange: Exchange) -> bytes:
    return _initial_ue(exchange, registration_request(exchange.connection), ran.MO_SIGNALLING)


def _return(exchange: Exchange) -> bytes:
    return _initial_ue(exchange, service_request_5g(exchange.connection), ran.MO_DATA)


def _initial_ue(exchange: Exchange, nas: bytes, reason: int) -> bytes:
    """TS 38.413 9.2.5.1."""
    elements = [
        (_RAN_ID, REJECT, _IDS.node(exchange)),
        (_NAS, REJECT, bytes(Bits().open(nas))),
        (_LOCATION, REJECT, _location(exchange.cell)),
        (_RRC_CAUSE, IGNORE, bytes(Bits().extensible(reason, 0, 9))),
        (_CONTEXT_WANTED, IGNORE, bytes(Bits().put(0, 1))),
    ]
    return message(INITIATING, _INITIAL_UE, IGNORE, elements)


def _context_request(exchange: Exchange) -> bytes:
    """TS 38.413 9.2.2.1, of a device without a session yet."""
    guami = Bits()
    _guami(guami)
    key = ran.put_key(Bits(), exchange.connection)
    elements = [
        *_IDS.both(exchange, REJECT),
        (_GUAMI, REJECT, bytes(guami)),
        (_ALLOWED_SLICES, REJECT, _allowed_slices()),
        (_CAPABILITIES, REJECT, _capabilities()),
        (_SECURITY_KEY, REJECT, bytes(key)),
    ]
    return message(INITIATING, _CONTEXT_SETUP, REJECT, elements)


def _setup_request(exchange: Exchange) -> bytes:
    """TS 38.413 9.2.1.1, with the UPF's end of the tunnel."""
    session = Bits().constrained(1, 1, 256).put(0, 3).constrained(SESSION_ID, 0, 255)
    _slice(session)
    session.open(_setup_transfer(exchange.connection))
    rates = Bits().put(0, 2)
    rates.extensible(MAX_RATE_DOWN_BPS, 0, _MAX_RATE_BPS)
    rates.extensible(MAX_RATE_UP_BPS, 0, _MAX_RATE_BPS)
    elements = [
        *_IDS.both(exchange, REJECT),
        (_TO_SET_UP_LIST, REJECT, bytes(session)),
        (_MAX_RATE, IGNORE, bytes(rates)),
    ]
    return message(INITIATING, _SESSION_SETUP, REJECT, elements)


def _setup_transfer(connection: Connection) -> bytes:
    """TS 38.413 9.3.4.1."""
    session_type = 2 if connection.ipv6_prefix else 0
    flows = Bits().constrained(1, 1, 64).put(0, 3).extensible(_FLOW, 0, 63)
    flows.put(0, 5).put(0, 2).put(0, 5).extensible(QOS_CLASS, 0, 255)
    flows.put(0, 2).constrained(PRIORITY, 1, 15).extensible(0, 0, 1).extensible(1, 0, 1)
    return container(
        [
            (_UP_END, REJECT, bytes(_end(Bits(), connection.gateway.address, connection.teid_up))),
            (_SESSION_TYPE, REJECT, bytes(Bits().extensible(session_type, 0, 4))),
            (_FLOW_LIST, REJECT, bytes(flows)),
        ]
    )


def _setup_response(exchange: Exchange) -> tuple[bytes, None]:
    """TS 38.413 9.2.1.2, with the gNB's end of the tunnel."""
    transfer = Bits().put(0, 5).put(0, 2)
    _end(transfer, exchange.cell.node_address, exchange.teid_down)
    transfer.constrained(1, 1, 64).put(0, 3).extensible(_FLOW, 0, 63)
    elements = [
        *_IDS.both(exchange, IGNORE),
        (_SET_UP_LIST, IGNORE, _session_list(bytes(transfer))),
    ]
    return message(SUCCESSFUL, _SESSION_SETUP, REJECT, elements), None


def _setup_failure(exchange: Exchange) -> tuple[bytes, int]:
    """TS 38.413 9.2.1.2: it is no failure of the message, the list of what failed says it."""
    transfer = _put_cause(Bits().put(0, 3), ran.NO_RADIO_RESOURCES)
    elements = [
        *_IDS.both(exchange, IGNORE),
        (_FAILED_LIST, IGNORE, _session_list(bytes(transfer))),
    ]
    return message(SUCCESSFUL, _SESSION_SETUP, REJECT, elements), ran.NO_RADIO_RESOURCES[1]


def _switch(exchange: Exchange) -> bytes:
    """TS 38.413 9.2.3.8, with the target's end of the tunnel."""
    transfer = Bits().put(0, 4)
    _end(transfer, exchange.cell.node_address, exchange.teid_down)
    transfer.constrained(1, 1, 64).put(0, 2).extensible(_FLOW, 0, 63)
    elements = [
        (_RAN_ID, REJECT, _IDS.node(exchange)),
        (_SOURCE_AMF_ID, REJECT, _IDS.core(exchange)),
        (_LOCATION, IGNORE, _location(exchange.cell)),
        (_CAPABILITIES, IGNORE, _capabilities()),
        (_TO_SWITCH_LIST, REJECT, _session_list(bytes(transfer))),
    ]
    return message(INITIATING, _PATH_SWITCH, REJECT, elements)


def _switch_acknowledge(exchange: Exchange) -> tuple[bytes, None]:
    """TS 38.413 9.2.3.9, with the UPF's end of the tunnel, which stays."""
    connection = exchange.connection
    context = ran.put_key(Bits().put(0, 2).constrained(2, 0, 7), connection)
    transfer = Bits().put(0, 1).put(0b100, 3)
    _end(transfer, connection.gateway.address, connection.teid_up)
    elements = [
        *_IDS.both(exchange, IGNORE),
        (_SECURITY_CONTEXT, REJECT, bytes(context)),
        (_SWITCHED_LIST, IGNORE, _session_list(bytes(transfer))),
        (_ALLOWED_SLICES, REJECT, _allowed_slices()),
    ]
    return message(SUCCESSFUL, _PATH_SWITCH, REJECT, elements), None


def _switch_failure(exchange: Exchange) -> tuple[bytes, int]:
    """TS 38.413 9.2.3.10."""
    transfer = _put_cause(Bits().put(0, 2), _HANDOVER_FAILED)
    elements = [
        *_IDS.both(exchange, IGNORE),
        (_RELEASED_LIST, IGNORE, _session_list(bytes(transfer))),
    ]
    return message(UNSUCCESSFUL, _PATH_SWITCH, REJECT, elements), _HANDOVER_FAILED[1]


def _release_request(exchange: Exchange) -> bytes:
    """TS 38.413 9.2.2.4."""
    elements = [*_IDS.both(exchange, REJECT), _cause(ran.USER_INACTIVITY)]
    return message(INITIATING, _RELEASE_REQUEST, IGNORE, elements)


def _release(exchange: Exchange) -> bytes:
    """TS 38.413 9.2.2.5."""
    elements = [(_UE_IDS, REJECT, _IDS.pair(exchange)), _cause(ran.NORMAL)]
    return message(INITIATING, _RELEASE, REJECT, elements)


_REQUESTS: Final[dict[Kind, Callable[[Exchange], bytes]]] = {
    Kind.INITIAL: _initial,
    Kind.RETURN: _return,
    Kind.CONTEXT: _context_request,
    Kind.SETUP: _setup_request,
    Kind.SWITCH: _switch,
    Kind.RELEASE_WANTED: _release_request,
    Kind.RELEASE: _release,
}


# --------------------------------------------------------------------------------------- elements


def _location(cell: Cell) -> bytes:
    """NCGI and TAI, TS 38.413 9.3.1.16."""
    bits = Bits().put(1, 2).put(0, 3).put(0, 2).append(PLMN).fixed_bits(cell_number(cell), 36)
    bits.put(0, 2).append(PLMN).append(area_number(cell).to_bytes(3, "big"))
    return bytes(bits)


def _end(bits: Bits, address: str, teid: int) -> Bits:
    """Append a GTP tunnel."""
    return ran.put_end(bits.put(0, 1).put(0, 2), address, teid)


def _session_list(transfer: bytes) -> bytes:
    """Return a list of the one session, by its number and a transfer."""
    item = Bits().constrained(1, 1, 256).put(0, 2).constrained(SESSION_ID, 0, 255)
    return bytes(item.open(transfer))


def _put_cause(bits: Bits, cause: ran.Cause) -> Bits:
    group, number = cause
    return bits.constrained(group, 0, 5).extensible(number, 0, _GROUPS[group])


def _cause(cause: ran.Cause) -> Element:
    return _CAUSE, IGNORE, bytes(_put_cause(Bits(), cause))


def _guami(bits: Bits) -> None:
    bits.put(0, 2).append(PLMN).put(1, 8).put(1, 10).put(1, 6)


def _slice(bits: Bits) -> None:
    """TS 38.413 9.3.1.24, with a differentiator."""
    bits.put(0b010, 3).put(_SLICE_TYPE, 8).append(_SLICE.to_bytes(3, "big"))


def _slices(bits: Bits) -> None:
    bits.constrained(1, 1, 1024).put(0, 2)
    _slice(bits)


def _allowed_slices() -> bytes:
    bits = Bits().constrained(1, 1, 8).put(0, 2)
    _slice(bits)
    return bytes(bits)


def _capabilities() -> bytes:
    """The first two algorithms of each of four kinds, TS 38.413 9.3.1.86."""
    bits = Bits().put(0, 2)
    for _ in range(4):
        bits.put(0, 1).put(0xC000, 16)
    return bytes(bits)
