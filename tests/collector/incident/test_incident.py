"""An incident opens on clear trouble, adds up, and closes on recovery or silence."""

from dataclasses import replace

import pytest

from collector.incident.incident import CloseReason, Incident, Patience, continued, opened
from collector.incident.judgement import Kind, Thresholds, Verdict, judge, wilson_low
from collector.incident.window import CellWindow
from collector.qoe import Score

THRESHOLDS = Thresholds(min_attempts=50, min_subscribers=3, failure_ratio=0.2, qoe_below=40.0)
PATIENCE = Patience(good=2, unknown=3)
WINDOW = CellWindow("001-01-0019B01", 600, 100, 50, 20, 10, {"connect_timeout": 50})


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, Verdict.BAD),
        ({"failures": 19}, Verdict.GOOD),
        ({"failures": 21}, Verdict.UNKNOWN),  # above the line, but not clearly
        ({"attempts": 49}, Verdict.UNKNOWN),
        ({"failing_subscribers": 2}, Verdict.UNKNOWN),  # a broken device or two
        ({"subscribers": 0, "failing_subscribers": 0}, Verdict.BAD),  # nobody is named
        ({"failures": 200}, Verdict.BAD),
    ],
)
def test_failures_are_judged_by_ratio_confidence_and_subscribers(
    change: dict[str, int], verdict: Verdict
) -> None:
    assert judge(replace(WINDOW, **change), Kind.FAILURES, THRESHOLDS) is verdict


@pytest.mark.parametrize(
    ("qoe", "verdict"),
    [
        (None, Verdict.UNKNOWN),
        (Score(None, None, None, 3, "m@1"), Verdict.UNKNOWN),
        (Score(30, 25, 35, 200, "m@1"), Verdict.BAD),
        (Score(30, 15, 45, 200, "m@1"), Verdict.UNKNOWN),
        (Score(40, 10, 70, 200, "m@1"), Verdict.GOOD),
    ],
)
def test_qoe_is_judged_by_its_interval(qoe: Score | None, verdict: Verdict) -> None:
    assert judge(replace(WINDOW, qoe=qoe), Kind.QOE, THRESHOLDS) is verdict


def test_the_wilson_interval_equals_published_values() -> None:
    # Newcombe 1998, table I, method 3: 81 of 263 and 0 of 20, two-sided 95 %.
    assert wilson_low(81, 263, z=1.959964) == pytest.approx(0.2553, abs=1e-4)
    assert wilson_low(0, 20, z=1.959964) == pytest.approx(0.0, abs=1e-9)


def _incident() -> Incident:
    return opened("id", Kind.FAILURES, WINDOW, 300)


def test_bad_windows_add_up() -> None:
    later = replace(WINDOW, start=900, failing_subscribers=15, causes={"dns_timeout": 7})
    incident = continued(_incident(), Verdict.BAD, later, 1200, PATIENCE)
    assert (incident.opened_at, incident.updated_at, incident.bad_windows) == (600, 1200, 2)
    assert (incident.attempts, incident.failures, incident.failure_ratio) == (200, 100, 0.5)
    assert incident.affected_subscribers == 15
    assert incident.causes == {"connect_timeout": 50, "dns_timeout": 7}


def test_good_windows_in_a_row_close_and_a_bad_one_begins_anew() -> None:
    good = continued(_incident(), Verdict.GOOD, WINDOW, 1200, PATIENCE)
    assert good.closed_at is None
    again = continued(good, Verdict.BAD, replace(WINDOW, start=1200), 1500, PATIENCE)
    once = continued(again, Verdict.GOOD, WINDOW, 1800, PATIENCE)
    assert once.closed_at is None
    twice = continued(once, Verdict.GOOD, WINDOW, 2100, PATIENCE)
    assert (twice.closed_at, twice.close_reason) == (2100, CloseReason.RECOVERED)


def test_an_unclear_window_neither_closes_nor_forgets_the_good_ones() -> None:
    good = continued(_incident(), Verdict.GOOD, WINDOW, 1200, PATIENCE)
    unclear = continued(good, Verdict.UNKNOWN, None, 1500, PATIENCE)
    assert unclear.closed_at is None
    closed = continued(unclear, Verdict.GOOD, WINDOW, 1800, PATIENCE)
    assert closed.close_reason is CloseReason.RECOVERED


def test_silence_closes_in_the_end() -> None:
    incident = _incident()
    for end in (1200, 1500):
        incident = continued(incident, Verdict.UNKNOWN, None, end, PATIENCE)
        assert incident.closed_at is None
    incident = continued(incident, Verdict.UNKNOWN, None, 1800, PATIENCE)
    assert (incident.closed_at, incident.close_reason) == (1800, CloseReason.NO_DATA)


def test_an_incident_of_qoe_keeps_the_worst() -> None:
    poor = replace(WINDOW, qoe=Score(30, 25, 35, 200, "m@1"))
    incident = opened("id", Kind.QOE, poor, 300)
    worse = replace(WINDOW, start=900, qoe=Score(20, 15, 25, 200, "m@1"))
    incident = continued(incident, Verdict.BAD, worse, 1200, PATIENCE)
    incident = continued(incident, Verdict.BAD, replace(poor, start=1200), 1500, PATIENCE)
    assert (incident.worst_qoe, incident.affected_subscribers) == (20, 20)
