"""The relay: packets from one TUN device to the other, by plan, past a tap.

A process of its own (`python -m tests.system.laboratory.relay CLIENT SERVER DIRECTORY`) that reads
the pickled plan from standard input and ends when that is closed. All times are taken when things
happen, never when they were due, from one clock: the wall clock at the start plus monotonic time.
"""

import gc
import heapq
import ipaddress
import os
import pickle
import random
import select
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path
from typing import BinaryIO

from tests.system.laboratory.network import DEVICE, enter
from tests.system.laboratory.packets import (
    ICMP,
    ICMPV6,
    NAMES,
    RST,
    SYN,
    TCP,
    Packet,
    icmp_error,
    parse,
    quoted,
    tcp_reset,
)
from tests.system.laboratory.plan import IcmpError, Link, Outage, Plan, Reset, Rule, Trigger
from tests.system.laboratory.truth import write_log

UP, DOWN = 0, 1
DIRECTIONS = ("up", "down")
BATCH = 32
"""Packets read from a device before those that are due go on."""
NS_PER_MS = 1_000_000
LONGEST_SLEEP_S = 0.25

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_PCAP_NS_MAGIC, _LINKTYPE_RAW = 0xA1B23C4D, 101
_CLOCK_OFFSET = time.time_ns() - time.monotonic_ns()


def now_ns() -> int:
    """Return the time since 1970, as even as monotonic time."""
    return time.monotonic_ns() + _CLOCK_OFFSET


class Transit:
    """A packet on its way, and then its line of the log."""

    __slots__ = (
        "arrived_ns",
        "copied_on",
        "delivered_ns",
        "direction",
        "fate",
        "flow",
        "mirrored",
        "number",
        "origin",
        "packet",
        "side",
        "tap_ns",
    )

    def __init__(self, packet: Packet, flow: "Flow", direction: int, number: int) -> None:
        self.packet = packet
        self.flow = flow
        self.direction = direction
        self.number = number
        self.arrived_ns = now_ns()
        self.tap_ns: int | None = None
        self.delivered_ns: int | None = None
        self.mirrored = False
        self.fate = "in_flight"
        self.side: str | None = None
        self.copied_on: str | None = None
        self.origin = "end"

    def end(self, fate: str, side: str | None = None) -> None:
        """Write down what became of the packet, and on which side."""
        self.fate, self.side = fate, side

    def duplicate(self, side: str) -> "Transit":
        """Return the copy that a link on `side` makes of the packet."""
        twin = Transit(self.packet, self.flow, self.direction, self.number)
        twin.arrived_ns, twin.tap_ns, twin.mirrored = self.arrived_ns, self.tap_ns, self.mirrored
        twin.copied_on = side
        return twin

    def line(self) -> tuple[object, ...]:
        """Return the values of `truth.Line`, in its order."""
        packet = self.packet
        return (
            *self.flow.key,
            DIRECTIONS[self.direction],
            self.number,
            self.arrived_ns,
            self.tap_ns,
            self.delivered_ns,
            self.mirrored,
            self.fate,
            self.side,
            self.origin,
            self.copied_on,
            packet.sequence,
            packet.acknowledgment,
            packet.flags,
            packet.payload_bytes,
            len(packet.data),
        )


@dataclass(slots=True)
class Bottleneck:
    """The bandwidth that the flows of a rule share, one link's."""

    free_at_ns: int = 0

    def wait_ns(self, link: Link, at_ns: int, length: int) -> int | None:
        """Return when the packet's last bit is through, as a wait, or None: the queue is full."""
        queued = max(0, self.free_at_ns - at_ns)
        if queued > link.queue_ms * NS_PER_MS:
            return None
        self.free_at_ns = at_ns + queued + round(length * 8_000 / link.rate_mbit)
        return self.free_at_ns - at_ns


