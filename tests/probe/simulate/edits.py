"""Simulated captures with single control messages left out, sent again, or put elsewhere."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PCAP_HEADER, PACKET_HEADER = 24, 16
ETHERNET, IPV4, UDP_HEADER = 14, 20, 8
UDP, SCTP = 17, 132
CONTROL_PORTS: Final = {1812, 1813, 2123, 8805}
SCTP_COMMON, DATA_CHUNK, DATA_HEADER = 12, 0, 16


@dataclass(frozen=True)
class Packet:
    """One packet of a capture: times in microseconds, bytes from Ethernet on."""

    time_us: int
    frame: bytes

    @property
    def protocol(self) -> int:
        return self.frame[ETHERNET + 9] if self.frame[12:14] == b"\x08\x00" else 0

    @property
    def source(self) -> str:
        return ".".join(str(octet) for octet in self.frame[26:30])

    @property
    def message(self) -> bytes | None:
        """The control message that the packet carries; of SCTP the one DATA chunk's."""
        transport = self.frame[ETHERNET + IPV4 :]
        if self.protocol == UDP and CONTROL_PORTS & set(struct.unpack("!HH", transport[:4])):
            return transport[UDP_HEADER:]
        if self.protocol == SCTP and transport[SCTP_COMMON] == DATA_CHUNK:
            return transport[SCTP_COMMON + DATA_HEADER :]
        return None


def read(path: Path) -> list[Packet]:
    data = path.read_bytes()
    found, at = [], PCAP_HEADER
    while at < len(data):
        seconds, microseconds, length, _ = struct.unpack("<IIII", data[at : at + PACKET_HEADER])
        at += PACKET_HEADER
        found.append(Packet(seconds * 10**6 + microseconds, data[at : at + length]))
        at += length
    return found


def write(path: Path, packets: Iterable[Packet]) -> Path:
    """Write a capture in the order of time."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1)]
    for packet in sorted(packets, key=lambda packet: packet.time_us):
        seconds, microseconds = divmod(packet.time_us, 10**6)
        length = len(packet.frame)
        parts += [struct.pack("<IIII", seconds, microseconds, length, length), packet.frame]
    path.write_bytes(b"".join(parts))
    return path
