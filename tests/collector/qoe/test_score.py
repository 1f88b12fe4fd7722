"""Scores: the draft's example, hand-made vectors, and what must hold for any input."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.qoe import Measured, Models, ServiceClass, combine, score
from collector.qoe.models import LatencyRequirement, LossRequirement, ModelFile, Requirement
from collector.qoe.score import interpolate, wilson
from probe.errors import ConfigError
from probe.record.schema import histogram_bucket_us
from probe.settings import load

ROOT = Path(__file__).parents[3]
MODELS = Models.load(ROOT / "configs/models/default.yaml")

HISTOGRAMS = st.dictionaries(st.integers(0, 255), st.integers(1, 400), max_size=30)


def _models(latency: list[tuple[float, str, str]], loss: tuple[str, str]) -> Models:
    requirement = Requirement(
        latency=tuple(
            LatencyRequirement(percentile=p, optimal=optimal, unacceptable=unacceptable)
            for p, optimal, unacceptable in latency
        ),
        loss=LossRequirement(optimal=loss[0], unacceptable=loss[1]),
    )
    return Models(ModelFile(name="t", version=3, classes=dict.fromkeys(ServiceClass, requirement)))


def _measured(histogram: dict[int, int], lost: int = 0, packets: int = 0) -> Measured:
    return Measured(histogram, lost, packets, clusters=1000)


def test_the_worked_example_of_the_qoo_draft_section_3_4() -> None:
    """p99 = 350 ms in 200..500 is 0.5, p99.9 = 375 ms in 300..600 is 0.75, 2 % in 1..5 is 0.75."""
    assert interpolate(350, 200, 500) == pytest.approx(0.5)
    assert interpolate(375, 300, 600) == pytest.approx(0.75)
    assert interpolate(0.02, 0.01, 0.05) == pytest.approx(0.75)
    models = _models([(99, "200ms", "500ms"), (99.9, "300ms", "600ms")], ("1%", "5%"))
    at_350, at_375 = _bucket(350_000), _bucket(375_000)
    histogram = {20: 9800, at_350: 180, at_375: 20}
    exact = 100 * (1 - (histogram_bucket_us(at_350) - 200_000) / 300_000)
    found = score(models, "web", _measured(histogram, lost=2_000, packets=100_000))
    assert found.value == pytest.approx(exact)
    assert found.value == pytest.approx(50, abs=100 * 350 * 0.025 / 300)
    assert found.model == "t@3"


def _bucket(us: float) -> int:
    return min(range(256), key=lambda bucket: abs(histogram_bucket_us(bucket) - us))


def test_loss_alone_can_decide() -> None:
    models = _models([(50, "100ms", "500ms")], ("1%", "5%"))
    found = score(models, "web", _measured({10: 100}, lost=30, packets=1000))
    assert found.value == pytest.approx(50)


def test_a_percentile_without_enough_samples_has_no_part_and_none_at_all_is_null() -> None:
    models = _models([(50, "100ms", "500ms"), (99, "100ms", "500ms")], ("1%", "5%"))
    slow = _bucket(400_000)
    assert score(models, "web", _measured({0: 9})).value is None
    assert score(models, "web", _measured({0: 489, slow: 10})).value == 100  # p99 needs 500
    assert score(models, "web", _measured({0: 490, slow: 10})).value < 50
    nothing = score(models, "web", _measured({}, lost=5, packets=10))
    assert (nothing.value, nothing.low, nothing.high, nothing.samples) == (None, None, None, 0)


def test_loss_counts_only_where_five_packets_would_be_lost_at_the_unacceptable_ratio() -> None:
    models = _models([(50, "100ms", "500ms")], ("1%", "5%"))
    assert score(models, "web", _measured({0: 50}, lost=50, packets=99)).value == 100
    assert score(models, "web", _measured({0: 50}, lost=50, packets=100)).value == 0


@given(HISTOGRAMS, st.integers(0, 255), st.integers(1, 255), st.sampled_from(list(ServiceClass)))
def test_a_slower_sample_never_raises_a_score(
    histogram: dict[int, int], bucket: int, more: int, service_class: ServiceClass
) -> None:
    faster = dict(histogram) | {bucket: histogram.get(bucket, 0) + 1}
    slower_bucket = min(255, bucket + more)
    slower = dict(histogram) | {slower_bucket: histogram.get(slower_bucket, 0) + 1}
    before = score(MODELS, service_class, _measured(faster))
    after = score(MODELS, service_class, _measured(slower))
    _not_better(before, after)


@given(HISTOGRAMS, st.integers(0, 5000), st.integers(0, 5000), st.integers(1, 10_000))
def test_more_loss_never_raises_a_score(
    histogram: dict[int, int], lost: int, more: int, packets: int
) -> None:
    before = score(MODELS, "web", _measured(histogram, lost, packets))
    after = score(MODELS, "web", _measured(histogram, lost + more, packets))
    _not_better(before, after)


def _not_better(before: object, after: object) -> None:
    for name in ("value", "low", "high"):
        was, now = getattr(before, name), getattr(after, name)
        assert (was is None) == (now is None)
        if was is not None:
            assert now <= was + 1e-9


@given(st.lists(HISTOGRAMS, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_merging_never_changes_a_score(parts: list[dict[int, int]], random) -> None:
    shuffled = parts[:]
    random.shuffle(shuffled)
    assert score(MODELS, "web", _measured(_merged(parts))) == score(
        MODELS, "web", _measured(_merged(shuffled))
    )


def _merged(parts: list[dict[int, int]]) -> dict[int, int]:
    merged: dict[int, int] = {}
    for part in parts:
        for bucket, count in part.items():
            merged[bucket] = merged.get(bucket, 0) + count
    return merged


@given(HISTOGRAMS, st.integers(0, 500), st.integers(0, 5000), st.integers(0, 300))
def test_the_interval_holds_the_value_and_stays_in_range(
    histogram: dict[int, int], lost: int, packets: int, clusters: int
) -> None:
    found = score(MODELS, "gaming", Measured(histogram, lost, packets, clusters))
    if found.value is None:
        assert found.low is None and found.high is None
    else:
        assert 0 <= found.low <= found.value <= found.high <= 100


def test_fewer_subscribers_give_a_wider_interval() -> None:
    histogram = dict.fromkeys(range(140, 190), 50)
    few = score(MODELS, "web", Measured(histogram, 0, 0, clusters=4))
    many = score(MODELS, "web", Measured(histogram, 0, 0, clusters=400))
    assert few.value == many.value
    assert few.high - few.low > many.high - many.low > 0


def test_classes_combine_by_their_samples_and_those_without_a_score_have_no_part() -> None:
    models = _models([(50, "100ms", "500ms")], ("1%", "5%"))
    good = score(models, "web", _measured({0: 300}))
    bad = score(models, "video", _measured({255: 100}))
    unknown = score(models, "voice", _measured({255: 3}))
    both = combine(models, [good, bad, unknown])
    assert both.value == pytest.approx(75)
    assert both.samples == 400
    assert combine(models, [unknown]).value is None
    assert combine(models, []).value is None


def test_wilson_agrees_with_a_value_worked_out_by_hand() -> None:
    """10 of 50, computed by hand: 0.1124 to 0.3304."""
    low, high = wilson(0.2, 50)
    assert low == pytest.approx(0.1124, abs=5e-4)
    assert high == pytest.approx(0.3304, abs=5e-4)


def test_a_model_tells_every_fault_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(
        "name: default\nversion: 0\nclasses:\n  web:\n    latency:\n"
        "      - {percentile: 50, optimal: 500ms, unacceptable: 100ms}\n"
        "    loss: {optimal: 1, unacceptable: 5%}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(path, ModelFile)
    text = str(caught.value)
    assert "model.yaml:2: version" in text
    assert "optimal must be less than unacceptable" in text
    assert "0% to 100%" in text


def test_percentiles_are_exact_fractions() -> None:
    entry = LatencyRequirement(percentile=99.9, optimal="1ms", unacceptable="2ms")
    assert entry.p == Fraction(999, 1000)
