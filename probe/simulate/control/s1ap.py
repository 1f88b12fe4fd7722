"""S1AP between eNB and MME (TS 36.413): where a device is, and both ends of its tunnel."""

import struct
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
    message,
    single,
)
from probe.simulate.control.codes import (
    BEARER_ID,
    MAX_RATE_DOWN_BPS,
    MAX_RATE_UP_BPS,
    PLMN,
    PRIORITY,
    QOS_CLASS,
    area_number,
    cell_number,
    node_number,
)
from probe.simulate.control.nas import attach_request, service_request
from probe.simulate.control.s11 import MME_ADDRESS
from probe.simulate.control.signalling import Exchange, Kind, Outcome
from probe.simulate.network import Cell

# Procedures, TS 36.413 9.3.7.
_PATH_SWITCH, _CONTEXT_SETUP, _INITIAL_UE, _S1_SETUP = 3, 9, 12, 17
_RELEASE_REQUEST, _RELEASE = 18, 23
# Elements, TS 36.413 9.3.7.
_MME_ID, _CAUSE, _ENB_ID, _SWITCHED_LIST, _SWITCHED_ITEM, _TO_SET_UP_LIST = 0, 2, 8, 22, 23, 24
_NAS, _SECURITY_CONTEXT, _SET_UP_ITEM, _SET_UP_LIST, _TO_SET_UP_ITEM = 26, 40, 50, 51, 52
_GLOBAL_ENB, _SUPPORTED_AREAS, _MAX_RATE, _TAI, _SECURITY_KEY = 59, 64, 66, 67, 73
_CAPACITY, _SOURCE_MME_ID, _UE_IDS, _ECGI, _SERVED, _CAPABILITIES = 87, 88, 99, 100, 105, 107
_RRC_CAUSE, _PAGING_CYCLE = 134, 137
# Causes, TS 36.413 9.2.1.3.
_GROUPS: Final = {ran.RADIO: 35, ran.NAS: 3}  # highest number before the extensions
_HANDOVER_FAILED: Final[ran.Cause] = (ran.RADIO, 6)
_IDS: Final = ran.DeviceIds(_MME_ID, 0xFFFF_FFFF, _ENB_ID, 0xFF_FFFF)


class S1ap(ran.RanInterface):
    """eNBs and an MME."""

    name = "s1ap"
    procedures: ClassVar = ran.PROCEDURES | {
        Kind.SETUP: "initial_context_setup",
    }
    core_address = MME_ADDRESS
    port = 36_412
    protocol = 18
    _setup_name = "s1_setup"
    _setup_procedure = _S1_SETUP

    def _ask(self, exchange: Exchange) -> bytes:
        return _REQUESTS[exchange.kind](exchange)

    def _reply(self, exchange: Exchange, outcome: Outcome) -> tuple[bytes, int | None]:
        accepted = outcome is Outcome.ACCEPTED
        if exchange.kind is Kind.SETUP:
            return _context_response(exchange) if accepted else _context_failure(exchange)
        if exchange.kind is Kind.SWITCH:
            return _switch_acknowledge(exchange) if accepted else _switch_failure(exchange)
        complete = message(SUCCESSFUL, _RELEASE, REJECT, _IDS.both(exchange, IGNORE))
        return complete, None

    def _node_setup(self, cells: Sequence[Cell]) -> tuple[list[Element], list[Element]]:
        """TS 36.413 9.1.8.4 and 9.1.8.5."""
        enb = Bits().put(0, 3).append(PLMN).put(0, 1).put(0, 2)
        enb.fixed_bits(node_number(cells[0]), 20)
        areas = sorted({area_number(cell) for cell in cells})
        supported = Bits().constrained(len(areas), 1, 256)
        for area in areas:
            supported.put(0, 2).fixed(struct.pack("!H", area)).constrained(1, 1, 6).append(PLMN)
        setup: list[Element] = [
            (_GLOBAL_ENB, REJECT, bytes(enb)),
            (_SUPPORTED_AREAS, REJECT, bytes(supported)),
            (_PAGING_CYCLE, IGNORE, bytes(Bits().extensible(2, 0, 3))),
        ]
        served = Bits().constrained(1, 1, 8).put(0, 2).constrained(1, 1, 32).append(PLMN)
        served.constrained(1, 1, 65_535).fixed(b"\x00\x01")
        served.constrained(1, 1, 256).fixed(b"\x01")
        done: list[Element] = [
            (_SERVED, REJECT, bytes(served)),
            (_CAPACITY, IGNORE, b"\xff"),
        ]
        return setup, done


# --------------------------------------------------------------------------------------- messages


def _initial(exchange: Exchange) -> bytes:
    return _initial_ue(exchange, attach_request(exchange.connection), ran.MO_SIGNALLING)


def _return(exchange: Exchange) -> bytes:
    return _initial_ue(exchange, service_request(exchange.connection), ran.MO_DATA)


def _initial_ue(exchange: Exchange, nas: bytes, reason: int) -> bytes:
    """TS 36.413 9.1.7.1."""
    elements = [
        (_ENB_ID, REJECT, _IDS.node(exchange)),
        (_NAS, REJECT, bytes(Bits().open(nas))),
        (_TAI, REJECT, _tai(exchange.cell)),
        (_ECGI, IGNORE, _ecgi(exchange.cell)),
        (_RRC_CAUSE, IGNORE, bytes(Bits().extensible(reason, 0, 4))),
    ]
    return message(INITIATING, _INITIAL_UE, IGNORE, elements)


