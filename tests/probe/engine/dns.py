"""DNS messages made byte by byte, for tests of the engine."""

import ipaddress
import struct

A, CNAME, AAAA, HTTPS = 1, 5, 28, 65
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5
TRUNCATED = 0x0200


def wire_name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def query(identifier: int, name: str, kind: int = A) -> bytes:
    header = struct.pack(">HHHHHH", identifier, 0x0100, 1, 0, 0, 0)
    return header + wire_name(name) + struct.pack(">HH", kind, 1)


def record(owner: str, kind: int, data: bytes, ttl: int = 300) -> bytes:
    return wire_name(owner) + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data


def address(owner: str, text: str, ttl: int = 300) -> bytes:
    packed = ipaddress.ip_address(text).packed
    return record(owner, A if len(packed) == 4 else AAAA, packed, ttl)


def answer(
    identifier: int, name: str, *records: bytes, kind: int = A, rcode: int = 0, flags: int = 0
) -> bytes:
    header = struct.pack(">HHHHHH", identifier, 0x8180 | flags | rcode, 1, len(records), 0, 0)
    return header + wire_name(name) + struct.pack(">HH", kind, 1) + b"".join(records)
