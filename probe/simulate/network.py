"""The mobile network: cells, subscribers, and which of them are faulty.

Identities follow TS 23.003 (test network 001-01), addresses are reserved for documentation,
benchmarks and shared use (RFC 6598, 2544, 3849), so nothing here can be mistaken for a real
network.
"""

import ipaddress
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from probe.simulate.links import Queue

MCC_MNC: Final = "001-01"
APN: Final = "internet"
SUBSCRIBER_PREFIXES: Final = ("100.64.0.0/10", "2001:db8:64::/48")
RAN_PREFIX: Final = "10.20.0.0/16"  # eNB and gNB ends of the GTP-U tunnels
GATEWAY_ADDRESS: Final = "10.30.0.1"  # the SGW's or UPF's end
CELLS_PER_NODE: Final = 2
NODES_PER_AREA: Final = 4
_CONGESTED_RATE_BPS: Final = 1_500_000  # for all devices of the cell together
_LONGEST_QUEUE_US: Final = 400_000


@dataclass(frozen=True)
class Cell:
    """A cell and the radio conditions that all its subscribers share."""

    cell_id: str  # ECGI or NCGI
    ran_node_id: str
    tracking_area: str
    rat: str  # "eutran" or "nr"
    node_address: str  # of the eNB or gNB, outer GTP-U
    rtt_us: int  # between tap and device and back, without load
    loss: float  # of packets from tap to device
    rate_bps: int
    bad: bool
    queue_down: Queue | None = None  # of a congested cell: all its devices share the rate

    @property
    def congested(self) -> bool:
        return self.queue_down is not None


@dataclass(frozen=True)
class Subscriber:
    """A subscriber, one device in one cell for the whole simulation."""

    number: int
    identity: str  # "imsi:001010000000001"
    cell: Cell
    ipv4: str
    ipv6_prefix: str | None  # a /64, None for an IPv4-only device
    teid_up: int  # chosen by the gateway
    teid_down: int  # chosen by the eNB or gNB
    bad: bool

    @property
    def loss(self) -> float:
        """Probability that a packet from the tap does not reach the device."""
        return BAD_SUBSCRIBER_LOSS if self.bad else self.cell.loss


BAD_SUBSCRIBER_LOSS: Final = 0.12
BAD_SUBSCRIBER_BLOCKED: Final = 0.7  # share of its connects that are never answered


@dataclass(frozen=True)
class Network:
    """All cells and subscribers."""

    cells: tuple[Cell, ...]
    subscribers: tuple[Subscriber, ...]


def build_network(
    seed: int,
    cells: int,
    subscribers: int,
    bad_cell: int,
    bad_subscriber: int,
    *,
    rat: str | None = None,
    congested_cell: int = 0,
) -> Network:
    """Return a network; cells and subscribers are numbered from 1, bad number 0 means none.

    All cells are of `rat`, "eutran" or "nr"; without it every fourth node is a gNB.
    """
    random = Random(f"{seed}:network")
    all_cells = tuple(
        _cell(random, number, number == bad_cell, rat) for number in range(1, cells + 1)
    )
    if congested_cell:
        all_cells = tuple(
            _congested(cell) if number == congested_cell else cell
            for number, cell in enumerate(all_cells, start=1)
        )
    teids = iter(random.sample(range(0x1000, 0xFFFF_FFFF), 2 * subscribers))
    all_subscribers = tuple(
        _subscriber(number, all_cells, next(teids), next(teids), number == bad_subscriber)
        for number in range(1, subscribers + 1)
    )
    return Network(all_cells, all_subscribers)


def _cell(random: Random, number: int, bad: bool, rat: str | None) -> Cell:
    node, sector = divmod(number - 1, CELLS_PER_NODE)
    area, is_last = node // NODES_PER_AREA + 1, node % NODES_PER_AREA == NODES_PER_AREA - 1
    is_nr = is_last if rat is None else rat == "nr"
    node_hex, area_hex = (
        (f"{0x19B + node:07X}", f"{area:06X}")
        if is_nr
        else (
            f"{0x19B + node:05X}",
            f"{area:04X}",
        )
    )
    normal_rtt, bad_rtt = random.randint(30_000, 60_000), random.randint(250_000, 400_000)
    bad_loss, rate_mbps = random.uniform(0.04, 0.08), random.randint(30, 80)
    return Cell(
        cell_id=f"{MCC_MNC}-{node_hex}{sector + 1:02X}",
        ran_node_id=f"{MCC_MNC}-{node_hex}",
        tracking_area=f"{MCC_MNC}-{area_hex}",
        rat="nr" if is_nr else "eutran",
        node_address=_address(RAN_PREFIX, node + 1),
        rtt_us=bad_rtt if bad else normal_rtt,
        loss=bad_loss if bad else 0.001,
        rate_bps=(10 if bad else rate_mbps) * 1_000_000,
        bad=bad,
    )


def _congested(cell: Cell) -> Cell:
    return replace(cell, rate_bps=_CONGESTED_RATE_BPS, queue_down=Queue(_LONGEST_QUEUE_US))


def _subscriber(
    number: int, cells: tuple[Cell, ...], teid_up: int, teid_down: int, bad: bool
) -> Subscriber:
    ipv4, prefix = device_addresses(number)
    return Subscriber(
        number=number,
        identity=f"imsi:00101{number:010d}",
        cell=cells[(number - 1) % len(cells)],
        ipv4=ipv4,
        ipv6_prefix=prefix if number % 5 < 3 else None,
        teid_up=teid_up,
        teid_down=teid_down,
        bad=bad,
    )


def device_addresses(number: int) -> tuple[str, str]:
    """Return the IPv4 address and the IPv6 prefix of that number, from 1, of the subscribers'."""
    ipv4_pool, ipv6_pool = SUBSCRIBER_PREFIXES
    prefix = ipaddress.IPv6Network((_address(ipv6_pool, number << 64), 64))
    return _address(ipv4_pool, 256 + number), str(prefix)


def _address(network: str, offset: int) -> str:
    return str(ipaddress.ip_network(network)[offset])
