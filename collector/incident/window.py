"""What one cell did in one window of time."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from collector.qoe import Score


@dataclass(frozen=True)
class CellWindow:
    """Sums of a cell over [start, start + window). Times are Unix seconds, UTC, of the packets."""

    cell_id: str
    start: int
    attempts: int
    failures: int
    subscribers: int  # distinct; 0 where sessions name no subscriber
    failing_subscribers: int
    causes: Mapping[str, int] = field(default_factory=dict)
    qoe: Score | None = None  # its value is None with too few samples
