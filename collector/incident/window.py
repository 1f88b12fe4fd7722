"""What one cell, or one capture point as a whole, did in one window of time."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from collector.qoe import Score


@dataclass(frozen=True)
class CellWindow:
    """Sums of a cell over [start, start + window). Times are Unix seconds, UTC, of the packets."""

    cell_id: str  # empty where the window is of a capture point as a whole
    start: int
    attempts: int
    failures: int
    subscribers: int  # distinct; 0 where sessions name no subscriber
    failing_subscribers: int
    causes: Mapping[str, int] = field(default_factory=dict)
    qoe: Score | None = None  # its value is None with too few samples
    capture_point: str = ""  # empty where the window is of a cell
    attributable_bytes: int = 0
    shares: Mapping[str, float] = field(default_factory=dict)  # of them, by what is known
