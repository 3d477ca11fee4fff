from __future__ import annotations

from pathlib import Path

import gate_statistics
import numpy as np
import pytest
from gate_statistics import FAULTY, HEALTHY, Case, passes_blocks, passes_runs, simulate, timelines

from gensoup.bench.judge import judge
from gensoup.bench.measurement import GateSource, Measurement
from gensoup.bench.tier import CERTIFY, QUICK, Tier
from gensoup.bench.trace import Trace
from gensoup.bench.verdict import Outcome

RUNS = 10_000


@pytest.mark.parametrize("case", FAULTY, ids=lambda case: case.name)
def test_certify_passes_the_forbidden_rate_at_most_once_in_a_hundred_runs(case: Case) -> None:
    share = simulate(CERTIFY, case, RUNS)
    assert share.run <= 0.01
    assert share.by_count >= share.repetition


def test_the_count_alone_would_not_do_and_quick_is_a_screen() -> None:
    alone, episodes = FAULTY[0], FAULTY[2]
    assert simulate(QUICK, alone, RUNS).run <= 0.01
    assert simulate(QUICK, episodes, RUNS).run == pytest.approx(np.exp(-1920 * 0.01 / 10), abs=0.02)  # none occurred
    assert simulate(CERTIFY, episodes, 1000).by_count > 0.1


@pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.name)
@pytest.mark.parametrize("tier", [QUICK, CERTIFY], ids=lambda tier: tier.name)
def test_a_healthy_device_with_small_hiccups_seldom_fails(tier: Tier, case: Case) -> None:
    assert 1 - simulate(tier, case, RUNS).run <= 0.05


@pytest.mark.parametrize("case", FAULTY, ids=lambda case: case.name)
def test_timelines_have_the_rate_that_they_claim(case: Case) -> None:
    (timeline,) = timelines(CERTIFY, case, 150, 3)
    assert timeline.missed().mean() == pytest.approx(case.rate, rel=0.1)
    assert timeline.block_counts.sum() == timeline.missed().sum()


@pytest.mark.parametrize(
    ("tier", "case", "runs"), [(QUICK, FAULTY[1], 60), (QUICK, Case("few", 10, 1 / 640), 30), (CERTIFY, FAULTY[2], 6)]
)
def test_what_is_simulated_is_what_the_gate_judges(tier: Tier, case: Case, runs: int) -> None:
    (timeline,) = timelines(tier, case, runs, 5)
    counts = timeline.block_counts.sum(axis=1)
    most = gate_statistics.most_misses(timeline.frames, tier.max_miss_rate)
    passed = (counts <= most) & passes_runs(timeline, tier) & passes_blocks(timeline, tier)
    verdicts = [judged(missed, tier) for missed in timeline.missed()]
    np.testing.assert_array_equal(passed, verdicts)


def judged(missed: np.ndarray, tier: Tier) -> bool:
    """Whether the real judge lets a repetition pass that missed these frames."""
    scheduled = np.arange(len(missed)) / 64.0
    done = scheduled + np.where(missed, 0.02, 0.008)
    nothing, ones = np.zeros(len(missed), bool), np.ones(len(missed))
    trace = Trace(scheduled, scheduled, scheduled, done, ones, ones, nothing, nothing, 64.0, 0.5, 0.4)
    source = GateSource("synthetic", "synthetic", 1080, 1920)
    alone = Tier(**{**tier.to_dict(), "repetitions": 1})
    return judge(Measurement(alone, 64.0, source, "", "", "", {}, (trace,))).verdict is Outcome.PASS


def test_the_table_in_the_documents_is_the_scripts() -> None:
    page = Path(__file__).parents[2] / "docs" / "bench.md"
    text = page.read_text(encoding="utf-8")
    shown = text.partition(gate_statistics.BEGIN)[2].partition(gate_statistics.END)[0]
    assert shown == gate_statistics.table(RUNS)
