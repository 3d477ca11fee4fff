"""Results on disk and the statistics made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quality_results import (
    append,
    bootstrap_interval,
    digest,
    holm,
    key_of,
    read,
    signed_rank,
    student_interval,
    tables,
)

from gensoup.runtime.errors import DataError


def row(method: str, seed: int, mcc: float, **more: Any) -> dict[str, Any]:
    return {
        "data": "frames",
        "method": method,
        "seed": seed,
        "settings": "abc",
        "mcc": mcc,
        "nll": 1 - mcc,
        "nll_untempered": 1 - mcc,
        "images": 100,
        "within_budget": True,
        "cpu_seconds": 1.0,
        "seconds": 1.0,
        **more,
    }


def test_holm_is_monotone_in_p_capped_and_keeps_the_order_given() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]


def test_append_and_read_survive_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    append(path, row("one", 0, 0.5))
    with path.open("a") as file:
        file.write('{"data": "frames", "meth')
    append(path, row("one", 1, 0.6))
    found = read(path)
    assert sorted(found) == [("frames", "one", 0, "abc"), ("frames", "one", 1, "abc")]
    assert found["frames", "one", 1, "abc"]["mcc"] == 0.6


def test_the_later_of_two_results_counts_and_other_settings_are_another_result(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    for one in (row("one", 0, 0.5), row("one", 0, 0.7), row("one", 0, 0.1, settings="changed")):
        append(path, one)
    found = read(path)
    assert {key: one["mcc"] for key, one in found.items()} == {
        ("frames", "one", 0, "abc"): 0.7,
        ("frames", "one", 0, "changed"): 0.1,
    }
    assert read(tmp_path / "none.jsonl") == {}


@pytest.mark.parametrize("line", ['{"mcc": 1}', "[1, 2]", "7"])
def test_a_file_of_something_else_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(DataError, match=r"other\.jsonl: line 1 is no result.*--out"):
        read(path)


def test_a_digest_depends_on_values_and_not_on_their_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert key_of(row("one", 3, 0.5)) == ("frames", "one", 3, "abc")


def test_intervals_hold_the_mean_narrow_with_spread_and_repeat() -> None:
    values = np.random.default_rng(1).normal(0.8, 0.02, 30)
    low, high = bootstrap_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 30**0.5, rel=0.15)
    assert bootstrap_interval(values) == (low, high)
    assert student_interval(np.array([1.0, 3.0])) == pytest.approx((2 - 12.706, 2 + 12.706), abs=1e-3)


def test_signed_rank_is_exact_for_few_pairs() -> None:
    assert signed_rank(np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06])) == pytest.approx(2 / 64)
    assert signed_rank(np.zeros(6)) == 1.0


def test_tables_pair_seeds_that_both_have_and_say_who_spent_too_little() -> None:
    rows = [row("ours", seed, 0.8 + 0.01 * seed) for seed in range(6)]
    rows += [row("other", seed, 0.7 + 0.02 * seed, within_budget=seed > 0) for seed in range(5)]
    text = "\n".join(tables(rows, ["ours", "other"], "ours"))
    assert "| ours | 6 | 0.8250 [" in text
    assert "100–100 (1 under budget)" in text
    # Differences of .10, .09, .08, .07 and .06.
    assert "| other | 5 | +0.0800 [" in text and "| 5–0 | 0.062 | 0.062 |" in text
    assert "so few pairs can give is 0.0625" in text


def test_tables_of_one_method_or_none_have_no_pairs() -> None:
    assert len(tables([row("other", 0, 0.5)], ["other"], "ours")) == 3
    assert len(tables([], ["ours", "other"], "ours")) == 2
