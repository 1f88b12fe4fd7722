"""The two places for a tap: plain IP beside the gateway (SGi, N6), or GTP-U (S1-U, N3)."""

import struct
from functools import lru_cache
from typing import Final, Protocol

from scapy.contrib.gtp import GTP_U_Header, GTPPDUSessionContainer

from probe.simulate.flow import UDP, Flow, packed
from probe.simulate.headers import ethernet, ipv4
from probe.simulate.network import GATEWAY_ADDRESS, Subscriber

GTPU_PORT: Final = 2152  # TS 29.281 4.4.2.3
_OUTER_TTL: Final = 62
_QFI: Final = 9
_IPV4_ETHERTYPE, _IPV6_ETHERTYPE = 0x0800, 0x86DD


class View(Protocol):
    """How a subscriber's IP packet looks on the tapped link."""

    def frame(self, flow: Flow, up: bool, ip_packet: bytes) -> bytes:
        """Return the Ethernet frame that carries `ip_packet`."""


class SgiView:
    """IP straight on Ethernet."""

    def frame(self, flow: Flow, up: bool, ip_packet: bytes) -> bytes:
        return _ethernet_of(up, ip_packet[0] >> 4) + ip_packet


class S1uView:
    """IP in GTP-U on IPv4; behind a gNB with the PDU session container of TS 38.415."""

    def __init__(self) -> None:
        self._identification = 0

    def frame(self, flow: Flow, up: bool, ip_packet: bytes) -> bytes:
        source, destination, tunnel_header = self._tunnel(flow, up)
        gtpu_length = len(tunnel_header) + len(ip_packet)
        self._identification += 1
        outer = ipv4(
            source,
            destination,
            UDP,
            8 + gtpu_length,
            ttl=_OUTER_TTL,
            identification=self._identification,
        )
        return b"".join(
            (
                _ethernet_of(up, 4),
                outer,
                struct.pack("!HHHH", GTPU_PORT, GTPU_PORT, 8 + gtpu_length, 0),
                tunnel_header[:2],
                struct.pack("!H", gtpu_length - 8),  # without the mandatory header
                tunnel_header[4:],
                ip_packet,
            )
        )

    def _tunnel(self, flow: Flow, up: bool) -> tuple[bytes, bytes, bytes]:
        """Return (outer source, outer destination, GTP-U header) of a direction."""
        return _tunnel(flow.subscriber, up)


class BearerView(S1uView):
    """The tunnels that the control plane has set up for the moment."""

    def _tunnel(self, flow: Flow, up: bool) -> tuple[bytes, bytes, bytes]:
        assert flow.connection is not None
        stay = flow.connection.stay_of(up)
        ends = (stay.node_address, stay.gateway_address)
        teid = stay.teid_up if up else stay.teid_down
        return _ends_and_header(*ends, teid, up, stay.cell.rat == "nr")


@lru_cache(maxsize=4)
def _ethernet_of(up: bool, ip_version: int) -> bytes:
    return ethernet(up, _IPV4_ETHERTYPE if ip_version == 4 else _IPV6_ETHERTYPE)


@lru_cache(maxsize=65_536)
def _tunnel(subscriber: Subscriber, up: bool) -> tuple[bytes, bytes, bytes]:
    """Return (outer source, outer destination, GTP-U header) of a subscriber's direction."""
    teid = subscriber.teid_up if up else subscriber.teid_down
    cell = subscriber.cell
    return _ends_and_header(cell.node_address, GATEWAY_ADDRESS, teid, up, cell.rat == "nr")


@lru_cache(maxsize=65_536)
def _ends_and_header(
    node_address: str, gateway_address: str, teid: int, up: bool, is_nr: bool
) -> tuple[bytes, bytes, bytes]:
    node, gateway = packed(node_address), packed(gateway_address)
    header = GTP_U_Header(teid=teid, gtp_type=255)
    if is_nr:
        header = header / GTPPDUSessionContainer(type=1 if up else 0, QFI=_QFI)
    return (node, gateway, bytes(header)) if up else (gateway, node, bytes(header))


VIEWS: Final[dict[str, type[SgiView] | type[S1uView]]] = {"sgi": SgiView, "s1u": S1uView}
