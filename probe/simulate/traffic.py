"""What subscribers do: errands, one after another, each a look-up and a session with a service."""

import ipaddress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from random import Random
from typing import Final

from probe.simulate.control.connection import Connection
from probe.simulate.dialogue import Dialogue, Ending, Turn
from probe.simulate.dns import Lookup, Question, Rcode
from probe.simulate.events import Timeline
from probe.simulate.faults import ALERTS, DNS_FAULTS, Fault
from probe.simulate.flow import TCP, UDP, Flow, packed
from probe.simulate.links import Link, LinkQuality
from probe.simulate.network import BAD_SUBSCRIBER_BLOCKED, Cell, Network, Subscriber
from probe.simulate.path import Links, Path
from probe.simulate.quic import QuicTransfer
from probe.simulate.services import FAULT_DECK, SERVICES, Resolver, Service
from probe.simulate.tap import Tap
from probe.simulate.tcp import ServerAttitude, connect_ends
from probe.simulate.tls import TlsSession, fatal_alert, offered_protocols
from probe.simulate.truth import SessionTruth

SECOND: Final = 1_000_000
MEAN_PAUSE_US: Final = 5 * SECOND  # between the starts of two errands of a subscriber
_NAME_LIFETIME_US: Final = 30 * SECOND  # how long a device remembers an address
_OLD_DEVICE_REFUSED: Final = 0.8  # share of its sessions
_EPHEMERAL_PORTS: Final = range(32_768, 61_000)
_NOISE_BYTES: Final = 1 << 18
_CORE_LOSS: Final = 0.0005
_BAD_SERVER_RTT_MS, _BAD_SERVER_LOSS = 320, 0.04  # between tap and server
_CORE_RATE_BPS: Final = 1_000_000_000
_HTTPS, _DNS = 443, 53
_RESET_RESPONSE_BYTES: Final = 90_000  # long enough that a reset comes in its middle
_RESOLVER: Final = Resolver()


class FaultDeck:
    """Deals faults like cards: each comes up regularly, in an order that is random."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._cards: list[Fault] = []

    def draw(self) -> Fault:
        if not self._cards:
            self._cards = list(FAULT_DECK)
            self._random.shuffle(self._cards)
        return self._cards.pop()


@dataclass(eq=False)
class Device:
    """A subscriber's device and its radio link, shared by all its sessions."""

    subscriber: Subscriber
    random: Random
    access_up: Link
    access_down: Link
    ipv6_address: str | None
    next_port: int
    known_until_us: dict[str, int] = field(default_factory=dict)  # by server name
    online: bool = True
    old: bool = False  # most servers want a newer TLS than it has
    connection: Connection | None = None
    cells: tuple[Cell, ...] = ()  # where it may go

    def port(self) -> int:
        """Return an ephemeral port that was not used for as long as possible."""
        self.next_port += 1
        return _EPHEMERAL_PORTS[self.next_port % len(_EPHEMERAL_PORTS)]

    def reserve(self, connection: Connection) -> None:
        """Belong to a session that has not begun yet."""
        self.connection = connection

    def connect(self, connection: Connection) -> None:
        """Have a session: its addresses are the device's."""
        self.subscriber = replace(
            self.subscriber, ipv4=connection.ipv4, ipv6_prefix=connection.ipv6_prefix
        )
        prefix = connection.ipv6_prefix
        self.ipv6_address = _interface_address(prefix, self.random) if prefix else None
        self.connection, self.online = connection, True
        self.move_to(connection.cell)

    def move_to(self, cell: Cell) -> None:
        """Have the radio conditions of `cell` from now on."""
        self.subscriber = replace(self.subscriber, cell=cell)
        up, down = _qualities(self.subscriber)
        self.access_up.change(up)
        self.access_down.change(down)

    def disconnect(self) -> None:
        """Have no session, and start no errands."""
        self.connection, self.online = None, False
        self.known_until_us.clear()


