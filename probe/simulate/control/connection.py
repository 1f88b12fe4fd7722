"""A session between a device and the core: who, where, which tunnels, and what it carried where."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import Enum, auto
from typing import Any

from probe.simulate.network import Cell

Row = dict[str, Any]


@dataclass(slots=True)
class Volume:
    """Packets and bytes of IP packets."""

    packets_up: int = 0
    packets_down: int = 0
    bytes_up: int = 0
    bytes_down: int = 0

    def count(self, up: bool, ip_length: int) -> None:
        if up:
            self.packets_up += 1
            self.bytes_up += ip_length
        else:
            self.packets_down += 1
            self.bytes_down += ip_length

    def add(self, other: "Volume") -> None:
        self.packets_up += other.packets_up
        self.packets_down += other.packets_down
        self.bytes_up += other.bytes_up
        self.bytes_down += other.bytes_down

    def row(self) -> Row:
        return asdict(self)


@dataclass(frozen=True)
class Identity:
    """Who a subscriber is, and with which device (TS 23.003 2.2, 3.3 and 6.2.2)."""

    imsi: str
    msisdn: str  # international, without plus
    imeisv: str
    device_model: str
    old_device: bool = False

    @property
    def imei_tac(self) -> str:
        return self.imeisv[:8]


@dataclass(frozen=True)
class Gateway:
    """An SGW with its PGW, or a UPF: the core's end of user-plane tunnels."""

    number: int
    address: str  # user plane
    control_address: str  # S11, N4, and as a RADIUS client


@dataclass(eq=False, slots=True)
class Stay:
    """A time in which a session stayed in one cell, with the same tunnels."""

    attachment: int  # number of its session
    number: int  # within the session, from 0
    cell: Cell
    node_address: str
    gateway_address: str
    teid_up: int  # the gateway waits for it
    teid_down: int  # the eNB or gNB waits for it
    start_us: int
    end_us: int | None = None
    volume: Volume = field(default_factory=Volume)

    def key(self) -> Row:
        """Return what names the stay, its cell and its tunnels."""
        return {
            "attachment": self.attachment,
            "stay": self.number,
            "cell_id": self.cell.cell_id,
            "ran_node_id": self.cell.ran_node_id,
            "tracking_area": self.cell.tracking_area,
            "node_address": self.node_address,
            "gateway_address": self.gateway_address,
            "teid_up": self.teid_up,
            "teid_down": self.teid_down,
        }


class State(Enum):
    """What a session can do."""

    STARTING = auto()
    ACTIVE = auto()
    IDLE = auto()  # no radio bearer: packets wait until the device is back
    RETURNING = auto()
    GONE = auto()


@dataclass(slots=True)
class Keys:
    """What the nodes call the session among themselves."""

    mme_teid: int = 0  # S11, TS 29.274 8.22
    sgw_teid: int = 0
    smf_seid: int = 0  # N4, TS 29.244 8.2.37
    upf_seid: int = 0
    core_ue_id: int = 0  # MME-UE-S1AP-ID or AMF-UE-NGAP-ID
    node_ue_id: int = 0  # eNB-UE-S1AP-ID or RAN-UE-NGAP-ID
    charging_id: int = 0
    tmsi: int = 0


@dataclass(eq=False)
class Connection:
    """One session: a PDN connection or a PDU session."""

    number: int
    identity: Identity
    apn: str
    cell: Cell
    gateway: Gateway
    slot: int  # of the pool of device addresses
    ipv4: str
    ipv6_prefix: str | None
    keys: Keys
    teid_up: int
    teid_down: int
    start_us: int
    state: State = State.STARTING
    end_us: int | None = None
    end_reason: str | None = None
    stays: list[Stay] = field(default_factory=list)
    stay: Stay | None = None  # the present one
    arriving: Stay | None = None  # that of a handover under way, where packets go up already
    last_packet_us: int = 0
    wanted: Callable[["Connection"], None] | None = None  # called once packets wait
    _waiting: list[Callable[[], None]] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.state is State.ACTIVE

    def arrive(self, now_us: int, cell: Cell, teid_down: int) -> Stay:
        """Send packets up from `cell` from now on, and down there once the path is switched."""
        self.arriving = Stay(
            attachment=self.number,
            number=len(self.stays),
            cell=cell,
            node_address=cell.node_address,
            gateway_address=self.gateway.address,
            teid_up=self.teid_up,
            teid_down=teid_down,
            start_us=now_us,
        )
        self.stays.append(self.arriving)
        return self.arriving

    def enter(self, now_us: int, cell: Cell, teid_down: int) -> None:
        """Carry packets in `cell` from now on."""
        entered = self.arriving or self.arrive(now_us, cell, teid_down)
        self.arriving = None
        self.leave(now_us)
        self.cell, self.teid_down = cell, teid_down
        self.stay = entered
        self.state = State.ACTIVE
        self._release_waiting()

    def leave(self, now_us: int) -> None:
        """End the present stay, if there is one, and that which is about to begin."""
        for stay in (self.stay, self.arriving):
            if stay is not None:
                stay.end_us = now_us
        self.stay = self.arriving = None

    def end(self, now_us: int, reason: str) -> None:
        self.leave(now_us)
        self.state = State.GONE
        self.end_us, self.end_reason = now_us, reason
        self._waiting.clear()

    def carry(self, now_us: int, up: bool, ip_length: int) -> Stay:
        """Count a packet that passes the tap now."""
        stay = self.stay_of(up)
        self.last_packet_us = now_us
        stay.volume.count(up, ip_length)
        return stay

    def stay_of(self, up: bool) -> Stay:
        """Return the stay that a packet belongs to."""
        stay = self.arriving if up and self.arriving else self.stay
        assert stay is not None
        return stay

    def wait(self, action: Callable[[], None]) -> bool:
        """Keep `action` for when the device is back; False if it will not be."""
        if self.state is State.GONE:
            return False
        self._waiting.append(action)
        if self.state is State.IDLE and self.wanted is not None:
            self.wanted(self)
        return True

    def _release_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for action in waiting:
            action()
