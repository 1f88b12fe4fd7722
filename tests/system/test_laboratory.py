"""The laboratory does to packets what its plan says, and its log says what it did."""

import errno
import socket
import struct
import subprocess
import threading
from dataclasses import astuple
from pathlib import Path

import pytest

from tests.system.laboratory import (
    FlowKey,
    IcmpError,
    Laboratory,
    Line,
    Link,
    Log,
    Outage,
    Plan,
    Reset,
    Rule,
    Trigger,
    client_address,
    needs_laboratory,
    path,
    server_address,
)

PORT = 7007
MS = 1_000_000


def echo(lab: Laboratory, number: int, count: int = 1, version: int = 4) -> int:
    """Send datagrams, one at a time, to an echoing server; return how many came back."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    near, far = client_address(number, version), server_address(number, version)
    with lab.server.entered():
        server = socket.socket(family, socket.SOCK_DGRAM)
        server.bind((far, PORT))
    with lab.client.entered():
        client = socket.socket(family, socket.SOCK_DGRAM)
        client.bind((near, 0))
    client.connect((far, PORT))
    answering = threading.Thread(target=_answer, args=(server, count), daemon=True)
    server.settimeout(0.3)
    client.settimeout(0.1)
    answering.start()
    answers = 0
    for _ in range(count):
        client.send(b"x" * 100)
        try:
            answers += len(client.recv(200)) == 100
        except TimeoutError:
            continue
    answering.join()
    client.close()
    server.close()
    return answers


def _answer(server: socket.socket, count: int) -> None:
    for _ in range(count):
        try:
            server.sendto(*server.recvfrom(200))
        except TimeoutError:
            return


def connect(lab: Laboratory, number: int, version: int = 4) -> tuple[socket.socket, socket.socket]:
    """Return the client's and the server's socket of a TCP connection."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with lab.server.entered():
        listener = socket.create_server((server_address(number, version), PORT), family=family)
    with lab.client.entered():
        client = socket.socket(family)
        client.bind((client_address(number, version), 0))
    client.settimeout(3.0)
    with listener:
        client.connect((server_address(number, version), PORT))
        listener.settimeout(3.0)
        return client, listener.accept()[0]


def frames(capture: Path) -> list[tuple[int, bytes]]:
    """Return time in ns and bytes of each packet of a nanosecond pcap of raw IP."""
    data = capture.read_bytes()
    magic, _, _, _, _, _, link_type = struct.unpack_from("<IHHiIII", data)
    assert (magic, link_type) == (0xA1B23C4D, 101)
    at, found = 24, []
    while at < len(data):
        seconds, nanoseconds, length, _ = struct.unpack_from("<IIII", data, at)
        found.append((seconds * 1_000_000_000 + nanoseconds, data[at + 16 : at + 16 + length]))
        at += 16 + length
    return found


@needs_laboratory
@pytest.mark.parametrize("version", [4, 6])
def test_each_side_delays_as_planned_and_the_log_says_by_how_much(
    tmp_path: Path, version: int
) -> None:
    links = {"client_up": 5, "client_down": 10, "server_up": 15, "server_down": 20}
    rule = Rule(**{name: Link(delay_ms=delay) for name, delay in links.items()})
    with Laboratory(Plan((rule,)), tmp_path) as lab:
        assert echo(lab, 1, count=3, version=version) == 3
    there = [line for line in lab.log.lines if line.direction == "up"]
    back = [line for line in lab.log.lines if line.direction == "down"]
    for lines, before_ms, after_ms in ((there, 5, 15), (back, 20, 10)):
        assert len(lines) == 3
        for line in lines:
            assert before_ms <= (line.tap_ns - line.arrived_ns) / MS < before_ms + 4
            assert after_ms <= (line.delivered_ns - line.tap_ns) / MS < after_ms + 4


@needs_laboratory
def test_the_mirror_holds_what_passed_the_tap_at_the_time_it_did(tmp_path: Path) -> None:
    lossy = Link(delay_ms=2, jitter_ms=2, loss=0.2, duplicate=0.2, reorder=0.1)
    rules = (Rule(**path(client=lossy, server=lossy)),)
    with Laboratory(Plan(rules), tmp_path) as lab:
        echo(lab, 1, count=40)
    passed = [line for line in lab.log.lines if line.passed_tap]
    seen = frames(lab.capture)
    assert sorted(line.tap_ns for line in passed) == [time_ns for time_ns, _ in seen]
    assert {len(data) for _, data in seen} == {line.length for line in passed} == {128}
    assert any(line.dropped_before_tap for line in lab.log.lines)
    assert any(line.dropped_after_tap for line in lab.log.lines)
    assert any(line.copied_on for line in lab.log.lines)


