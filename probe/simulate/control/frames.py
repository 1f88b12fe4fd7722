"""Control messages in UDP, on IPv4 and Ethernet."""

import struct
from functools import lru_cache
from itertools import count
from typing import Final

from probe.simulate.flow import UDP, packed
from probe.simulate.headers import checksum, ethernet, ipv4

_TTL: Final = 64
_IPV4_ETHERTYPE: Final = 0x0800


class Framer:
    """Makes frames; it counts the identification of IPv4."""

    def __init__(self) -> None:
        self._identification = count(1)

    def ip(self, source: str, destination: str, up: bool, protocol: int, payload: bytes) -> bytes:
        """Return `payload` in IPv4 on Ethernet; `up` is from the radio side towards the core."""
        header = ipv4(
            packed(source),
            packed(destination),
            protocol,
            len(payload),
            ttl=_TTL,
            identification=next(self._identification),
        )
        return _ethernet(up) + header + payload

    def udp(
        self, source: tuple[str, int], destination: tuple[str, int], up: bool, payload: bytes
    ) -> bytes:
        """Return `payload` in UDP between (address, port) ends, with its checksum."""
        length = 8 + len(payload)
        header = struct.pack("!HHH", source[1], destination[1], length)
        addresses = packed(source[0]) + packed(destination[0])
        pseudo_header = addresses + struct.pack("!II", length, UDP)
        # 0 would mean "no checksum" (RFC 768).
        value = checksum(pseudo_header + header + b"\0\0" + payload) or 0xFFFF
        datagram = header + struct.pack("!H", value) + payload
        return self.ip(source[0], destination[0], up, UDP, datagram)


@lru_cache(maxsize=2)
def _ethernet(up: bool) -> bytes:
    return ethernet(up, _IPV4_ETHERTYPE)
