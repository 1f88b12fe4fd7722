"""A flow's addressing: what every packet of one session has in common."""

import ipaddress
from dataclasses import dataclass

from probe.simulate.control.connection import Connection
from probe.simulate.network import Subscriber
from probe.simulate.truth import SessionTruth

TCP, UDP = 6, 17


@dataclass(eq=False)
class Flow:
    """One five-tuple of one subscriber, and the labels gathered for it."""

    subscriber: Subscriber
    protocol: int  # IANA number: 6 or 17
    client_address: bytes  # 4 or 16 bytes, network order
    client_port: int
    server_address: bytes
    server_port: int
    truth: SessionTruth
    connection: Connection | None = None  # None: no control plane, and the subscriber stays

    @property
    def ip_header_length(self) -> int:
        """20 for IPv4, 40 for IPv6, both without options."""
        return 20 if len(self.client_address) == 4 else 40

    def ends(self, up: bool) -> tuple[bytes, bytes, int, int]:
        """Return (source, destination, source port, destination port) of a direction."""
        if up:
            return self.client_address, self.server_address, self.client_port, self.server_port
        return self.server_address, self.client_address, self.server_port, self.client_port


def packed(address: str) -> bytes:
    """Return an address in network order."""
    return ipaddress.ip_address(address).packed
