"""Percentiles of histograms against the samples themselves."""

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.qoe import quantile
from collector.qoe.histogram import enough

SAMPLES = st.lists(st.floats(50, 12_000_000), min_size=10, max_size=600)
PERCENTILES = st.sampled_from([Fraction(50, 100), Fraction(90, 100), Fraction(95, 100)])


def bucket_of(us: float) -> int:
    return min(255, max(0, math.floor(math.log(us / 50) / math.log(1.05))))


def histogram_of(samples: list[float]) -> dict[int, int]:
    histogram: dict[int, int] = {}
    for sample in samples:
        histogram[bucket_of(sample)] = histogram.get(bucket_of(sample), 0) + 1
    return histogram


@given(SAMPLES, PERCENTILES)
def test_a_percentile_is_within_2_5_percent_of_the_exact_one(
    samples: list[float], p: Fraction
) -> None:
    found = quantile(histogram_of(samples), p, len(samples))
    if not enough(p, len(samples)):
        assert found is None
        return
    exact = sorted(samples)[math.ceil(len(samples) * p) - 1]
    assert found is not None
    assert found.value_us == pytest.approx(exact, rel=0.025)


@pytest.mark.parametrize(
    ("percent", "needed"), [("50", 10), ("90", 50), ("95", 100), ("99.9", 5000)]
)
def test_five_samples_must_be_expected_above(percent: str, needed: int) -> None:
    p = Fraction(percent) / 100
    assert quantile({7: needed}, p, 1) is not None
    assert quantile({7: needed - 1}, p, 1) is None


def test_the_interval_covers_the_true_percentile_about_95_times_in_100() -> None:
    rng = random.Random(7)
    p, truth = Fraction(9, 10), 50_000 * math.exp(0.6 * 1.2815516)
    hits = 0
    for _ in range(400):
        samples = [50_000 * rng.lognormvariate(0, 0.6) for _ in range(300)]
        found = quantile(histogram_of(samples), p, len(samples))
        assert found is not None
        # Widened by half a bucket: the bounds are known no better than that.
        hits += found.low_us / 1.025 <= truth <= found.high_us * 1.025
    assert 0.93 <= hits / 400 <= 1
