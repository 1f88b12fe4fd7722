"""The simulated TCP delivers every byte once and in order, whatever the links lose."""

from functools import partial
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from probe.simulate.events import Timeline
from probe.simulate.flow import TCP, Flow, packed
from probe.simulate.headers import Packet, Segment
from probe.simulate.links import Link, LinkQuality
from probe.simulate.network import build_network
from probe.simulate.path import Path, Receive
from probe.simulate.tcp import Endpoint, ServerAttitude, connect_ends
from probe.simulate.truth import FIN, RST, SYN, SessionTruth

MINUTE_US = 60_000_000


class LossyPath(Path):
    """A path of one link each way that keeps what was sent, and loses anything but SYNs."""

    def __init__(self, timeline: Timeline, random: Random, loss: float) -> None:
        self.sent: list[Segment] = []
        self._timeline = timeline
        quality = LinkQuality(20_000, loss, 50_000_000, jitter_us=2_000)
        self._ways = {True: Link(random, quality), False: Link(random, quality)}

    def send(self, packet: Packet, receive: Receive) -> None:
        assert isinstance(packet, Segment)
        self.sent.append(packet)
        arrival = self._ways[packet.up].carry(self._timeline.now, 1_000)
        if arrival is None and packet.flags & SYN:
            arrival = self._timeline.now + 20_000
        if arrival is not None:
            self._timeline.at(arrival, receive, packet)


def flow() -> Flow:
    subscriber = build_network(1, 1, 1, 0, 0).subscribers[0]
    truth = SessionTruth(
        subscriber.identity, "", "", "", "tcp", None, "100.64.0.1", 40_000, "198.18.0.1", 443
    )
    ends = packed(truth.client_ip), packed(truth.server_ip)
    return Flow(subscriber, TCP, ends[0], 40_000, ends[1], 443, truth)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 32), loss=st.floats(0.0, 0.1), size=st.integers(1, 200_000))
def test_every_byte_arrives_in_order_under_loss(seed: int, loss: float, size: int) -> None:
    timeline, random = Timeline(), Random(seed)
    path = LossyPath(timeline, random, loss)
    client, server = connect_ends(timeline, path, flow(), ServerAttitude.ACCEPT, random)
    progress: list[int] = []
    client.established = partial(send_all, client, bytes(size))
    server.delivered = progress.append
    client.connect()
    timeline.run(20 * MINUTE_US)
    assert progress == sorted(set(progress))
    assert progress[-1] == size + 1  # the FIN takes one number


def send_all(end: Endpoint, data: bytes) -> None:
    end.write(data)
    end.close()


def test_a_closed_port_answers_with_a_reset_that_acknowledges_the_syn() -> None:
    timeline, random = Timeline(), Random(1)
    path = LossyPath(timeline, random, 0.0)
    client, _ = connect_ends(timeline, path, flow(), ServerAttitude.REFUSE, random)
    client.connect()
    timeline.run(MINUTE_US)
    syn, reset = path.sent
    assert syn.flags == SYN and reset.flags & RST
    assert reset.acknowledgment == (syn.sequence + 1) & 0xFFFF_FFFF


def test_a_silent_server_gets_four_syns_with_growing_pauses() -> None:
    timeline, random = Timeline(), Random(1)
    path = LossyPath(timeline, random, 0.0)
    client, _ = connect_ends(timeline, path, flow(), ServerAttitude.IGNORE, random)
    client.connect()
    timeline.run(MINUTE_US)
    assert [segment.flags for segment in path.sent] == [SYN] * 4


def test_both_ends_finish_and_acknowledge() -> None:
    timeline, random = Timeline(), Random(1)
    path = LossyPath(timeline, random, 0.0)
    client, server = connect_ends(timeline, path, flow(), ServerAttitude.ACCEPT, random)
    server.peer_finished = server.close
    client.established = client.close
    client.connect()
    timeline.run(MINUTE_US)
    assert sorted(segment.up for segment in path.sent if segment.flags & FIN) == [False, True]
