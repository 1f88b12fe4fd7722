"""Packets as bytes: scapy makes one header of each kind, and each packet patches a copy.

Building every packet from scapy's layers costs about a millisecond; patching costs microseconds.
"""

import struct
from dataclasses import dataclass
from typing import Final

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from probe.simulate.flow import TCP as TCP_PROTOCOL
from probe.simulate.flow import UDP as UDP_PROTOCOL
from probe.simulate.flow import Flow

_UPLINK_MAC, _DOWNLINK_MAC = "02:00:5e:00:00:01", "02:00:5e:00:00:02"
_IPV4: Final = bytes(IP(src="0.0.0.0", dst="0.0.0.0", flags="DF", chksum=0, len=0))
_IPV6: Final = bytes(IPv6(src="::", dst="::", plen=0))
_TCP: Final = bytes(TCP(chksum=0))[:20]
_UDP: Final = bytes(UDP(len=0, chksum=0))
_TTL_UP, _TTL_DOWN = 63, 54


def ethernet(up: bool, ethertype: int) -> bytes:
    """Return the Ethernet header of a direction."""
    source, destination = (_UPLINK_MAC, _DOWNLINK_MAC) if up else (_DOWNLINK_MAC, _UPLINK_MAC)
    return bytes(Ether(src=source, dst=destination, type=ethertype))


@dataclass(slots=True, eq=False)
class Segment:
    """A TCP segment. `offset` is the payload's place in the stream, from 0."""

    flow: Flow
    up: bool
    flags: int
    sequence: int
    acknowledgment: int
    window: int  # as in the header, scaled
    options: bytes  # a multiple of 4 bytes
    payload: bytes
    offset: int


@dataclass(slots=True, eq=False)
class Datagram:
    """A UDP datagram; `dns_rcode` is set on answers, `is_query` on queries."""

    flow: Flow
    up: bool
    payload: bytes
    is_query: bool = False
    dns_rcode: int | None = None


Packet = Segment | Datagram


def ip_length(packet: Packet) -> int:
    """Return the packet's length from its IP header on."""
    header = 20 + len(packet.options) if isinstance(packet, Segment) else 8
    return packet.flow.ip_header_length + header + len(packet.payload)


def encode(packet: Packet, identification: int) -> bytes:
    """Return the IP packet, checksums filled in."""
    source, destination, source_port, destination_port = packet.flow.ends(packet.up)
    if isinstance(packet, Segment):
        transport = _tcp(packet, source_port, destination_port)
    else:
        transport = _udp(packet, source_port, destination_port)
    protocol = packet.flow.protocol
    _fill_checksum(transport, protocol, source, destination)
    ttl = _TTL_UP if packet.up else _TTL_DOWN
    if len(source) == 4:
        header = ipv4(
            source,
            destination,
            protocol,
            len(transport),
            ttl=ttl,
            identification=identification,
        )
    else:
        header = _ipv6(source, destination, protocol, len(transport), ttl=ttl)
    return header + transport


def _tcp(segment: Segment, source_port: int, destination_port: int) -> bytearray:
    header = bytearray(_TCP + segment.options + segment.payload)
    struct.pack_into(
        "!HHIIBBH",
        header,
        0,
        source_port,
        destination_port,
        segment.sequence,
        segment.acknowledgment,
        (20 + len(segment.options)) << 2,
        segment.flags,
        segment.window,
    )
    return header


def _udp(datagram: Datagram, source_port: int, destination_port: int) -> bytearray:
    header = bytearray(_UDP + datagram.payload)
    struct.pack_into("!HHH", header, 0, source_port, destination_port, len(header))
    return header


_CHECKSUM_OFFSET: Final = {TCP_PROTOCOL: 16, UDP_PROTOCOL: 6}


def _fill_checksum(transport: bytearray, protocol: int, source: bytes, destination: bytes) -> None:
    pseudo_header = source + destination + struct.pack("!II", len(transport), protocol)
    value = checksum(pseudo_header + transport)
    if protocol == UDP_PROTOCOL and value == 0:
        value = 0xFFFF  # 0 would mean "no checksum", RFC 768
    struct.pack_into("!H", transport, _CHECKSUM_OFFSET[protocol], value)


def checksum(data: bytes | bytearray) -> int:
    """Return the Internet checksum (RFC 1071) of `data`, which is not all zero.

    2^16 is 1 modulo 65,535, so the ones' complement sum is a remainder of the whole number.
    """
    number = int.from_bytes(data, "big") << (8 * (len(data) & 1))
    remainder = number % 0xFFFF
    return 0xFFFF - remainder if remainder else 0


def ipv4(
    source: bytes,
    destination: bytes,
    protocol: int,
    length: int,
    *,
    ttl: int,
    identification: int,
) -> bytes:
    """Return an IPv4 header for `length` bytes of payload."""
    header = bytearray(_IPV4)
    struct.pack_into("!HH", header, 2, 20 + length, identification & 0xFFFF)
    struct.pack_into("!BB", header, 8, ttl, protocol)
    struct.pack_into("!4s4s", header, 12, source, destination)
    struct.pack_into("!H", header, 10, checksum(header))
    return bytes(header)


def _ipv6(source: bytes, destination: bytes, protocol: int, length: int, *, ttl: int) -> bytes:
    header = bytearray(_IPV6)
    struct.pack_into("!HBB16s16s", header, 4, length, protocol, ttl, source, destination)
    return bytes(header)
