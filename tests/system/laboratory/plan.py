"""What the relay does to packets: links with delay and loss, and middleboxes, matched by rules.

Up is client to server. A link is one side of the tap in one direction, so a packet that goes up
crosses `client_up`, the tap, and `server_up`; its answer crosses `server_down`, the tap, and
`client_down`. Each flow draws from generators of its own, one a link, seeded with the plan's seed,
the flow's addresses and service port, and how many flows between them came before: what happens
to its n-th packet depends on no other flow.
"""

from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["up", "down"]
Side = Literal["client", "server"]


@dataclass(frozen=True)
class Outage:
    """A link drops everything of a flow, once that many of its packets or payload bytes passed.

    Counted in the link's direction. `seconds` is how long it lasts; without, for ever.
    """

    after_packets: int = 0
    after_bytes: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Link:
    """One side of the tap in one direction. Probabilities are per packet."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    """Uniform from 0 to this, on top of the delay; the order of a flow's packets is kept."""
    loss: float = 0.0
    lose: tuple[int, ...] = ()
    """Numbers, from 1, of the flow's packets in this direction that are lost whatever the dice."""
    lose_data: tuple[int, ...] = ()
    """The same, counting only packets that carry payload."""
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_ms: float = 5.0
    """How much later than the others a packet comes that is overtaken."""
    rate_mbit: float | None = None
    """Bandwidth shared by all flows of the rule; IP bytes count."""
    queue_ms: float = 100.0
    """Waiting time beyond which the bandwidth's queue drops."""
    outage: Outage | None = None


@dataclass(frozen=True)
class Trigger:
    """Which packet of a flow, as it passes the tap, sets a middlebox off. The first by default.

    `packet` and `data` count from 1 the packets, and those with payload, of one direction.
    `contains` wants these bytes in the payload instead. With `every`, each later packet in that
    direction (or each that contains the bytes) does it again.
    """

    direction: Direction = "up"
    packet: int = 1
    data: int | None = None
    contains: bytes | None = None
    every: bool = False


@dataclass(frozen=True)
class Reset:
    """A middlebox that answers for the ends: RSTs under their addresses.

    It stands `distance_ms` (one way) from the tap on `place`'s side, or at the tap if that is 0.
    What it sends across the tap is mirrored. `sequence_offset` is added to the sequence number
    that the receiver expects; `ttl` is what the tap sees.
    """

    on: Trigger = Trigger()
    toward: Literal["client", "server", "both"] = "both"
    ttl: int = 64
    sequence_offset: int = 0
    count: int = 1
    acknowledges: bool = False
    """RST with ACK rather than alone. An RST in answer to a SYN always acknowledges it."""
    drop: bool = False
    """Whether the packet that set it off goes no further."""
    place: Side = "server"
    distance_ms: float = 0.0


@dataclass(frozen=True)
class IcmpError:
    """A router answers a packet with an ICMP (or, over IPv6, ICMPv6) error to the packet's sender.

    Place and distance as for `Reset`. `source` is the router's address, by default the address
    that the packet was for. The packet itself goes no further unless `drop` is false.
    """

    type: int
    code: int
    on: Trigger = Trigger(every=True)
    source: str | None = None
    ttl: int = 64
    mtu: int = 0
    """Next-hop MTU, for "fragmentation needed" and "packet too big"."""
    drop: bool = True
    place: Side = "server"
    distance_ms: float = 0.0


@dataclass(frozen=True)
class Rule:
    """What happens to the flows that match: by prefix of client and server, port and protocol."""

    clients: str | None = None
    servers: str | None = None
    port: int | None = None
    """The server's port."""
    protocol: Literal["tcp", "udp", "icmp"] | None = None
    client_up: Link = Link()
    client_down: Link = Link()
    server_up: Link = Link()
    server_down: Link = Link()
    mirror: Literal["both", "up", "down", "none"] = "both"
    middleboxes: tuple[Reset | IcmpError, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A laboratory's rules (the first that matches a flow holds for it) and its kernels' settings.

    `client_sysctl` and `server_sysctl` are by path below /proc/sys: `net/ipv4/tcp_sack: 0`.
    """

    rules: tuple[Rule, ...] = ()
    seed: int = 1
    client_sysctl: dict[str, str | int] = field(default_factory=dict)
    server_sysctl: dict[str, str | int] = field(default_factory=dict)
    resolver: str = "127.0.0.1"
    """Name server that programs in the namespaces ask; by default there is none, found at once."""
    max_packets: int = 1_000_000
    """Packets beyond this many are dropped and counted: the log is in memory."""
    max_seconds: float = 300.0
    """The relay ends by itself after this."""


def path(
    client_ms: float = 0.0, server_ms: float = 0.0, client: Link = Link(), server: Link = Link()
) -> dict[str, Link]:
    """Return the four links of a rule, each side the same in both directions, as keywords.

    `Rule(clients="10.1.0.7", **path(client_ms=20, server_ms=5))`; the delays are one way.
    """
    near, far = _delayed(client, client_ms), _delayed(server, server_ms)
    return {"client_up": near, "client_down": near, "server_up": far, "server_down": far}


def _delayed(link: Link, delay_ms: float) -> Link:
    return Link(**{**vars(link), "delay_ms": link.delay_ms + delay_ms})
