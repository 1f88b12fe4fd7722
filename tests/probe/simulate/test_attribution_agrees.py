"""The engine says of each session who and where as the simulator knows it, by signalling alone."""

from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.probe.simulate import attribution
from tests.probe.simulate.attribution import Row, Score

WITH_CELL = (
    ("s1u+s11",),
    ("s1u+s1ap",),
    ("s1u+s11+s1ap",),
    ("n3+n2",),
    ("n3+n4+n2",),
    ("sgi+radius",),
    ("sgi+radius", "--rat", "nr"),
)
VIEWS = (*WITH_CELL, ("n3+n4",))
SIZE = ("--cells", "10", "--subscribers", "60", "--duration", "60s", "--handovers", "20")
Measured = tuple[Row, list[Row], Score]


@pytest.fixture(scope="module", params=VIEWS, ids=" ".join)
def view(request: pytest.FixtureRequest) -> tuple[str, ...]:
    chosen: tuple[str, ...] = request.param
    return chosen


@pytest.fixture(scope="module")
def measured(view: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Measured:
    path = tmp_path_factory.mktemp("capture") / "simulated.pcap"
    truth = attribution.simulate(path, *SIZE, "--view", *view)
    rows = attribution.replay(path, truth)
    return truth, rows, attribution.score(truth, rows)


def test_subscribers_are_known_and_never_confused(measured: Measured) -> None:
    _, _, score = measured
    assert score.total > 10_000_000
    assert score.share("right_subscriber") >= 0.995
    assert score.wrong_subscriber == 0


def test_bytes_are_counted_where_they_were_carried(
    view: tuple[str, ...], measured: Measured
) -> None:
    _, _, score = measured
    if view in WITH_CELL:
        assert score.share("right_cell") >= 0.999
    if not view[0].startswith("sgi"):
        assert score.share("right_node") == 1


def test_each_request_that_fails_is_told_with_its_cause_and_time(measured: Measured) -> None:
    truth, rows, _ = measured
    assert failing(truth)
    assert failed(rows) == failing(truth)


# A request's time, protocol, name of the failure, number of the cause, repetitions.
Failure = tuple[str, str, str, int, int]
PROTOCOLS = {"s11": "gtpv2", "s1ap": "s1ap", "n4": "pfcp", "n2": "ngap", "radius": "radius"}
REFUSED = {
    "s1ap": "s1ap_rejected",
    "n4": "pfcp_rejected",
    "n2": "ngap_rejected",
    "radius": "radius_reject",
}
REFUSED_ON_S11 = {73: "gtp_no_resources", 78: "gtp_apn_unknown"}
UNANSWERED = {"s11": "gtp_peer_not_responding", "n4": "pfcp_rejected", "radius": "radius_timeout"}
RADIO_NETWORK = (
    1000  # of the causes of S1AP and NGAP, of which the simulator states the number alone
)


def failed(rows: list[Row]) -> Counter[Failure]:
    """Return what the engine says of the requests that have failed."""
    return Counter(
        (
            row["start_time"][:26],
            row["app_protocol"],
            row["failure_cause"],
            number_in(row["evidence"], "cause_"),
            number_in(row["evidence"], "retransmissions_"),
        )
        for row in rows
        if row["record_kind"] == "transaction" and row["outcome"] == "failed"
    )


def number_in(evidence: list[str], prefix: str) -> int:
    return next((int(one.removeprefix(prefix)) for one in evidence if one.startswith(prefix)), 0)


def failing(truth: Row) -> Counter[Failure]:
    """Return the same of those that have failed."""
    return Counter(
        (
            attribution.text_of(request["start_time"]),
            PROTOCOLS[request["interface"]],
            name_of(request),
            number_of(request),
            0 if request["result"] == "refused" else request["transmissions"] - 1,
        )
        for request in truth["signalling"]
        if request["result"] in ("refused", "unanswered")
    )


def name_of(request: Row) -> str:
    interface = request["interface"]
    if request["result"] == "unanswered":
        return UNANSWERED[interface]
    if request["procedure"] == "path_switch":
        return "handover_failed"
    return REFUSED_ON_S11[request["cause"]] if interface == "s11" else REFUSED[interface]


def number_of(request: Row) -> int:
    if request["cause"] is None:
        return 0
    group = RADIO_NETWORK if request["interface"] in ("s1ap", "n2") else 0
    return group + int(request["cause"])


ATTEMPTS = {
    "create_session",
    "session_establishment",
    "access",
    "initial_context_setup",
    "pdu_session_resource_setup",
    "path_switch",
}


def test_each_attempt_that_succeeds_is_told_once_however_often_it_was_sent(
    measured: Measured,
) -> None:
    truth, rows, _ = measured
    accepted = {
        (
            attribution.text_of(request["start_time"]),
            PROTOCOLS[request["interface"]],
            request["response_us"],
        ): request
        for request in truth["signalling"]
        if request["procedure"] in ATTEMPTS and request["result"] == "accepted"
    }
    told = {
        (row["start_time"][:26], row["app_protocol"], row["setup_us"]): row["subscriber_id"]
        for row in rows
        if row["record_kind"] == "transaction" and row["outcome"] == "ok"
    }
    assert told.keys() == accepted.keys()
    for attempt, subscriber in told.items():
        request = accepted[attempt]
        # A gNB is given a device that returns before it is given a session that tells whose it is.
        may_be_unknown = request["procedure"] == "initial_context_setup"
        known = attribution.pseudonym(request["subscriber"])
        assert subscriber == known or (may_be_unknown and subscriber is None)


def test_tunnels_and_addresses_of_the_simulation_are_used_again_by_others(
    measured: Measured,
) -> None:
    """Else the tests of this file would not show that nobody is taken for who was there before."""
    truth, _, _ = measured
    owners: dict[object, set[str]] = defaultdict(set)
    for attachment in truth["attachments"]:
        owners[attachment["client_ipv4"]].add(attachment["subscriber"])
        for stay in attachment["stays"]:
            owners[stay["gateway_address"], stay["teid_up"]].add(attachment["subscriber"])
            owners[stay["node_address"], stay["teid_down"]].add(attachment["subscriber"])
    kinds = Counter(type(key) for key, who in owners.items() if len(who) > 1)
    assert kinds[str] > 5 and kinds[tuple] > 10
    assert any(attachment["end_reason"] == "restart" for attachment in truth["attachments"])


def test_sessions_under_way_at_the_start_are_learned_or_unknown_but_never_wrong(
    view: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "simulated.pcap"
    truth = attribution.simulate(path, *SIZE, "--view", *view, "--skip", "25s")
    score = attribution.score(truth, attribution.replay(path, truth))
    assert score.wrong_subscriber == 0
    assert score.share("right_subscriber") > 0.2
    assert score.share("wrong_cell") < 0.001
    assert score.share("wrong_node") < 0.001
