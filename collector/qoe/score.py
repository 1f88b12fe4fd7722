"""Quality of Outcome (draft-ietf-ippm-qoo-10 section 3.3) from mergeable sums.

A score is the least of its terms: one for each percentile of latency and one for loss, each a
straight line from 100 at the optimal point to 0 at the unacceptable one. Only what the sums carry
decides it, so the order in which they were merged cannot.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from collector.qoe.histogram import SAMPLES_ABOVE, Z_95, Histogram, quantile, samples
from collector.qoe.models import LatencyRequirement, LossRequirement, Models


@dataclass(frozen=True)
class Measured:
    """The client side of one class of service, merged over any time and any set of sessions.

    `clusters` is how many independent sources the samples come from: subscribers, or the sessions
    of one subscriber.
    """

    histogram: Histogram
    lost_packets: int
    base_packets: int
    clusters: int


@dataclass(frozen=True)
class Score:
    """A score from 0 to 100 with its 95 % interval, or null where too little was measured."""

    value: float | None
    low: float | None
    high: float | None
    samples: int
    model: str


@dataclass(frozen=True)
class _Term:
    """One term at the measured value and at the bounds of its interval, 0 to 1."""

    value: float
    low: float
    high: float


def score(models: Models, service_class: str, measured: Measured) -> Score:
    """Return the score of one class of service.

    A percentile counts only with at least 5 / (1 - p) samples; if none has them the score is null.
    Loss counts only if five packets or more would be lost at the unacceptable ratio.
    """
    requirement = models.requirement(service_class)
    latency = [_latency(entry, measured) for entry in requirement.latency]
    terms = [term for term in latency if term is not None]
    count = samples(measured.histogram)
    if not terms:
        return Score(None, None, None, count, models.label)
    loss = _loss(requirement.loss, measured)
    if loss is not None:
        terms.append(loss)
    return Score(
        100 * min(term.value for term in terms),
        100 * min(term.low for term in terms),
        100 * min(term.high for term in terms),
        count,
        models.label,
    )


def combine(models: Models, scores: Iterable[Score]) -> Score:
    """Return the score over several classes of service: their mean, weighted by samples.

    Classes without a score have no part in it, except that their samples are not counted.
    """
    told = [(entry.samples, entry) for entry in scores if entry.value is not None]
    total = sum(weight for weight, _ in told)
    if not total:
        return Score(None, None, None, 0, models.label)

    def mean(values: Iterable[tuple[int, float | None]]) -> float:
        return math.fsum(weight * (value or 0.0) for weight, value in values) / total

    return Score(
        mean((weight, entry.value) for weight, entry in told),
        mean((weight, entry.low) for weight, entry in told),
        mean((weight, entry.high) for weight, entry in told),
        total,
        models.label,
    )


def _latency(requirement: LatencyRequirement, measured: Measured) -> _Term | None:
    found = quantile(measured.histogram, requirement.p, measured.clusters)
    if found is None:
        return None
    optimal, unacceptable = requirement.bounds_us
    return _Term(
        interpolate(found.value_us, optimal, unacceptable),
        interpolate(found.high_us, optimal, unacceptable),
        interpolate(found.low_us, optimal, unacceptable),
    )


def _loss(requirement: LossRequirement, measured: Measured) -> _Term | None:
    base = measured.base_packets
    if base * requirement.unacceptable < SAMPLES_ABOVE:
        return None
    ratio = min(1.0, measured.lost_packets / base)
    low, high = wilson(ratio, base)
    optimal, unacceptable = requirement.optimal, requirement.unacceptable
    return _Term(
        interpolate(ratio, optimal, unacceptable),
        interpolate(high, optimal, unacceptable),
        interpolate(low, optimal, unacceptable),
    )


def interpolate(measured: float, optimal: float, unacceptable: float) -> float:
    """Return 1 at or below `optimal`, 0 at or above `unacceptable`, a straight line between."""
    return min(1.0, max(0.0, 1 - (measured - optimal) / (unacceptable - optimal)))


def wilson(ratio: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a ratio seen among `count`.

    It takes packets as independent, which losses in bursts are not, so it is rather too narrow.
    """
    square = Z_95 * Z_95 / count
    centre = ratio + square / 2
    half = Z_95 * math.sqrt(ratio * (1 - ratio) / count + square / (4 * count))
    return (
        min(ratio, max(0.0, (centre - half) / (1 + square))),
        max(ratio, min(1.0, (centre + half) / (1 + square))),
    )