class Pipe:
    """One link as one flow's packets meet it."""

    def __init__(self, link: Link, side: str, seed: str, bottleneck: Bottleneck) -> None:
        self.link = link
        self.side = side
        self._dice = random.Random(seed)
        self._bottleneck = bottleneck
        self._packets = self._data = self._bytes = 0
        self._last_due_ns = 0
        self._out_since_ns: int | None = None

    def send(self, transit: Transit, at_ns: int) -> list[int]:
        """Return when the packet, and its duplicate if any, comes out; nothing if it is lost.

        The dice are thrown as often for each packet, so one packet's luck leaves the next's alone.
        """
        lost, jitter, late, twice = (self._dice.random() for _ in range(4))
        link, packet = self.link, transit.packet
        if link.outage is not None and self._is_out(link.outage, at_ns):
            self._count(packet)
            return self._lose(transit, "blackholed")
        self._count(packet)
        if self._is_lost(packet, lost):
            return self._lose(transit, "lost")
        due = at_ns + int((link.delay_ms + jitter * link.jitter_ms) * NS_PER_MS)
        if link.rate_mbit is not None:
            wait_ns = self._bottleneck.wait_ns(link, at_ns, len(packet.data))
            if wait_ns is None:
                return self._lose(transit, "queue_full")
            due += wait_ns
        if late < link.reorder:
            due += int(link.reorder_ms * NS_PER_MS)
        else:
            self._last_due_ns = due = max(due, self._last_due_ns)
        return [due, due] if twice < link.duplicate else [due]

    def _count(self, packet: Packet) -> None:
        self._packets += 1
        self._data += packet.payload_bytes > 0
        self._bytes += packet.payload_bytes

    def _is_lost(self, packet: Packet, dice: float) -> bool:
        link = self.link
        return (
            dice < link.loss
            or self._packets in link.lose
            or (packet.payload_bytes > 0 and self._data in link.lose_data)
        )

    def _is_out(self, outage: Outage, at_ns: int) -> bool:
        if self._packets < outage.after_packets or self._bytes < outage.after_bytes:
            return False
        if self._out_since_ns is None:
            self._out_since_ns = at_ns
        return outage.seconds is None or at_ns - self._out_since_ns < outage.seconds * 1e9

    def _lose(self, transit: Transit, fate: str) -> list[int]:
        transit.end(fate, self.side)
        return []


class Watch:
    """Waits for the packet that sets one middlebox off."""

    def __init__(self, middlebox: Reset | IcmpError) -> None:
        self.middlebox = middlebox
        self._matches = [0, 0]
        self._done = False

    def sees(self, transit: Transit) -> bool:
        """Tell whether this packet, which passes the tap, sets the middlebox off."""
        trigger = self.middlebox.on
        if DIRECTIONS[transit.direction] != trigger.direction or self._done:
            return False
        hit = self._matches_trigger(trigger, transit.packet)
        self._done = hit and not trigger.every
        return hit

    def _matches_trigger(self, trigger: Trigger, packet: Packet) -> bool:
        if trigger.contains is not None:
            return trigger.contains in packet.data[packet.payload_at :]
        wants_data = trigger.data is not None
        self._matches[0] += 1
        self._matches[1] += packet.payload_bytes > 0
        if wants_data and packet.payload_bytes == 0:
            return False
        count = self._matches[wants_data]
        wanted = trigger.data if wants_data else trigger.packet
        return count >= wanted if trigger.every else count == wanted


class Flow:
    """A five-tuple: the rule that holds for it, its four links, its middleboxes."""

    def __init__(
        self, key: tuple[str, str, int, str, int], rule: Rule, pipes: dict[tuple[str, int], Pipe]
    ) -> None:
        self.key = key
        self.rule = rule
        self.pipes = pipes
        self.watches = [Watch(middlebox) for middlebox in rule.middleboxes]
        self.numbers = [0, 0]
        self.mirrored = [rule.mirror in {"both", name} for name in DIRECTIONS]


