"""The probe tells failures apart, and from what only looks like one, on real programs' traffic."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.laboratory import needs_laboratory
from tests.system.laboratory.confusion import Confusion


@needs_laboratory
@pytest.mark.timeout(280)
def test_causes_of_failures_are_told_apart(tmp_path: Path, tool: Callable[[str], str]) -> None:
    for program in ("nginx", "openssl", "curl", "chromium"):
        tool(program)
    from tests.system.laboratory.failures import confusion, measure, report

    judgements = measure(tmp_path)
    text = report(judgements)
    print(text)
    assert not [one for one in judgements if "BROKEN" in one.notes], text
    assert not [one for one in judgements if one.found == "missing"], text
    assert confusion(judgements).macro_f1() >= 0.95, text
    right = [one for one in judgements if one.cause_is_right]
    assert sum(one.is_right for one in right) >= 0.95 * len(right), text


def test_the_figure_counts_every_class_alike() -> None:
    perfect = Confusion([("none", "none")] * 98 + [("dns_timeout", "dns_timeout")] * 2)
    assert perfect.macro_f1() == 1.0
    blind = Confusion([("none", "none")] * 98 + [("dns_timeout", "none")] * 2)
    assert blind.macro_f1() == pytest.approx((196 / 198 + 0) / 2)


def test_a_word_that_nobody_expected_costs() -> None:
    wrong = Confusion([("none", "none"), ("none", "reset_by_client")])
    assert wrong.macro_f1() == pytest.approx((2 / 3 + 0) / 2)