class Traffic:
    """Starts the errands of every subscriber of a network on a timeline."""

    def __init__(
        self,
        timeline: Timeline,
        tap: Tap,
        network: Network,
        seed: int,
        mean_pause_us: int = MEAN_PAUSE_US,
        *,
        bad_server: str | None = None,
    ) -> None:
        self._timeline = timeline
        self._tap = tap
        self._seed = seed
        self._noise = Random(f"{seed}:noise").randbytes(_NOISE_BYTES)
        self._deck = FaultDeck(Random(f"{seed}:faults"))
        self._bad_server = bad_server
        self._mean_pause_us = mean_pause_us
        self.devices = [self._device(subscriber) for subscriber in network.subscribers]

    def schedule(self, until_us: int) -> None:
        """Let every subscriber run errands that start before `until_us`."""
        for device in self.devices:
            first = int(device.random.random() * self._mean_pause_us)
            self._timeline.at(first, self._run_errand, device, until_us)

    def _device(self, subscriber: Subscriber) -> Device:
        random = Random(f"{self._seed}:subscriber:{subscriber.number}")
        up, down = _qualities(subscriber)
        prefix = subscriber.ipv6_prefix
        return Device(
            subscriber=subscriber,
            random=random,
            access_up=Link(random, up),
            access_down=Link(random, down),
            ipv6_address=_interface_address(prefix, random) if prefix else None,
            next_port=random.randrange(len(_EPHEMERAL_PORTS)),
        )

    # --------------------------------------------------------------------------------- errands

    def _run_errand(self, device: Device, until_us: int) -> None:
        pause = int(device.random.expovariate(1 / self._mean_pause_us)) + 1
        if self._timeline.now + pause < until_us:
            self._timeline.after(pause, self._run_errand, device, until_us)
        if not device.online:
            return
        service = _choose_service(device.random)
        fault = self._choose_fault(device)
        if fault in DNS_FAULTS or self._timeline.now >= device.known_until_us.get(
            service.server_name, 0
        ):
            self._look_up(device, service, fault)
        else:
            self._visit(device, service, fault)

    def _choose_fault(self, device: Device) -> Fault:
        if device.subscriber.bad and device.random.random() < BAD_SUBSCRIBER_BLOCKED:
            return Fault.CONNECT_TIMEOUT
        if device.old and device.random.random() < _OLD_DEVICE_REFUSED:
            return Fault.TLS_VERSION
        return self._deck.draw()

    def _look_up(self, device: Device, service: Service, fault: Fault) -> None:
        question = _question(device, service, fault)
        ends = (device.subscriber.ipv4, _RESOLVER.ipv4)
        truth = _truth(device, service, "udp", ends, _DNS)
        truth.app_protocol, truth.dns_query = "dns", question.name
        truth.service, truth.service_class = "resolver", "dns"
        truth.planned_cause = fault.cause if fault in DNS_FAULTS else None
        path = self._path(device, _RESOLVER.rtt_ms)
        answered = partial(self._name_known, device, service, fault)
        flow = _flow(device, UDP, truth)
        Lookup(
            self._timeline, path, flow, question, random=device.random, answered=answered
        ).start()

    def _name_known(self, device: Device, service: Service, fault: Fault) -> None:
        if fault not in DNS_FAULTS:
            device.known_until_us[service.server_name] = self._timeline.now + _NAME_LIFETIME_US
            self._visit(device, service, fault)

    def _visit(self, device: Device, service: Service, fault: Fault) -> None:
        if not device.online:
            return
        if service.quic and fault is Fault.NONE:
            self._visit_quic(device, service)
        else:
            self._visit_tls(device, service, fault)

    def _visit_quic(self, device: Device, service: Service) -> None:
        truth = _truth(device, service, "udp", _addresses(device, service), _HTTPS)
        truth.app_protocol = "quic"
        size = device.random.randint(*service.exchange.response)
        flow, path = _flow(device, UDP, truth), self._path_to(device, service)
        QuicTransfer(
            self._timeline,
            path,
            flow,
            response_bytes=size,
            random=device.random,
            noise=self._noise,
        ).start()

    def _visit_tls(self, device: Device, service: Service, fault: Fault) -> None:
        version = "1.2" if fault is Fault.TLS_VERSION else service.tls_version
        alpn = "h2" if service.quic else service.alpn
        truth = _truth(device, service, "tcp", _addresses(device, service), _HTTPS)
        truth.app_protocol, truth.server_name = "tls", service.server_name
        truth.alpn = ",".join(offered_protocols(alpn))
        truth.tls_version = None if fault in ALERTS else version
        truth.planned_cause = fault.cause
        flow, path = _flow(device, TCP, truth), self._path_to(device, service)
        attitude = _ATTITUDES.get(fault, ServerAttitude.ACCEPT)
        client, server = connect_ends(self._timeline, path, flow, attitude, device.random)
        session = TlsSession(device.random, service.server_name, alpn, version, self._noise)
        turns = _turns(device.random, service, session, fault)
        Dialogue(self._timeline, client, server, turns, _ending(service, fault))
        client.connect()

    def _path_to(self, device: Device, service: Service) -> Path:
        if service.server_name == self._bad_server:
            return self._path(device, _BAD_SERVER_RTT_MS, _BAD_SERVER_LOSS)
        return self._path(device, service.rtt_ms)

    def _path(self, device: Device, rtt_ms: int, loss: float = _CORE_LOSS) -> Path:
        quality = LinkQuality(rtt_ms * 500, loss, _CORE_RATE_BPS, jitter_us=max(rtt_ms * 25, 50))
        core_up, core_down = Link(device.random, quality), Link(device.random, quality)
        links = Links(device.access_up, device.access_down, core_up, core_down)
        return Path(self._timeline, self._tap, links)


