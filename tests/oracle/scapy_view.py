"""What scapy says of the control messages of the reference captures: a second pair of eyes.

Our readers are held against tshark message by message (`cargo test corpus`); where scapy says the
same as tshark, it says the same as we do. Of each message its type, number, session key, causes,
subscriber and tunnel ends are compared.
"""

from collections.abc import Callable, Iterator
from typing import Any

from scapy.contrib.gtp import GTPHeader as GtpV1
from scapy.contrib.gtp_v2 import GTPHeader as GtpV2
from scapy.contrib.pfcp import PFCP
from scapy.layers.inet import UDP
from scapy.layers.radius import Radius
from scapy.packet import Packet
from scapy.utils import PcapReader

from tests.oracle.captures import CORPUS, Truth, truth_of
from tests.oracle.control import all_of, messages

# The part of a message, as text: sorted, since scapy and tshark walk elements in different ways.
Facts = dict[str, list[str]]
PORTS = {"gtpv2": {2123}, "gtpv1c": {2123, 3386}, "pfcp": {8805}, "radius": {1812, 1813}}
SECTIONS = tuple(PORTS)


def scapy_messages(name: str, section: str) -> dict[int, Facts]:
    """What scapy reads, by the number of the frame; only frames that tshark lists."""
    listed = {message["frame"] for message in messages(truth_of(name), section)}
    with PcapReader(str(CORPUS / name)) as reader:
        frames = {at: packet for at, packet in enumerate(reader, start=1) if at in listed}
    return {
        at: READERS[section](bytes(datagram.payload))
        for at, packet in frames.items()
        if (datagram := datagram_of(packet, PORTS[section])) is not None
    }


def datagram_of(packet: Packet, ports: set[int]) -> Packet | None:
    """The datagram, which is the outermost with a port of the protocol."""
    datagram = packet.getlayer(UDP)
    while datagram is not None and not ports & {datagram.sport, datagram.dport}:
        datagram = datagram.payload.getlayer(UDP)
    return datagram


def layers_of(packet: Packet) -> Iterator[Packet]:
    """The elements of a message, those in groups as well."""
    for field in packet.fields_desc:
        value = packet.getfieldval(field.name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Packet):
                yield one
                yield from layers_of(one)
    if not isinstance(packet.payload, type(None)) and packet.payload.fields_desc:
        yield packet.payload
        yield from layers_of(packet.payload)


def read_gtpv2(payload: bytes) -> Facts:
    header = GtpV2(payload)
    facts: Facts = {
        "message": [str(header.gtp_type)],
        "seq": [str(header.seq)],
        "teid": [f"0x{header.teid or 0:08x}"] if header.T else [],
    }
    kinds = {"IE_IMSI": "imsi", "IE_Cause": "cause", "IE_FTEID": "fteid"}
    values: dict[str, Callable[[Any], str]] = {
        "imsi": lambda one: one.IMSI.decode(),
        "cause": lambda one: str(one.Cause),
        "fteid": lambda one: f"0x{one.GRE_Key:08x}",
    }
    return gather(facts, header, kinds, values)


def read_gtpv1(payload: bytes) -> Facts:
    header = GtpV1(payload)
    facts: Facts = {
        "message": [str(header.gtp_type)],
        "seq": [str(header.seq)],
        "teid": [f"0x{header.teid:08x}"],
    }
    kinds = {
        "IE_IMSI": "imsi",
        "IE_Cause": "cause",
        "IE_TEIDI": "teid_data",
        "IE_TEICP": "teid_cp",
    }
    values: dict[str, Callable[[Any], str]] = {
        "imsi": lambda one: one.imsi.decode(),
        "cause": lambda one: str(one.CauseValue),
        "teid_data": lambda one: f"0x{one.TEIDI:08x}",
        "teid_cp": lambda one: f"0x{one.TEICI:08x}",
    }
    return gather(facts, header, kinds, values)


def read_pfcp(payload: bytes) -> Facts:
    header = PFCP(payload)
    facts: Facts = {"message": [str(header.message_type)], "seq": [str(header.seq)]}
    kinds = {"IE_Cause": "cause", "IE_FTEID": "fteid", "IE_OuterHeaderCreation": "outer_teid"}
    values: dict[str, Callable[[Any], str]] = {
        "cause": lambda one: str(one.cause),
        # One that the UPF is to choose has none yet.
        "fteid": lambda one: "" if one.CH else f"0x{one.TEID:08x}",
        "outer_teid": lambda one: f"0x{one.TEID:08x}",
    }
    return gather(facts, header, kinds, values)


def read_radius(payload: bytes) -> Facts:
    header = Radius(payload)
    facts: Facts = {"code": [str(header.code)], "id": [str(header.id)]}
    kinds = {"RadiusAttr_User_Name": "user"}
    values: dict[str, Callable[[Any], str]] = {"user": lambda one: one.value.decode()}
    return gather(facts, header, kinds, values)


def gather(
    facts: Facts,
    message: Packet,
    kinds: dict[str, str],
    values: dict[str, Callable[[Any], str]],
) -> Facts:
    for name in kinds.values():
        facts[name] = []
    for element in layers_of(message):
        if name := kinds.get(type(element).__name__):
            facts[name] += filter(None, [values[name](element)])
    return {name: sorted(found) for name, found in facts.items()}


READERS: dict[str, Callable[[bytes], Facts]] = {
    "gtpv2": read_gtpv2,
    "gtpv1c": read_gtpv1,
    "pfcp": read_pfcp,
    "radius": read_radius,
}


def tshark_facts(message: Truth, names: Facts) -> Facts:
    """The same of tshark, from a truth file."""
    return {name: sorted(str(one) for one in all_of(message.get(name))) for name in names}
