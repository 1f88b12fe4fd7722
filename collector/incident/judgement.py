"""What a window means: bad, good or not enough to say.

Between clearly bad and good lies a band that means nothing, so that an incident neither opens nor
closes on a value that happens to cross a line.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import sqrt
from typing import Final

from collector.incident.window import CellWindow

_Z_95: Final = 1.645  # one-sided 95 %


class Kind(StrEnum):
    """What is wrong with the cell, or with what a capture point knows."""

    FAILURES = "failures"  # attempts fail
    QOE = "qoe"  # attempts succeed, the experience is poor
    # At a capture point too few bytes are known to be ...
    SUBSCRIBER_SHARE = "subscriber_share"  # a subscriber's, not merely an address's
    CELL_SHARE = "cell_share"  # in a cell
    RAN_NODE_SHARE = "ran_node_share"  # at a base station


class Verdict(StrEnum):
    BAD = "bad"
    GOOD = "good"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Thresholds:
    """When a window is bad. `min_subscribers` keeps one broken device from accusing its cell."""

    min_attempts: int
    min_subscribers: int
    failure_ratio: float
    qoe_below: float
    # The least share of a capture point's bytes to be attributed, by capture point and kind.
    shares: Mapping[tuple[str, Kind], float] = field(default_factory=dict)
    min_bytes: int = 1 << 20  # of a window in which shares are judged


CELL_KINDS: Final = (Kind.FAILURES, Kind.QOE)
SHARE_KINDS: Final = (Kind.SUBSCRIBER_SHARE, Kind.CELL_SHARE, Kind.RAN_NODE_SHARE)


def judge(window: CellWindow, kind: Kind, thresholds: Thresholds) -> Verdict:
    """Say what `window` means for incidents of `kind`."""
    if kind is Kind.FAILURES:
        return _judge_failures(window, thresholds)
    if kind is Kind.QOE:
        return _judge_qoe(window, thresholds)
    return _judge_share(window, kind, thresholds)


def kinds_of(window: CellWindow) -> tuple[Kind, ...]:
    """Return the kinds of incident that a window can speak about."""
    return SHARE_KINDS if window.capture_point else CELL_KINDS


def _judge_failures(window: CellWindow, thresholds: Thresholds) -> Verdict:
    if window.attempts < thresholds.min_attempts:
        return Verdict.UNKNOWN
    # Failures may outnumber attempts: a session can fail in a window after the one it began in.
    failures = min(window.failures, window.attempts)
    if failures / window.attempts < thresholds.failure_ratio:
        return Verdict.GOOD
    few = window.subscribers > 0 and window.failing_subscribers < thresholds.min_subscribers
    clear = wilson_low(failures, window.attempts) >= thresholds.failure_ratio
    return Verdict.BAD if clear and not few else Verdict.UNKNOWN


def _judge_qoe(window: CellWindow, thresholds: Thresholds) -> Verdict:
    if window.qoe is None or window.qoe.value is None or window.qoe.high is None:
        return Verdict.UNKNOWN
    if window.qoe.value >= thresholds.qoe_below:
        return Verdict.GOOD
    few = 0 < window.subscribers < thresholds.min_subscribers
    return Verdict.BAD if window.qoe.high < thresholds.qoe_below and not few else Verdict.UNKNOWN


def _judge_share(window: CellWindow, kind: Kind, thresholds: Thresholds) -> Verdict:
    """A share of bytes is counted, not sampled: it lies on one side or on the other."""
    least = thresholds.shares.get((window.capture_point, kind))
    if least is None or window.attributable_bytes < thresholds.min_bytes:
        return Verdict.UNKNOWN
    return Verdict.BAD if window.shares[kind] < least else Verdict.GOOD


def wilson_low(hits: int, trials: int, z: float = _Z_95) -> float:
    """Return the lower end of the Wilson score interval of hits / trials (Wilson 1927).

    It takes trials as independent; sessions of one subscriber are not, so it is narrower than the
    truth, which is why `Thresholds.min_subscribers` stands beside it.
    """
    ratio = hits / trials
    centre = ratio + z * z / (2 * trials)
    spread = z * sqrt(ratio * (1 - ratio) / trials + z * z / (4 * trials * trials))
    return (centre - spread) / (1 + z * z / trials)
