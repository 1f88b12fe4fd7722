"""The way of a session's packets: device, access link, tap, core link, server, and back."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from probe.simulate.control.connection import Connection
from probe.simulate.events import Timeline
from probe.simulate.headers import Packet, ip_length
from probe.simulate.links import Link
from probe.simulate.tap import Tap

Receive = Callable[[Packet], None]


@dataclass(frozen=True)
class Links:
    """The four one-way links of a session."""

    access_up: Link  # device to tap
    access_down: Link
    core_up: Link  # tap to server
    core_down: Link


class Path:
    """Carries packets between the two ends of a session, past the tap."""

    def __init__(self, timeline: Timeline, tap: Tap, links: Links) -> None:
        self._timeline = timeline
        self._tap = tap
        self._links = links

    def send(self, packet: Packet, receive: Receive) -> None:
        """Send `packet` now; `receive` is called with it when it arrives, if it does."""
        links = self._links
        first = links.access_up if packet.up else links.core_down
        length = ip_length(packet)
        at_tap = first.carry(self._timeline.now, length)
        if at_tap is not None:
            self._timeline.at(at_tap, self._pass_tap, packet, length, receive)
        elif packet.payload:
            packet.flow.truth.direction(packet.up).lost_before_tap += 1

    def _pass_tap(self, packet: Packet, length: int, receive: Receive) -> None:
        connection = packet.flow.connection
        if connection is not None and not connection.is_open:
            self._wait_or_drop(connection, packet, length, receive)
            return
        now = self._timeline.now
        self._tap.see(now, packet, length)
        second = self._links.core_up if packet.up else self._links.access_down
        arrival = second.carry(now, length)
        if arrival is not None:
            self._timeline.at(arrival, receive, packet)
        elif packet.payload:
            packet.flow.truth.direction(packet.up).lost_after_tap += 1

    def _wait_or_drop(
        self, connection: Connection, packet: Packet, length: int, receive: Receive
    ) -> None:
        """Keep a packet of an idle device until it is back; a session that ended has no way."""
        waits = connection.wait(partial(self._pass_tap, packet, length, receive))
        if not waits and packet.payload:
            packet.flow.truth.direction(packet.up).lost_before_tap += 1