@needs_laboratory
def test_the_same_plan_drops_the_same_packets(tmp_path: Path) -> None:
    fates = []
    for attempt in range(2):
        rules = (Rule(**path(client=Link(loss=0.3), server=Link(loss=0.3))),)
        with Laboratory(Plan(rules, seed=5), tmp_path / str(attempt)) as lab:
            echo(lab, 1, count=20)
        up = [line for line in lab.log.lines if line.direction == "up"]
        fates.append([(line.number, line.fate, line.side) for line in up])
    assert fates[0] == fates[1]
    assert {fate for _, fate, _ in fates[0]} == {"lost", "delivered"}


@needs_laboratory
def test_flows_are_treated_by_the_first_rule_that_matches(tmp_path: Path) -> None:
    rules = (
        Rule(clients=client_address(1), server_up=Link(lose=(1, 3))),
        Rule(servers=server_address(2), client_up=Link(outage=Outage(after_packets=2))),
        Rule(clients="10.1.0.0/16", port=PORT, protocol="udp", mirror="up"),
        Rule(client_up=Link(loss=1.0)),
    )
    with Laboratory(Plan(rules), tmp_path) as lab:
        assert [echo(lab, number, count=4) for number in (1, 2, 3)] == [2, 2, 4]
    assert {line.mirrored for line in lab.log.of(client_address(3)) if line.direction == "up"} == {
        True
    }
    downward = [line for line in lab.log.of(client_address(3)) if line.direction == "down"]
    assert len(downward) == 4
    assert not any(line.mirrored for line in downward)
    fates = [line.fate for line in lab.log.of(client_address(2)) if line.direction == "up"]
    assert fates == ["delivered", "delivered", "blackholed", "blackholed"]


@needs_laboratory
@pytest.mark.parametrize(
    ("version", "kind", "expected"),
    [(4, (3, 1), errno.EHOSTUNREACH), (6, (1, 1), errno.EACCES)],
)
def test_a_router_answers_with_an_icmp_error(
    tmp_path: Path, version: int, kind: tuple[int, int], expected: int
) -> None:
    rule = Rule(middleboxes=(IcmpError(*kind),), **path(client_ms=5))
    with Laboratory(Plan((rule,)), tmp_path) as lab, pytest.raises(OSError) as failed:
        connect(lab, 1, version)
    assert failed.value.errno == expected
    (_, syn), (_, answer) = frames(lab.capture)[:2]
    header = 40 if version == 6 else 20
    assert (answer[header], answer[header + 1]) == kind
    assert syn in answer


