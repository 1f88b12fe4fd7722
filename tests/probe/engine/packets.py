"""Captures made byte by byte, for tests of the engine.

Only what the tests need: Ethernet, IP, TCP, UDP, GTP-U, and the classic pcap file in ns.
"""

import ipaddress
import struct
from dataclasses import dataclass, field
from typing import Any

SECOND = 1_000_000_000
MS = 1_000_000
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

# A UTC minute's beginning: intervals of 60 s start and end here.
MINUTE = 1_700_000_040 * SECOND


def ipv4(source: str, destination: str, protocol: int, body: bytes, ttl: int = 60) -> bytes:
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, ttl, protocol, 0) + ends + body


def ipv6(source: str, destination: str, following: int, body: bytes) -> bytes:
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    return struct.pack(">IHBB", 0x60000000, len(body), following, 60) + ends + body


def ip(source: str, destination: str, protocol: int, body: bytes) -> bytes:
    """Return a packet of the version that the addresses are of."""
    return (ipv6 if ":" in source else ipv4)(source, destination, protocol, body)


def udp(source_port: int, destination_port: int, body: bytes) -> bytes:
    return struct.pack(">HHHH", source_port, destination_port, 8 + len(body), 0) + body


def tcp(
    source_port: int,
    destination_port: int,
    flags: int,
    sequence: int,
    acknowledgment: int,
    body: bytes = b"",
    timestamps: tuple[int, int] | None = None,
    window: int = 65535,
) -> bytes:
    options = b"" if timestamps is None else struct.pack(">BBBBII", 1, 1, 8, 10, *timestamps)
    offset = (20 + len(options)) // 4 << 4
    header = struct.pack(
        ">HHIIBBHHH",
        source_port,
        destination_port,
        sequence & 0xFFFFFFFF,
        acknowledgment & 0xFFFFFFFF,
        offset,
        flags,
        window,
        0,
        0,
    )
    return header + options + body


def gtpu(source: str, destination: str, teid: int, inner: bytes) -> bytes:
    message = struct.pack(">BBHI", 0x30, 255, len(inner), teid) + inner
    return ipv4(source, destination, 17, udp(2152, 2152, message))


@dataclass
class Capture:
    """A capture under construction; packets are written in the order they are added."""

    packets: list[tuple[int, bytes]] = field(default_factory=list)

    def add(self, time_ns: int, ip_packet: bytes) -> None:
        ethertype = b"\x86\xdd" if ip_packet[0] >> 4 == 6 else b"\x08\x00"
        self.packets.append((time_ns, b"\x02" * 12 + ethertype + ip_packet))

    def pcap(self) -> bytes:
        out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)]
        for time_ns, frame in self.packets:
            seconds, fraction = divmod(time_ns, SECOND)
            out += [struct.pack("<IIII", seconds, fraction, len(frame), len(frame)), frame]
        return b"".join(out)


@dataclass
class Dialogue:
    """A TCP connection between a client and a server, as the tap sees its segments."""

    capture: Capture
    client: str = "10.0.0.1"
    server: str = "192.0.2.1"
    client_port: int = 40000
    server_port: int = 443
    client_sequence: int = 1000
    server_sequence: int = 9000

    def up(self, time_ns: int, flags: int, body: bytes = b"") -> None:
        """Send the next segment from the client."""
        segment = tcp(
            self.client_port,
            self.server_port,
            flags,
            self.client_sequence,
            self.server_sequence if flags & ACK else 0,
            body,
        )
        self.capture.add(time_ns, ip(self.client, self.server, 6, segment))
        self.client_sequence += len(body) + bool(flags & SYN) + bool(flags & FIN)

    def down(self, time_ns: int, flags: int, body: bytes = b"") -> None:
        """Send the next segment from the server."""
        segment = tcp(
            self.server_port,
            self.client_port,
            flags,
            self.server_sequence,
            self.client_sequence if flags & ACK else 0,
            body,
        )
        self.capture.add(time_ns, ip(self.server, self.client, 6, segment))
        self.server_sequence += len(body) + bool(flags & SYN) + bool(flags & FIN)

    def open(
        self, start_ns: int, server_rtt_ns: int = 20 * MS, client_rtt_ns: int = 30 * MS
    ) -> int:
        """Shake hands; returns the time of the final ACK."""
        self.up(start_ns, SYN)
        self.down(start_ns + server_rtt_ns, SYN | ACK)
        self.up(start_ns + server_rtt_ns + client_rtt_ns, ACK)
        return start_ns + server_rtt_ns + client_rtt_ns

    def close(self, time_ns: int) -> None:
        self.up(time_ns, FIN | ACK)
        self.down(time_ns + 20 * MS, FIN | ACK)
        self.up(time_ns + 50 * MS, ACK)


def rule(**known: Any) -> dict[str, Any]:
    """Return an attribution rule of the engine's options: what is not known is null."""
    keys = (
        "client_prefix vlan teid gtpu_address subscriber cell_id ran_node_id tracking_area rat apn"
    )
    return dict.fromkeys(keys.split()) | known
