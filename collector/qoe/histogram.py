"""Percentiles of merged latency histograms, with an interval from order statistics.

A histogram maps bucket to count (`probe.record.schema`). The percentile p of n samples is the
sample of rank ceil(n p), so it is exact but for the width of a bucket: 2.5 % at most.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from probe.record.schema import histogram_bucket_us

Histogram = Mapping[int, int]

# A percentile is told only if at least so many samples are expected above it.
SAMPLES_ABOVE: Final = 5
Z_95: Final = 1.959964  # the normal deviate of a two-sided 95 % interval


@dataclass(frozen=True)
class Quantile:
    """A percentile in microseconds and the bounds of its 95 % interval."""

    value_us: float
    low_us: float
    high_us: float


def samples(histogram: Histogram) -> int:
    """Return how many samples a histogram holds."""
    return sum(histogram.values())


def enough(p: Fraction, count: int) -> bool:
    """Say whether `count` samples reach the minimum for the percentile `p`: 5 / (1 - p)."""
    return count * (1 - p) >= SAMPLES_ABOVE


def quantile(histogram: Histogram, p: Fraction, clusters: int) -> Quantile | None:
    """Return the percentile `p` (0 < p < 1), None with fewer than 5 / (1 - p) samples.

    The interval is that of order statistics: the ranks n (p ± z sqrt(p (1 - p) / m)), the normal
    approximation of the binomial, with m the smaller of the samples and the `clusters` from which
    they come. Samples of one cluster (one subscriber, one session) go together, so each cluster
    counts once; this makes the interval wide rather than narrow. Past either end of the ranks
    stands the smallest or largest sample, so that with few clusters the bound is what was seen,
    not what is possible.
    """
    count = samples(histogram)
    if not enough(p, count):
        return None
    effective = max(1, min(count, clusters))
    half = Z_95 * math.sqrt(p * (1 - p) / effective)
    ranks = [
        math.ceil(count * p),
        math.floor(count * (float(p) - half)),
        math.ceil(count * (float(p) + half)) + 1,
    ]
    value, low, high = _values_at(histogram, [min(count, max(1, rank)) for rank in ranks])
    return Quantile(value, low, high)


def _values_at(histogram: Histogram, ranks: list[int]) -> list[float]:
    """Return the sample of each rank (from 1) in microseconds."""
    found: dict[int, float] = {}
    waiting = sorted(set(ranks), reverse=True)
    total = 0
    for bucket in sorted(histogram):
        total += histogram[bucket]
        while waiting and waiting[-1] <= total:
            found[waiting.pop()] = histogram_bucket_us(bucket)
    return [found[rank] for rank in ranks]
