"""The alarm for what is not attributed: by capture point, in packet time, and as metrics."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from collector.errors import StateError
from collector.identity.state import StateDatabase
from collector.incident import book, measure
from collector.incident.incident import opened
from collector.incident.judgement import Kind, Thresholds, Verdict, judge
from collector.incident.window import CellWindow
from collector.qoe import Models

ROOT = Path(__file__).parents[3]
BEGIN = int(datetime(2009, 4, 8, 12, 0, tzinfo=UTC).timestamp())
SETTINGS = (
    "open_on_loopback: true\n"
    "incidents: {enabled: false, settle: 1s, close_after: 1, attribution_min_bytes: 1kB,\n"
    "  attribution: {s1u: {cell: 0.9, subscriber: 0.5}}}\n"
)


def minute(number: int, *, cells: int, capture_point: str = "s1u") -> list[dict[str, Any]]:
    """Return ten sessions of 1,000 bytes in a minute, `cells` of them in a known cell."""
    at = f"{datetime.fromtimestamp(BEGIN + 60 * number, UTC):%Y-%m-%dT%H:%M:%S}.000000000Z"
    return [
        {
            "session_id": f"{number * 100 + place + (50 if capture_point == 'sgi' else 0):016x}",
            "flow_start_time": at, "start_time": at, "end_time": at,
            "capture_point": capture_point, "bytes_down": 1000,
            "subscriber_id": "a" * 32, "subscriber_source": "map",
            "cell_id": "001-01-0000001" if place < cells else None,
        }
        for place in range(10)
    ]  # fmt: skip


def test_a_capture_point_below_its_share_opens_an_incident_that_closes_above(
    start_collector: Callable[..., Any], sealed: Callable[..., bytes]
) -> None:
    collector = start_collector(SETTINGS)
    probe, admin = collector.token("probe", "edge-1"), collector.token("admin", "root")

    def after(rows: list[dict[str, Any]], sequence: int) -> list[dict[str, Any]]:
        assert collector.send(sealed(rows, sequence=sequence), probe).status == 200
        time.sleep(2.1)  # longer than settle: nothing more comes
        collector.ask("/api/v1/incidents/evaluate", admin, body=b"", method="POST")
        found: list[dict[str, Any]] = collector.ask("/api/v1/incidents").json["data"]
        return found

    # No cell is known at all, here or at sgi, of which nothing is expected.
    (incident,) = after([*minute(0, cells=0), *minute(0, cells=0, capture_point="sgi")], 1)
    assert (incident["kind"], incident["status"]) == ("cell_share", "open")
    assert (incident["cell_id"], incident["capture_point"]) == (None, "s1u")
    assert (incident["worst_share"], incident["bad_windows"]) == (0.0, 1)
    assert incident["title"] == "At s1u the cell is known of 0.0% of bytes only"
    (incident,) = after(minute(5, cells=8), 2)
    assert (incident["status"], incident["bad_windows"], incident["worst_share"]) == ("open", 2, 0)
    (incident,) = after(minute(10, cells=9), 3)
    assert (incident["status"], incident["close_reason"]) == ("closed", "recovered")
    text = collector.ask("/metrics").body.decode()
    base = 'qoe_collector_attributable_bytes_total{probe_id="edge-1"} 40000.0'
    assert base in text
    for to, attributed in (("subscriber", 40_000), ("cell", 17_000), ("ran_node", 0)):
        name = f'qoe_collector_attributed_bytes_total{{probe_id="edge-1",to="{to}"}}'
        assert f"{name} {float(attributed)}" in text


def window(share: float, attributable: int = 1 << 20) -> CellWindow:
    return CellWindow(
        "", 0, 0, 0, 0, 0, capture_point="s1u", attributable_bytes=attributable,
        shares={Kind.CELL_SHARE: share},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("judged", "verdict"),
    [
        (window(0.97), Verdict.BAD),
        (window(0.98), Verdict.GOOD),
        (window(0.5, attributable=1), Verdict.UNKNOWN),
    ],
)
def test_a_share_is_judged_where_there_are_bytes_enough(judged: CellWindow, verdict: Verdict):
    shares = {("s1u", Kind.CELL_SHARE): 0.98}
    thresholds = Thresholds(1, 1, 0.5, 40.0, shares=shares, min_bytes=1 << 20)
    assert judge(judged, Kind.CELL_SHARE, thresholds) is verdict
    assert judge(judged, Kind.SUBSCRIBER_SHARE, thresholds) is Verdict.UNKNOWN


def test_incidents_of_the_released_program_are_kept(tmp_path: Path):
    path = tmp_path / "state.sqlite"
    database = StateDatabase.open(path)
    database.migrate("incident", book.STEPS[:1])
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO incidents VALUES ('old', 'cell', 'qoe', 1, 2, 3, 4, 5, 6, '{}', 7.5,"
            " 0, 0, NULL, NULL, 8)"
        )
    database.migrate("incident", book.STEPS)
    with database.transaction() as connection:
        (kept,) = book.open_incidents(connection)
        assert (kept.id, kept.capture_point, kept.worst_share) == ("old", "", None)
        for place in ("s1u", "sgi"):  # one is open for each capture point
            bad = opened(place, Kind.CELL_SHARE, window(0.1), 300)
            book.save(connection, [replace(bad, capture_point=place)], 1)
        assert len(book.open_incidents(connection)) == 3
    with pytest.raises(StateError, match="UNIQUE"), database.transaction() as connection:
        connection.execute("UPDATE incidents SET capture_point = 'sgi', id = 'x' WHERE id = 's1u'")
    database.close()


class Rows:
    """A store in which two capture points see one cell; sgi has more sessions."""

    async def fetch(self, sql: str, _: Any) -> list[dict[str, Any]]:
        if "sum(s.attempts)" not in sql:
            return []
        common = {"cell_id": "c", "start": 0, "attempts": 0, "subscribers": 0, "causes": {}}
        return [  # in the order of sessions, as the store gives them
            {**common, "capture_point": "s1u", "failures": 1},
            {**common, "capture_point": "sgi", "failures": 2},
        ]


@pytest.mark.parametrize(
    ("preferred", "failures"), [((), 2), (("s1u",), 1), (("n3", "s1u", "sgi"), 1), (("sgi",), 2)]
)
async def test_the_preferred_capture_point_speaks_for_a_cell_else_the_busiest(
    preferred: tuple[str, ...], failures: int
):
    models = Models.load(ROOT / "configs/models/default.yaml")
    found = await measure.windows(Rows(), models, measure.Span(0, 300, 300), preferred)
    assert [window.failures for window in found[0]] == [failures]