Key = tuple[int, bytes, int, bytes, int]
"""Protocol, client and its port, server and its port."""


class Rulebook:
    """Finds or makes the flow of a packet."""

    def __init__(self, plan: Plan) -> None:
        self._seed = plan.seed
        self._rules = [
            (rule, _network(rule.clients), _network(rule.servers)) for rule in plan.rules
        ]
        self._rules.append((Rule(), None, None))
        self._flows: dict[Key, Flow] = {}
        self._ordinals: dict[tuple[str, str, int, str], int] = {}
        self._bottlenecks: dict[tuple[int, str, int], Bottleneck] = {}

    def flow(self, packet: Packet, direction: int) -> Flow:
        """Return the flow that the packet is of, which starts with it if it is the first.

        ICMP errors are under the rule of the flow that they are about.
        """
        key = _key(packet, direction)
        flow = self._flows.get(key)
        if flow is None:
            subject = quoted(packet)
            rule_key = key if subject is None else _key(subject, 1 - direction)
            flow = self._flows[key] = self._new_flow(key, *self._rule(rule_key))
        return flow

    def _rule(self, key: Key) -> tuple[int, Rule]:
        protocol = NAMES.get(key[0], str(key[0]))
        client, server = ipaddress.ip_address(key[1]), ipaddress.ip_address(key[3])
        return next(
            (number, rule)
            for number, (rule, clients, servers) in enumerate(self._rules)
            if (clients is None or client in clients)
            and (servers is None or server in servers)
            and rule.port in {None, key[4]}
            and rule.protocol in {None, protocol}
        )

    def _new_flow(self, key: Key, number: int, rule: Rule) -> Flow:
        protocol = NAMES.get(key[0], str(key[0]))
        client, server = ipaddress.ip_address(key[1]), ipaddress.ip_address(key[3])
        service = (str(client), str(server), key[4], protocol)
        ordinal = self._ordinals[service] = self._ordinals.get(service, 0) + 1
        pipes = {}
        for side in ("client", "server"):
            for direction, name in enumerate(DIRECTIONS):
                place = (side, direction)
                bottleneck = self._bottlenecks.setdefault((number, *place), Bottleneck())
                seed = f"{self._seed} {service} {ordinal} {side} {name}"
                pipes[place] = Pipe(getattr(rule, f"{side}_{name}"), side, seed, bottleneck)
        return Flow((protocol, str(client), key[2], str(server), key[4]), rule, pipes)


def _key(packet: Packet, direction: int) -> Key:
    near = (packet.source, packet.source_port)
    far = (packet.destination, packet.destination_port)
    return (packet.protocol, *near, *far) if direction == UP else (packet.protocol, *far, *near)


def _network(prefix: str | None) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    return None if prefix is None else ipaddress.ip_network(prefix, strict=False)


