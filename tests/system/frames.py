"""Frames made fast: TCP connections by the hundred thousand, and pcap around them."""

import struct
from collections.abc import Iterator

PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)  # nanoseconds, Ethernet
_ETHERNET = bytes.fromhex("0200000000010200000000020800")
_IP = struct.Struct(">BBHHHBBH4s4s")
_TCP = struct.Struct(">HHIIBBHHH")
_RECORD = struct.Struct("<IIII")
_SYN, _ACK, _FIN = 0x02, 0x10, 0x01


def client(number: int) -> bytes:
    """Return the address of client `number`, in 10.0.0.0/8; a thousand connections each."""
    return bytes([10]) + (number // 1000).to_bytes(3, "big")


def segment(number: int, up: bool, flags: int, sequence: int, ack: int, payload: bytes) -> bytes:
    """Return a frame of TCP connection `number`."""
    ends = (client(number), b"\xc0\x00\x02\x01")
    ports = (20000 + number % 1000, 443)
    source, destination = ends if up else ends[::-1]
    source_port, destination_port = ports if up else ports[::-1]
    length = 40 + len(payload)
    ip = _IP.pack(0x45, 0, length, number & 0xFFFF, 0, 64, 6, 0, source, destination)
    tcp = _TCP.pack(source_port, destination_port, sequence, ack, 0x50, flags, 8192, 0, 0)
    return _ETHERNET + ip + tcp + payload


def opening(number: int) -> Iterator[bytes]:
    """Yield the handshake of connection `number`."""
    yield segment(number, True, _SYN, 100, 0, b"")
    yield segment(number, False, _SYN | _ACK, 500, 101, b"")
    yield segment(number, True, _ACK, 101, 501, b"")


def exchange(number: int, rounds: int, payload: bytes = b"x" * 100) -> Iterator[bytes]:
    """Yield so many segments with data, each acknowledged."""
    sent = 101
    for _ in range(rounds):
        yield segment(number, True, _ACK, sent, 501, payload)
        sent += len(payload)
        yield segment(number, False, _ACK, 501, sent, b"")


def closing(number: int, rounds: int = 0, size: int = 100) -> Iterator[bytes]:
    """Yield FINs of both sides behind `rounds` segments of `size`."""
    sent = 101 + rounds * size
    yield segment(number, True, _FIN | _ACK, sent, 501, b"")
    yield segment(number, False, _FIN | _ACK, 501, sent + 1, b"")
    yield segment(number, True, _ACK, sent + 1, 502, b"")


def record(frame: bytes, time_ns: int) -> bytes:
    """Return a frame as a pcap record."""
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    return _RECORD.pack(seconds, fraction, len(frame), len(frame)) + frame
