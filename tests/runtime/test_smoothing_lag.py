from __future__ import annotations

import math

import numpy as np
import pytest

from gensoup.runtime import Prediction, Result, State
from gensoup.runtime.smoothing import Labelling, Method, Smoother, Smoothing
from gensoup.runtime.smoothing_lag import LagMeter, step_lag_ms

A, B = np.array([1, 0], np.float32), np.array([0, 1], np.float32)


def simulated(smoothing: Smoothing, rate: float, threshold: float, onto: int) -> float:
    """What :func:`step_lag_ms` computes, found with a smoother and a second or five of frames."""
    labelling = Labelling.of(("a", "b"), {"a": threshold, "b": threshold})
    smoother = Smoother(labelling, smoothing)
    before, after = (B, A) if onto == 0 else (A, B)
    steps = int(6 * rate)
    for number in range(steps):
        smoother.update(Prediction("", 1 - onto, 1.0, before, 0, 0), number / rate)
    for number in range(steps):
        shown = smoother.update(Prediction("", onto, 1.0, after, 0, 0), (steps + number) / rate)
        if shown.index == onto and shown.certain:
            return number / rate * 1e3
    raise AssertionError("never shown")


@pytest.mark.parametrize("method", ["exponential", "vote"])
@pytest.mark.parametrize("rate", [25.0, 59.94, 120.0])
@pytest.mark.parametrize(("margin", "hold_s"), [(0.1, 0.1), (0.0, 0.0), (0.5, 0.25)])
@pytest.mark.parametrize("threshold", [0.0, 0.95])
def test_the_computed_lag_is_what_a_simulation_shows(
    method: Method, rate: float, margin: float, hold_s: float, threshold: float
) -> None:
    smoothing = Smoothing(method, margin=margin, hold_s=hold_s)
    for onto in (0, 1):
        assert simulated(smoothing, rate, threshold, onto) == pytest.approx(step_lag_ms(smoothing, rate, threshold))


def test_lags_of_the_defaults() -> None:
    assert step_lag_ms(Smoothing("none"), 60) == 0
    assert step_lag_ms(Smoothing(), 1e6) == pytest.approx(1e3 * (0.2 * math.log(2 / 0.9) + 0.1), abs=0.01)
    assert step_lag_ms(Smoothing("vote"), 1e6) == pytest.approx(1e3 * (0.5 * 0.55 + 0.1), abs=0.01)
    assert step_lag_ms(Smoothing(), 60, threshold=1.0) == math.inf


def run(meter: LagMeter, smoother: Smoother, raw: list[np.ndarray], rate: float = 50.0) -> None:
    for number, probabilities in enumerate(raw):
        at = 3 + number / rate
        index = int(probabilities.argmax())
        prediction = Prediction("", index, 1.0, probabilities, 0, 0)
        smoothed = smoother.update(prediction, at)
        meter.add(Result(number, at, at, at, at + 0.001, 0, State.OK, prediction, "engine", smoothed=smoothed))


def test_the_measured_lag_of_a_clean_step_is_the_computed_one() -> None:
    smoothing = Smoothing(margin=0.2, hold_s=0.05)
    meter = LagMeter(smoothing, 50.0)
    run(meter, Smoother(Labelling.of(("a", "b")), smoothing), [A] * 200 + [B] * 200 + [A] * 200)
    summary = meter.summary()
    assert summary.changes_ms == pytest.approx([step_lag_ms(smoothing, 50)] * 2)
    assert summary.step_lag_ms == step_lag_ms(smoothing, 50)
    assert (summary.raw_changes, summary.results, summary.uncertain, summary.resets) == (2, 600, 0, {})
    decay = math.exp(-0.02 / 0.2)
    assert summary.evidence_age_ms == pytest.approx(20 * decay / (1 - decay), rel=0.01)  # mean of a geometric law


def test_flicker_counts_from_the_last_time_that_both_agreed() -> None:
    smoothing = Smoothing("vote", window_s=0.1, margin=0, hold_s=0)  # five frames
    meter = LagMeter(smoothing, 50.0)
    run(meter, Smoother(Labelling.of(("a", "b")), smoothing), [A] * 10 + [B, A, B, B] + [B] * 10)
    assert meter.summary().changes_ms == pytest.approx([20])  # shown with the second frame after the lone A
    assert meter.summary().raw_changes == 3


def test_resets_uncertain_and_failed_results_are_counted() -> None:
    smoothing = Smoothing("none", gap_s=0.5)
    meter = LagMeter(smoothing, None)
    smoother = Smoother(Labelling.of(("a", "b"), {"a": 0.9, "b": 0.9}), smoothing)
    unsure = np.array([0.6, 0.4], np.float32)
    run(meter, smoother, [A, unsure, B], rate=1.0)
    meter.add(Result(3, 9.0, 9.0, 9.0, 9.1, 0, State.FAILED, None, "engine", "lost"))
    summary = meter.summary()
    assert (summary.resets, summary.uncertain, summary.results, summary.changes_ms) == ({"gap": 2}, 1, 3, ())
    assert summary.step_lag_ms is None