class Relay:
    """Moves packets between two TUN devices, in order of when they are due."""

    def __init__(self, plan: Plan, devices: tuple[int, int], capture: BinaryIO) -> None:
        self._plan = plan
        self._rulebook = Rulebook(plan)
        self._devices = devices
        self._capture = capture
        self._due: list[tuple[int, int, Callable[[Transit], None], Transit]] = []
        self._scheduled = 0
        self.log: list[Transit] = []
        self.refused = 0
        capture.write(struct.pack("<IHHiIII", _PCAP_NS_MAGIC, 2, 4, 0, 0, 65535, _LINKTYPE_RAW))

    def run(self, stopped: threading.Event) -> None:
        """Relay until `stopped` is set or the plan's time is over."""
        end = time.monotonic() + self._plan.max_seconds
        while not stopped.is_set() and time.monotonic() < end:
            readable, _, _ = select.select(self._devices, [], [], self._sleep_s())
            for direction, device in enumerate(self._devices):
                if device in readable:
                    self._read(device, direction)
            self._move_on()

    def _sleep_s(self) -> float:
        if not self._due:
            return LONGEST_SLEEP_S
        return min(LONGEST_SLEEP_S, max(0.0, (self._due[0][0] - now_ns()) / 1e9))

    def _read(self, device: int, direction: int) -> None:
        for _ in range(BATCH):
            try:
                data = os.read(device, 65535)
            except BlockingIOError:
                return
            packet = parse(data)
            if packet is not None:
                self._arrive(packet, direction)

    def _move_on(self) -> None:
        due = self._due
        for _ in range(BATCH):
            if not due or due[0][0] > now_ns():
                return
            _, _, move, transit = heapq.heappop(due)
            move(transit)

    def _later(self, at_ns: int, move: Callable[[Transit], None], transit: Transit) -> None:
        self._scheduled += 1  # what is due at once goes in the order in which it came
        heapq.heappush(self._due, (at_ns, self._scheduled, move, transit))

    def _register(self, packet: Packet, flow: Flow, direction: int) -> Transit | None:
        if len(self.log) >= self._plan.max_packets:
            self.refused += 1
            return None
        flow.numbers[direction] += 1
        transit = Transit(packet, flow, direction, flow.numbers[direction])
        self.log.append(transit)
        return transit

    def _arrive(self, packet: Packet, direction: int) -> None:
        flow = self._rulebook.flow(packet, direction)
        transit = self._register(packet, flow, direction)
        if transit is not None:
            near = "client" if direction == UP else "server"
            self._send(transit, near, transit.arrived_ns, self._pass_tap)

    def _send(
        self, transit: Transit, side: str, at_ns: int, then: Callable[[Transit], None]
    ) -> None:
        for index, due in enumerate(
            transit.flow.pipes[side, transit.direction].send(transit, at_ns)
        ):
            if index:
                transit = transit.duplicate(side)
                self.log.append(transit)
            self._later(due, then, transit)

    def _pass_tap(self, transit: Transit) -> None:
        self._mirror(transit)
        dropped = [
            watch.middlebox.drop and watch.middlebox
            for watch in transit.flow.watches
            if watch.sees(transit) and self._act(watch.middlebox, transit)
        ]
        culprit = next(filter(None, dropped), None)
        if culprit is not None:
            transit.end("stopped", culprit.place)
            return
        far = "server" if transit.direction == UP else "client"
        self._send(transit, far, transit.tap_ns, self._deliver)

    def _mirror(self, transit: Transit) -> None:
        transit.tap_ns = now_ns()
        if transit.flow.mirrored[transit.direction]:
            data = transit.packet.data
            seconds, rest = divmod(transit.tap_ns, 1_000_000_000)
            self._capture.write(struct.pack("<IIII", seconds, rest, len(data), len(data)) + data)
            transit.mirrored = True

    def _deliver(self, transit: Transit) -> None:
        device = self._devices[DOWN if transit.direction == UP else UP]
        try:
            os.write(device, transit.packet.data)
        except OSError:  # the end is gone, or takes no such packet
            transit.end("refused", "server" if transit.direction == UP else "client")
            return
        transit.delivered_ns = now_ns()
        transit.end("delivered")

    # --- middleboxes

    def _act(self, middlebox: Reset | IcmpError, transit: Transit) -> bool:
        if isinstance(middlebox, Reset):
            return self._reset(middlebox, transit)
        packet = transit.packet
        if packet.protocol in {ICMP, ICMPV6}:
            return False
        source = packet.destination
        if middlebox.source is not None:
            source = ipaddress.ip_address(middlebox.source).packed
        kind = (middlebox.type, middlebox.code)
        data = icmp_error(packet, source, kind, middlebox.ttl, middlebox.mtu)
        self._inject(data, transit, 1 - transit.direction, middlebox)
        return True

    def _reset(self, middlebox: Reset, transit: Transit) -> bool:
        packet = transit.packet
        if packet.protocol != TCP or packet.flags & RST:
            return False
        for direction in (UP, DOWN):
            if middlebox.toward in {"both", "server" if direction == UP else "client"}:
                onward = direction == transit.direction
                data = (
                    _reset_onward(middlebox, packet) if onward else _reset_back(middlebox, packet)
                )
                for _ in range(middlebox.count):
                    self._inject(data, transit, direction, middlebox)
        return True

    def _inject(
        self, data: bytes, cause: Transit, direction: int, middlebox: Reset | IcmpError
    ) -> None:
        """Send what a middlebox made: across the tap where the tap lies on the way."""
        packet = parse(data)
        flow = self._rulebook.flow(packet, direction)
        transit = self._register(packet, flow, direction)
        if transit is None:
            return
        transit.origin = "middlebox"
        distance_ns = int(middlebox.distance_ms * NS_PER_MS)
        toward = "server" if direction == UP else "client"
        link = cause.flow.pipes[toward, direction].link
        if middlebox.place == toward and distance_ns:  # sent on this side of the tap, and stays
            left_ns = int(link.delay_ms * NS_PER_MS)
            self._later(transit.arrived_ns + left_ns, self._deliver, transit)
            return
        # It met its cause behind the tap if that went its way, and before the tap if it came back.
        behind = DIRECTIONS[cause.direction] == ("up" if middlebox.place == "server" else "down")
        crossing = transit.arrived_ns + (2 * distance_ns if behind else 0)
        self._later(crossing, self._pass_tap_freely, transit)

    def _pass_tap_freely(self, transit: Transit) -> None:
        """Mirror what a middlebox sent; links delay it but do not lose it."""
        self._mirror(transit)
        far = "server" if transit.direction == UP else "client"
        pipes = transit.flow.pipes
        delay_ns = int(pipes[far, transit.direction].link.delay_ms * NS_PER_MS)
        self._later(transit.tap_ns + delay_ns, self._deliver, transit)


