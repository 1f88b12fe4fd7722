"""Messages of the control plane may be missed or shown twice: nobody is taken for another."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from tests.probe.simulate import attribution, edits
from tests.probe.simulate.attribution import FIVE_TUPLE, Row

VIEWS = (
    ("s1u+s11",),
    ("s1u+s1ap",),
    ("s1u+s11+s1ap",),
    ("n3+n2",),
    ("n3+n4",),
    ("n3+n4+n2",),
    ("sgi+radius",),
    ("sgi+radius", "--rat", "nr"),
)
SIZE = ("--cells", "4", "--subscribers", "13", "--duration", "20s", "--handovers", "12")
# Seldom enough to be small; with subscribers, tunnels and addresses that come and go.
TRAFFIC = ("--pause", "6s")
CROWDED = (*SIZE[:3], "26", *SIZE[4:], "--seed", "16")
RUNS = 20
COPY_US = 300  # between two places of one mirror
Case = tuple[list[edits.Packet], Row, Path]


@pytest.fixture(scope="module", params=VIEWS, ids=" ".join)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The packets of a small simulation, its truth, and a place for a capture of them."""
    path = tmp_path_factory.mktemp("capture") / "simulated.pcap"
    truth = attribution.simulate(path, *SIZE, *TRAFFIC, "--view", *request.param)
    return edits.read(path), truth, path.with_name("edited.pcap")


def control(packets: list[edits.Packet]) -> Iterator[int]:
    """Places of the control messages."""
    return (at for at, packet in enumerate(packets) if packet.message is not None)


def confused(truth: Row, rows: list[Row]) -> list[Row]:
    """Records of sessions that name somebody else than the subscriber."""
    owners: dict[tuple[object, ...], set[str]] = defaultdict(set)
    for session in truth["sessions"]:
        five_tuple = tuple(session[name] for name in FIVE_TUPLE)
        owners[five_tuple].add(attribution.pseudonym(session["subscriber"]))
    flows = attribution.by_five_tuple(rows)
    return [
        row
        for five_tuple, who in owners.items()
        for row in flows.get(five_tuple, [])
        if row["subscriber_source"] != "address" and row["subscriber_id"] not in who
    ]


def attributed(rows: list[Row]) -> int:
    sessions = [row for row in rows if row["record_kind"] != "transaction"]
    named = [row for row in sessions if row["subscriber_source"] != "address"]
    return sum(row["bytes_up"] + row["bytes_down"] for row in named)


def test_a_message_that_was_missed_never_makes_one_subscriber_another(case: Case) -> None:
    packets, truth, path = case
    places = list(control(packets))
    assert len(places) > 90
    least, whole = 2**63, attributed(attribution.replay(edits.write(path, packets), truth))
    for at in places:
        rows = attribution.replay(edits.write(path, packets[:at] + packets[at + 1 :]), truth)
        assert confused(truth, rows) == [], f"without packet {at}"
        least = min(least, attributed(rows))
    assert least > whole / 2


def test_of_two_messages_in_a_row_that_were_missed_the_same_holds(case: Case) -> None:
    """As a request and its answer are, where the mirror is too slow for a while."""
    packets, truth, path = case
    places = list(control(packets))
    for one, other in pairwise(places):
        kept = [packet for at, packet in enumerate(packets) if at not in (one, other)]
        rows = attribution.replay(edits.write(path, kept), truth)
        assert confused(truth, rows) == [], f"without packets {one} and {other}"


@pytest.mark.parametrize("view", VIEWS, ids=" ".join)
def test_a_tenth_of_all_messages_missed_makes_nobody_another(
    view: tuple[str, ...], tmp_path: Path
) -> None:
    """At random, and in a network that gives identities and tunnel ends out anew after 50 ms."""
    path = tmp_path / "simulated.pcap"
    truth = attribution.simulate(path, *CROWDED, *TRAFFIC, "--view", *view)
    packets = edits.read(path)
    random = Random(16)
    for _ in range(RUNS):
        kept = [packet for packet in packets if not packet.message or random.random() > 0.1]
        rows = attribution.replay(edits.write(path, kept), truth)
        assert confused(truth, rows) == []


def test_messages_that_are_shown_twice_are_one_each(case: Case) -> None:
    packets, truth, path = case
    again = [
        edits.Packet(packets[at].time_us + COPY_US, packets[at].frame) for at in control(packets)
    ]
    once = attribution.replay(edits.write(path, packets), truth)
    twice = attribution.replay(edits.write(path, packets + again), truth)
    assert transactions(twice) == transactions(once)
    assert confused(truth, twice) == []
    assert attributed(twice) == attributed(once)


def transactions(rows: list[Row]) -> Counter[tuple[object, ...]]:
    names = ("start_time", "app_protocol", "subscriber_id", "outcome", "failure_cause", "setup_us")
    of_signalling = (row for row in rows if row["record_kind"] == "transaction")
    return Counter(tuple(row[name] for name in names) for row in of_signalling)