@needs_laboratory
def test_an_end_that_refuses_a_datagram_answers_under_the_rule_of_its_flow(tmp_path: Path) -> None:
    rule = Rule(port=PORT, protocol="udp", **path(client_ms=15))
    with Laboratory(Plan((rule,)), tmp_path) as lab:
        with lab.client.entered():
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.settimeout(1.0)
        client.connect((server_address(1), PORT))
        client.send(b"anyone?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
        client.close()
    (answer,) = [line for line in lab.log.lines if line.protocol == "icmp"]
    assert answer.delivered_ns - answer.tap_ns >= 15 * MS


@needs_laboratory
def test_an_injected_reset_ends_the_connection_and_bears_its_own_ttl(tmp_path: Path) -> None:
    reset = Reset(Trigger(contains=b"forbidden"), toward="both", ttl=99)
    with Laboratory(Plan((Rule(middleboxes=(reset,)),)), tmp_path) as lab:
        client, server = connect(lab, 1)
        client.send(b"allowed")
        assert server.recv(100) == b"allowed"
        client.send(b"forbidden")
        with pytest.raises(ConnectionResetError):
            client.recv(100)
        client.close()
        server.close()
    injected = [line for line in lab.log.lines if line.origin == "middlebox"]
    assert sorted(line.direction for line in injected) == ["down", "up"]
    assert all(line.fate == "delivered" for line in injected)
    assert [data[8] for _, data in frames(lab.capture)].count(99) == 2


@needs_laboratory
def test_nothing_of_a_laboratory_outlives_it(tmp_path: Path) -> None:
    class BrokenError(Exception):
        pass

    with pytest.raises(BrokenError), Laboratory(Plan(), tmp_path) as lab:
        sleeper = lab.server.popen(["sleep", "600"])
        names = {lab.client.name, lab.server.name}
        assert names <= _namespaces()
        raise BrokenError
    assert not names & _namespaces()
    assert sleeper.poll() is not None
    assert not any(Path("/etc/netns", name).exists() for name in names)


def _namespaces() -> set[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return {line.split()[0] for line in listed.stdout.splitlines()}


# --------------------------------------------------------------------------- truth, from made logs


class Script:
    """Writes the log of one flow by hand: times in ms, 1 ms to the tap and 1 ms behind it."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def send(
        self,
        at_ms: float,
        direction: str,
        sequence: int,
        payload: int = 0,
        acknowledgment: int = 0,
        fate: str = "delivered",
        after_tap: bool = False,
    ) -> None:
        lost = fate != "delivered"
        arrived = int(at_ms * MS)
        self.lines.append(
            Line(
                *("tcp", "10.1.0.1", 1000, "10.2.0.1", 443),
                direction=direction,
                number=len(self.lines) + 1,
                arrived_ns=arrived,
                tap_ns=None if lost and not after_tap else arrived + MS,
                delivered_ns=None if lost else arrived + 2 * MS,
                mirrored=True,
                fate=fate,
                side=None,
                origin="end",
                copied_on=None,
                sequence=sequence,
                acknowledgment=acknowledgment,
                flags=16,
                payload_bytes=payload,
                length=40 + payload,
            )
        )

    def loss(self) -> tuple[int, ...]:
        """Return dropped before and after, visible before and after, needless, of `down`."""
        (truth,) = Log(self.lines).truth().values()
        return astuple(truth.loss["down"])[1:6]


def test_a_hole_that_is_filled_is_a_visible_loss_before_the_tap() -> None:
    script = Script()
    script.send(0, "down", 0, 100)
    script.send(1, "down", 100, 100, fate="lost")
    script.send(2, "down", 200, 100)
    script.send(20, "down", 100, 100)
    assert script.loss() == (1, 0, 1, 0, 0)


def test_a_loss_before_the_tap_at_the_end_of_a_burst_is_not_visible() -> None:
    script = Script()
    script.send(0, "down", 0, 100)
    script.send(1, "down", 100, 100, fate="lost")
    script.send(20, "down", 100, 100)
    assert script.loss() == (1, 0, 0, 0, 0)


def test_a_segment_lost_twice_before_the_tap_makes_one_hole() -> None:
    script = Script()
    script.send(0, "down", 0, 100)
    script.send(1, "down", 100, 100, fate="lost")
    script.send(2, "down", 200, 100)
    script.send(20, "down", 100, 100, fate="lost")
    script.send(40, "down", 100, 100)
    assert script.loss() == (2, 0, 1, 0, 0)


def test_a_segment_lost_twice_behind_the_tap_is_two_visible_losses() -> None:
    script = Script()
    script.send(0, "down", 0, 100, fate="lost", after_tap=True)
    script.send(20, "down", 0, 100, fate="lost", after_tap=True)
    script.send(60, "down", 0, 100)
    assert script.loss() == (0, 2, 0, 2, 0)


def test_a_segment_sent_again_though_it_had_arrived_is_needless() -> None:
    script = Script()
    script.send(0, "down", 0, 100)
    script.send(20, "down", 0, 100)
    assert script.loss() == (0, 0, 0, 0, 1)


def test_a_segment_sent_again_while_the_first_is_under_way_is_needless() -> None:
    script = Script()
    script.send(0, "down", 0, 100)
    script.send(1, "down", 0, 100)
    assert script.loss() == (0, 0, 0, 0, 1)


def test_a_delayed_acknowledgment_is_in_the_full_round_trip_and_not_in_the_path() -> None:
    script = Script()
    script.send(0, "down", 0, 100)
    script.send(42, "up", 0, acknowledgment=100)  # the client had it at 2 ms
    truth = Log(script.lines).truth()[FlowKey("tcp", "10.1.0.1", 1000, "10.2.0.1", 443)]
    rtt = truth.rtt["client"]
    assert (rtt.path, rtt.answering, rtt.full, rtt.answers) == (2000, 40_000, 42_000, 1)


def test_no_exchange_starts_with_a_segment_that_came_out_of_order() -> None:
    script = Script()
    script.send(0, "down", 0, 100)
    script.send(1, "down", 200, 100)
    script.send(10, "up", 0, acknowledgment=100)
    script.send(20, "down", 100, 100)
    script.send(23, "up", 0, acknowledgment=300)
    (truth,) = Log(script.lines).truth().values()
    assert truth.rtt["client"].answers == 2
    assert truth.rtt["client"].answering == 4500  # of 8 ms and, after the hole was filled, 1 ms