_ATTITUDES: Final = {
    Fault.CONNECT_REFUSED: ServerAttitude.REFUSE,
    Fault.CONNECT_TIMEOUT: ServerAttitude.IGNORE,
}
_RCODES: Final = {
    Fault.DNS_NXDOMAIN: Rcode.NXDOMAIN,
    Fault.DNS_SERVFAIL: Rcode.SERVFAIL,
    Fault.DNS_TIMEOUT: None,
}
_WEIGHTS: Final = list(accumulate(service.weight for service in SERVICES))


def _qualities(subscriber: Subscriber) -> tuple[LinkQuality, LinkQuality]:
    """Return those of the access links, up and down."""
    cell = subscriber.cell
    up, down = (
        LinkQuality(cell.rtt_us // 2, loss, rate, jitter_us=cell.rtt_us // 20, queue=queue)
        for loss, rate, queue in (
            (subscriber.loss / 4, cell.rate_bps // 4, None),
            (subscriber.loss, cell.rate_bps, cell.queue_down),
        )
    )
    return up, down


def _choose_service(random: Random) -> Service:
    return random.choices(SERVICES, cum_weights=_WEIGHTS)[0]


def _ending(service: Service, fault: Fault) -> Ending:
    if fault is Fault.RESET_BY_SERVER:
        return Ending.SERVER_RESETS
    by_server = service.server_closes or fault in ALERTS
    return Ending.SERVER_CLOSES if by_server else Ending.CLIENT_CLOSES


def _turns(random: Random, service: Service, session: TlsSession, fault: Fault) -> list[Turn]:
    """Return the whole conversation of a TLS session, as it would be without loss."""
    opening = Turn(True, session.client_hello(), 300)
    if fault in ALERTS:
        return [opening, Turn(False, fatal_alert(ALERTS[fault]), 800)]
    handshake = [opening, Turn(False, session.server_flight(), random.randint(500, 3_000))]
    if fault is Fault.RESET_BY_SERVER:
        request = session.client_finished() + session.application_data(400)
        response = session.application_data(_RESET_RESPONSE_BYTES)
        return [*handshake, Turn(True, request, 500), Turn(False, response, 9_000)]
    return [*handshake, *_exchanges(random, service, session)]


def _exchanges(random: Random, service: Service, session: TlsSession) -> list[Turn]:
    exchange, turns = service.exchange, []
    prefix, pause_us = session.client_finished(), 500
    for _ in range(random.randint(*exchange.count)):
        request = prefix + session.application_data(random.randint(*exchange.request))
        response = session.application_data(random.randint(*exchange.response))
        turns.append(Turn(True, request, pause_us))
        turns.append(Turn(False, response, random.randint(2_000, 20_000)))
        prefix, pause_us = b"", 1_000 * random.randint(*exchange.pause_ms)
    turns.append(Turn(not service.server_closes, session.close_notify(), 1_000))
    return turns


def _question(device: Device, service: Service, fault: Fault) -> Question:
    rcode = _RCODES.get(fault, Rcode.NOERROR)
    name = service.server_name
    if rcode is Rcode.NXDOMAIN:
        name = "retired." + name.partition(".")[2]
    if device.ipv6_address and service.ipv6:
        return Question(name, "AAAA", service.ipv6, rcode)
    return Question(name, "A", service.ipv4, rcode)


def _addresses(device: Device, service: Service) -> tuple[str, str]:
    """Return (client, server) addresses, IPv6 where both ends have one."""
    if device.ipv6_address and service.ipv6:
        return device.ipv6_address, service.ipv6
    return device.subscriber.ipv4, service.ipv4


def _truth(
    device: Device, service: Service, transport: str, ends: tuple[str, str], port: int
) -> SessionTruth:
    return SessionTruth(
        subscriber=device.subscriber.identity,
        cell_id=device.subscriber.cell.cell_id,
        service=service.name,
        service_class=service.service_class,
        transport=transport,
        app_protocol=None,
        client_ip=ends[0],
        client_port=device.port(),
        server_ip=ends[1],
        server_port=port,
    )


def _flow(device: Device, protocol: int, truth: SessionTruth) -> Flow:
    return Flow(
        device.subscriber,
        protocol,
        packed(truth.client_ip),
        truth.client_port,
        packed(truth.server_ip),
        truth.server_port,
        truth,
        device.connection,
    )


def _interface_address(prefix: str, random: Random) -> str:
    """Return an address with a random interface identifier (RFC 8981)."""
    network = int.from_bytes(packed(prefix.partition("/")[0]), "big")
    return str(ipaddress.IPv6Address(network | random.getrandbits(64)))
