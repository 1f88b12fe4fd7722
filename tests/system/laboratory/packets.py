"""IP packets as the relay reads them and, for middleboxes, makes them.

RFC 791, 8200 (IP), 9293 (TCP), 792 and 4443 (ICMP).
"""

import struct
from collections.abc import Container
from dataclasses import dataclass

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
NAMES = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMPV6: "icmp"}

_PORTS = struct.Struct("!HH")
_TCP = struct.Struct("!HHIIBB")


@dataclass(slots=True)
class Packet:
    """One packet's headers, as far as the relay needs them. Ports are 0 where there are none."""

    data: bytes
    protocol: int
    source: bytes
    destination: bytes
    source_port: int = 0
    destination_port: int = 0
    sequence: int = 0
    acknowledgment: int = 0
    flags: int = 0
    payload_at: int = 0
    payload_bytes: int = 0


def parse(data: bytes) -> Packet | None:
    """Return the packet, or None for what is no unicast IP packet of a laboratory."""
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 20:
        header = (data[0] & 15) * 4
        packet = Packet(data, data[9], data[12:16], data[16:20])
        end = int.from_bytes(data[2:4])
        whole = int.from_bytes(data[6:8]) & 0x1FFF == 0
    elif version == 6 and len(data) >= 40 and data[24] != 0xFF:
        header = 40
        packet = Packet(data, data[6], data[8:24], data[24:40])
        end = 40 + int.from_bytes(data[4:6])
        whole = True
    else:
        return None
    if whole:
        _read_transport(packet, header, min(end, len(data)))
    return packet


def _read_transport(packet: Packet, at: int, end: int) -> None:
    if packet.protocol == TCP and end - at >= 20:
        (
            packet.source_port,
            packet.destination_port,
            packet.sequence,
            packet.acknowledgment,
            offset,
            packet.flags,
        ) = _TCP.unpack_from(packet.data, at)
        packet.payload_at = at + (offset >> 4) * 4
        packet.payload_bytes = max(0, end - packet.payload_at)
    elif packet.protocol == UDP and end - at >= 8:
        packet.source_port, packet.destination_port = _PORTS.unpack_from(packet.data, at)
        packet.payload_at = at + 8
        packet.payload_bytes = end - at - 8


def quoted(packet: Packet) -> Packet | None:
    """Return the packet that an ICMP error is about (RFC 792, 4443), or None for another packet."""
    if packet.protocol == ICMP:
        header = (packet.data[0] & 15) * 4
        errors: Container[int] = (3, 4, 5, 11, 12)
    elif packet.protocol == ICMPV6:
        header, errors = 40, range(128)
    else:
        return None
    if len(packet.data) <= header + 8 or packet.data[header] not in errors:
        return None
    return parse(packet.data[header + 8 :])


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _ip(source: bytes, destination: bytes, protocol: int, ttl: int, body: bytes) -> bytes:
    if len(source) == 16:
        start = struct.pack("!IHBB", 6 << 28, len(body), protocol, ttl)
        return start + source + destination + body
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, ttl, protocol, 0)
    head += source + destination
    return head[:10] + _checksum(head).to_bytes(2) + head[12:] + body


def _pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    if len(source) == 16:
        return source + destination + struct.pack("!II", length, protocol)
    return source + destination + struct.pack("!HH", protocol, length)


def tcp_reset(
    ends: tuple[bytes, int, bytes, int], sequence: int, acknowledgment: int | None, ttl: int
) -> bytes:
    """Return an RST from (source, port) to (destination, port)."""
    source, source_port, destination, destination_port = ends
    flags = RST if acknowledgment is None else RST | ACK
    acknowledgment = (acknowledgment or 0) & 0xFFFFFFFF
    start = _TCP.pack(
        source_port, destination_port, sequence & 0xFFFFFFFF, acknowledgment, 5 << 4, flags
    )
    segment = start + bytes(6)
    pseudo = _pseudo_header(source, destination, TCP, len(segment))
    checksum = _checksum(pseudo + segment)
    segment = segment[:16] + checksum.to_bytes(2) + segment[18:]
    return _ip(source, destination, TCP, ttl, segment)


def icmp_error(packet: Packet, source: bytes, kind: tuple[int, int], ttl: int, mtu: int) -> bytes:
    """Return the error of (type, code) about `packet`, to its sender, as much quoted as may be."""
    if len(source) == 16:
        message = struct.pack("!BBHI", *kind, 0, mtu) + packet.data[: 1280 - 48]
        pseudo = _pseudo_header(source, packet.source, ICMPV6, len(message))
        protocol = ICMPV6
    else:
        message = struct.pack("!BBHHH", *kind, 0, 0, mtu) + packet.data[: 576 - 28]
        pseudo, protocol = b"", ICMP
    checksum = _checksum(pseudo + message)
    message = message[:2] + checksum.to_bytes(2) + message[4:]
    return _ip(source, packet.source, protocol, ttl, message)
