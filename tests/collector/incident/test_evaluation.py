"""Incidents from a real store: the bad cell and only it, in packet time, each window once."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

BEGIN = int(datetime(2009, 4, 8, 12, 0, tzinfo=UTC).timestamp())
BAD, GOOD, SLOW = "001-01-00000B1", "001-01-00000A1", "001-01-00000C1"


def at(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.000000000Z"


def session(number: int, second: int, cell_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "session_id": f"{number:016x}",
        "flow_start_time": at(second),
        "start_time": at(second),
        "end_time": at(second),
        "cell_id": cell_id,
        "outcome": "ok",
        "rtt_client_samples": 4,
        "rtt_client_histogram": {"140": 4},  # 50 ms
        **fields,
    }


FAILED = {"outcome": "failed", "failure_cause": "connect_timeout", "failure_stage": "connect"}


def minutes(first: int, last: int, numbers: Iterator[int]) -> list[dict[str, Any]]:
    """Return sessions of three cells and 20 subscribers in each; BAD fails in half of them."""
    found = []
    for minute in range(first, last):
        for user in range(20):
            second = BEGIN + 60 * minute + user
            bad = FAILED if minute < 10 and user % 2 else {}
            device = FAILED if user == 1 else {}  # one device fails, in a healthy cell
            slow = {"rtt_client_histogram": {"230": 4}}  # 3.8 s
            found += [
                session(next(numbers), second, BAD, subscriber_id=f"{user:032x}", **bad),
                session(next(numbers), second, GOOD, subscriber_id=f"{100 + user:032x}", **device),
                session(next(numbers), second, SLOW, subscriber_id=f"{200 + user:032x}", **slow),
            ]
    return found


@pytest.fixture(scope="module")
def collector(start_collector: Callable[..., Any]) -> Any:
    return start_collector(
        "open_on_loopback: true\nincidents: {enabled: false, settle: 1s, close_after: 2}\n"
    )


def test_trouble_is_opened_updated_and_closed_in_the_time_of_the_packets(
    collector: Any, sealed: Callable[..., bytes]
) -> None:
    numbers = iter(range(1_000_000))
    probe, admin = collector.token("probe", "edge-1"), collector.token("admin", "root")

    def evaluate() -> int:
        answer = collector.ask("/api/v1/incidents/evaluate", admin, body=b"", method="POST")
        assert answer.status == 200, answer.body
        return int(answer.json["windows"])

    def incidents(query: str = "") -> list[dict[str, Any]]:
        data: list[dict[str, Any]] = collector.ask(f"/api/v1/incidents{query}").json["data"]
        return data

    assert evaluate() == 0
    assert collector.send(sealed(minutes(0, 10, numbers), sequence=1), probe).status == 200
    time.sleep(2.1)  # longer than settle: nothing more comes
    assert evaluate() == 2
    assert evaluate() == 0
    found = {incident["cell_id"]: incident for incident in incidents("?status=open")}
    assert found.keys() == {BAD, SLOW}
    bad = found[BAD]
    assert (bad["kind"], bad["bad_windows"]) == ("failures", 2)
    assert (bad["attempts"], bad["failures"], bad["failure_ratio"]) == (200, 100, 0.5)
    assert (bad["opened_at"], bad["updated_at"]) == (
        "2009-04-08T12:00:00.000000000Z",
        "2009-04-08T12:10:00.000000000Z",
    )
    assert bad["causes"] == {"connect_timeout": 100}
    assert bad["affected_subscribers"] == 10
    assert "connect_timeout" in bad["title"]
    assert found[SLOW]["kind"] == "qoe"
    assert found[SLOW]["worst_qoe"] < 10

    assert collector.send(sealed(minutes(10, 25, numbers), sequence=2), probe).status == 200
    time.sleep(2.1)
    assert evaluate() == 3
    (closed,) = incidents("?status=closed")
    assert (closed["id"], closed["close_reason"]) == (bad["id"], "recovered")
    assert closed["closed_at"] == "2009-04-08T12:20:00.000000000Z"
    assert [incident["cell_id"] for incident in incidents("?status=open")] == [SLOW]
    assert collector.ask(f"/api/v1/incidents/{bad['id']}").json == closed
    assert incidents(f"?from={BEGIN + 3600}&to=now&status=closed") == []
    assert len(incidents("?from=0&to=2009-04-08T12:00:00Z")) == 2
    assert len(incidents(f"?cell_id={SLOW}&kind=qoe")) == 1


def test_a_list_goes_on_where_its_cursor_says(collector: Any) -> None:
    first = collector.ask("/api/v1/incidents?limit=1").json
    second = collector.ask(f"/api/v1/incidents?limit=1&cursor={first['next_cursor']}").json
    assert {entry["cell_id"] for entry in (*first["data"], *second["data"])} == {BAD, SLOW}
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    "query",
    ["limit=0", "from=yesterday", "cursor=x", "status=bad", "colour=red", "limit=1&limit=2"],
)
def test_a_wrong_question_is_400(collector: Any, query: str) -> None:
    answer = collector.ask(f"/api/v1/incidents?{query}")
    assert answer.status == 400
    assert query.split("=", maxsplit=1)[0] in answer.json["detail"]


def test_an_unknown_incident_is_404_and_evaluating_needs_an_admin(collector: Any) -> None:
    assert collector.ask("/api/v1/incidents/0000").status == 404
    reader = collector.token("reader", "dashboard")
    path = "/api/v1/incidents/evaluate"
    assert collector.ask(path, reader, body=b"", method="POST").status == 403
    assert collector.ask(path, body=b"", method="POST").status == 401
