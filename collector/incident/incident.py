"""The life of an incident, one window at a time."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from collector.incident.judgement import Kind, Verdict
from collector.incident.window import CellWindow


class CloseReason(StrEnum):
    RECOVERED = "recovered"
    NO_DATA = "no_data"  # too few attempts for too long to say anything


@dataclass(frozen=True)
class Patience:
    """How many windows in a row close an incident."""

    good: int
    unknown: int


@dataclass(frozen=True)
class Incident:
    """Trouble of one kind in one cell, or at one capture point (`cell_id` is empty then).

    Times are Unix seconds of the packets; sums are over the bad windows; `affected_subscribers` is
    the most of any one window.
    """

    id: str
    cell_id: str
    kind: Kind
    opened_at: int
    updated_at: int  # end of the last bad window
    bad_windows: int = 0
    attempts: int = 0
    failures: int = 0
    affected_subscribers: int = 0
    causes: Mapping[str, int] = field(default_factory=dict)
    worst_qoe: float | None = None
    good_in_a_row: int = 0
    unknown_in_a_row: int = 0
    closed_at: int | None = None
    close_reason: CloseReason | None = None
    capture_point: str = ""
    worst_share: float | None = None

    @property
    def failure_ratio(self) -> float | None:
        """Return failures / attempts over the bad windows, None without attempts."""
        return self.failures / self.attempts if self.attempts else None


def opened(incident_id: str, kind: Kind, window: CellWindow, width_s: int) -> Incident:
    """Return the incident that the bad `window` begins."""
    fresh = Incident(
        incident_id,
        window.cell_id,
        kind,
        window.start,
        window.start,
        capture_point=window.capture_point,
    )
    return _with_bad(fresh, window, width_s)


def continued(
    incident: Incident, verdict: Verdict, window: CellWindow | None, end: int, patience: Patience
) -> Incident:
    """Return the open `incident` after one more window that ends at `end`.

    `window` is None where the cell had no session at all.
    """
    if verdict is Verdict.BAD and window is not None:
        return _with_bad(incident, window, end - window.start)
    if verdict is Verdict.GOOD:
        good = incident.good_in_a_row + 1
        incident = replace(incident, good_in_a_row=good, unknown_in_a_row=0)
        return _closed(incident, end, CloseReason.RECOVERED) if good >= patience.good else incident
    unknown = incident.unknown_in_a_row + 1
    incident = replace(incident, unknown_in_a_row=unknown)
    return _closed(incident, end, CloseReason.NO_DATA) if unknown >= patience.unknown else incident


def _with_bad(incident: Incident, window: CellWindow, width_s: int) -> Incident:
    affected = window.failing_subscribers
    if incident.kind is Kind.QOE:
        affected = window.subscribers
    return replace(
        incident,
        updated_at=window.start + width_s,
        bad_windows=incident.bad_windows + 1,
        attempts=incident.attempts + window.attempts,
        failures=incident.failures + window.failures,
        affected_subscribers=max(incident.affected_subscribers, affected),
        causes=dict(Counter(incident.causes) + Counter(window.causes)),
        worst_qoe=_worse(incident.worst_qoe, window.qoe.value if window.qoe else None),
        worst_share=_worse(incident.worst_share, window.shares.get(incident.kind)),
        good_in_a_row=0,
        unknown_in_a_row=0,
    )


def _worse(worst: float | None, value: float | None) -> float | None:
    seen = [one for one in (worst, value) if one is not None]
    return min(seen, default=None)


def _closed(incident: Incident, at: int, reason: CloseReason) -> Incident:
    return replace(incident, closed_at=at, close_reason=reason)