def _context_request(exchange: Exchange) -> bytes:
    """TS 36.413 9.1.4.1, with the SGW's end of the tunnel."""
    connection = exchange.connection
    bearer = Bits().put(0, 3).extensible(BEARER_ID, 0, 15)
    bearer.put(0, 3).constrained(QOS_CLASS, 0, 255)
    bearer.put(0, 2).constrained(PRIORITY, 0, 15).put(0, 1).put(1, 1)
    ran.put_end(bearer, connection.gateway.address, connection.teid_up)
    rates = Bits().put(0, 2)
    rates.constrained(MAX_RATE_DOWN_BPS, 0, 10**10).constrained(MAX_RATE_UP_BPS, 0, 10**10)
    key = ran.put_key(Bits(), connection)
    elements = [
        *_IDS.both(exchange, REJECT),
        (_MAX_RATE, REJECT, bytes(rates)),
        (_TO_SET_UP_LIST, REJECT, _list(_TO_SET_UP_ITEM, bearer)),
        (_CAPABILITIES, REJECT, _capabilities()),
        (_SECURITY_KEY, REJECT, bytes(key)),
    ]
    return message(INITIATING, _CONTEXT_SETUP, REJECT, elements)


def _context_response(exchange: Exchange) -> tuple[bytes, None]:
    """TS 36.413 9.1.4.3, with the eNB's end of the tunnel."""
    bearer = Bits().put(0, 2).extensible(BEARER_ID, 0, 15)
    ran.put_end(bearer, exchange.cell.node_address, exchange.teid_down)
    elements = [*_IDS.both(exchange, IGNORE), (_SET_UP_LIST, IGNORE, _list(_SET_UP_ITEM, bearer))]
    return message(SUCCESSFUL, _CONTEXT_SETUP, REJECT, elements), None


def _context_failure(exchange: Exchange) -> tuple[bytes, int]:
    """TS 36.413 9.1.4.4."""
    elements = [*_IDS.both(exchange, IGNORE), _cause(ran.NO_RADIO_RESOURCES)]
    return message(UNSUCCESSFUL, _CONTEXT_SETUP, REJECT, elements), ran.NO_RADIO_RESOURCES[1]


def _switch(exchange: Exchange) -> bytes:
    """TS 36.413 9.1.5.8, with the target's end of the tunnel."""
    bearer = Bits().put(0, 2).extensible(BEARER_ID, 0, 15)
    ran.put_end(bearer, exchange.cell.node_address, exchange.teid_down)
    elements = [
        (_ENB_ID, REJECT, _IDS.node(exchange)),
        (_SWITCHED_LIST, REJECT, _list(_SWITCHED_ITEM, bearer)),
        (_SOURCE_MME_ID, REJECT, _IDS.core(exchange)),
        (_ECGI, IGNORE, _ecgi(exchange.cell)),
        (_TAI, IGNORE, _tai(exchange.cell)),
        (_CAPABILITIES, IGNORE, _capabilities()),
    ]
    return message(INITIATING, _PATH_SWITCH, REJECT, elements)


def _switch_acknowledge(exchange: Exchange) -> tuple[bytes, None]:
    """TS 36.413 9.1.5.9."""
    context = ran.put_key(Bits().put(0, 2).constrained(2, 0, 7), exchange.connection)
    elements = [*_IDS.both(exchange, IGNORE), (_SECURITY_CONTEXT, REJECT, bytes(context))]
    return message(SUCCESSFUL, _PATH_SWITCH, REJECT, elements), None


def _switch_failure(exchange: Exchange) -> tuple[bytes, int]:
    """TS 36.413 9.1.5.10."""
    elements = [*_IDS.both(exchange, IGNORE), _cause(_HANDOVER_FAILED)]
    return message(UNSUCCESSFUL, _PATH_SWITCH, REJECT, elements), _HANDOVER_FAILED[1]


def _release_request(exchange: Exchange) -> bytes:
    """TS 36.413 9.1.4.5."""
    elements = [*_IDS.both(exchange, REJECT), _cause(ran.USER_INACTIVITY)]
    return message(INITIATING, _RELEASE_REQUEST, IGNORE, elements)


def _release(exchange: Exchange) -> bytes:
    """TS 36.413 9.1.4.6."""
    elements = [(_UE_IDS, REJECT, _IDS.pair(exchange)), _cause(ran.NORMAL)]
    return message(INITIATING, _RELEASE, REJECT, elements)


_REQUESTS: Final[dict[Kind, Callable[[Exchange], bytes]]] = {
    Kind.INITIAL: _initial,
    Kind.RETURN: _return,
    Kind.SETUP: _context_request,
    Kind.SWITCH: _switch,
    Kind.RELEASE_WANTED: _release_request,
    Kind.RELEASE: _release,
}


# --------------------------------------------------------------------------------------- elements


def _tai(cell: Cell) -> bytes:
    return bytes(Bits().put(0, 2).append(PLMN).fixed(struct.pack("!H", area_number(cell))))


def _ecgi(cell: Cell) -> bytes:
    return bytes(Bits().put(0, 2).append(PLMN).fixed_bits(cell_number(cell), 28))


def _list(item: int, bearer: Bits) -> bytes:
    """Return a list of one bearer; all that precede a single container are whole bytes."""
    count = bytes(Bits().constrained(1, 1, 256))
    return count + bytes(single((item, REJECT, bytes(bearer))))


def _cause(cause: ran.Cause) -> Element:
    group, number = cause
    bits = Bits().extensible(group, 0, 4).extensible(number, 0, _GROUPS[group])
    return _CAUSE, IGNORE, bytes(bits)


def _capabilities() -> bytes:
    """The first two algorithms of each kind, TS 36.413 9.2.1.40."""
    return bytes(Bits().put(0, 2).put(0, 1).put(0xC000, 16).put(0, 1).put(0xC000, 16))