def _after(packet: Packet) -> int:
    """Return the sequence number behind the packet; a SYN takes one."""
    return packet.sequence + packet.payload_bytes + bool(packet.flags & SYN)


def _reset_onward(middlebox: Reset, packet: Packet) -> bytes:
    ends = (packet.source, packet.source_port, packet.destination, packet.destination_port)
    sequence = packet.sequence if middlebox.drop else _after(packet)
    acknowledgment = packet.acknowledgment if middlebox.acknowledges else None
    return tcp_reset(ends, sequence + middlebox.sequence_offset, acknowledgment, middlebox.ttl)


def _reset_back(middlebox: Reset, packet: Packet) -> bytes:
    ends = (packet.destination, packet.destination_port, packet.source, packet.source_port)
    acknowledges = middlebox.acknowledges or bool(packet.flags & SYN)
    acknowledgment = _after(packet) if acknowledges else None
    sequence = packet.acknowledgment + middlebox.sequence_offset
    return tcp_reset(ends, sequence, acknowledgment, middlebox.ttl)


def _open_device(namespace: str) -> int:
    enter(namespace)
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    return descriptor


def _stop_at_end_of_input(stopped: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stopped.set()


def main(client: str, server: str, directory: Path) -> None:
    """Relay between the two namespaces until standard input ends; leave capture and log."""
    source = sys.stdin.buffer
    plan = pickle.loads(source.read(int.from_bytes(source.read(4))))
    devices = (_open_device(client), _open_device(server))
    with suppress(OSError):  # where that is allowed, no other process makes packets wait
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    gc.disable()  # nothing here makes cycles, and a collection would delay packets
    stopped = threading.Event()
    threading.Thread(target=_stop_at_end_of_input, args=(stopped,), daemon=True).start()
    with (directory / "tap.pcap").open("wb") as capture:
        relay = Relay(plan, devices, capture)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        relay.run(stopped)
    write_log(directory / "relay.log", [transit.line() for transit in relay.log], relay.refused)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
