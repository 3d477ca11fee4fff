from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from gensoup.runtime import Classifier, Prediction, Result, State, Stream
from gensoup.runtime.errors import UsageError
from gensoup.runtime.replay_smoother import ReplaySmoother
from gensoup.runtime.smoothing import Labelling, Method, Smoothed, Smoother, Smoothing
from gensoup.runtime.sources.synthetic import SyntheticEndoscope

LABELS = ("blue", "green", "red")
PLAIN = Labelling.of(LABELS)


def prediction(*probabilities: float) -> Prediction:
    values = np.array(probabilities, np.float32)
    index = int(values.argmax())
    return Prediction(LABELS[index % 3], index, float(values[index]), values, 0.0, 0.0)


BLUE, GREEN, RED = prediction(1, 0, 0), prediction(0, 1, 0), prediction(0, 0, 1)


def feed(smoother: Smoother, predictions: list[Prediction], rate: float = 60.0, start: float = 5.0) -> list[Smoothed]:
    return [smoother.update(given, start + number / rate) for number, given in enumerate(predictions)]


def test_none_gives_the_raw_winner_and_applies_thresholds() -> None:
    smoother = Smoother(Labelling.of(LABELS, {"blue": 0.5, "green": 0.9, "red": 0.0}), Smoothing("none"))
    shown = feed(smoother, [prediction(0.5, 0.3, 0.2), prediction(0.2, 0.8, 0), prediction(0.1, 0.9, 0), RED])
    assert [one.label for one in shown] == ["blue", None, None, "red"]  # .9 as float32 lies below .9
    assert [one.index for one in shown] == [0, 1, 1, 2]
    assert [one.certain for one in shown] == [True, False, False, True]
    assert [one.lag_ms for one in shown] == [0, 0, 0, 0]
    assert shown[0].probabilities.dtype == np.float32


@pytest.mark.parametrize("method", ["exponential", "vote"])
def test_single_wrong_frames_do_not_show(method: Method) -> None:
    wrong = [RED if number % 9 == 5 else BLUE for number in range(120)]
    shown = feed(Smoother(PLAIN, Smoothing(method)), wrong)
    assert {one.label for one in shown} == {"blue"}
    assert min(one.probability for one in shown[30:]) > 0.8


@pytest.mark.parametrize("method", ["exponential", "vote"])
def test_what_is_shown_does_not_depend_on_the_frame_rate(method: Method) -> None:
    probabilities = {}
    for rate in (30.0, 120.0):
        frames = int(rate)
        shown = feed(Smoother(PLAIN, Smoothing(method)), [BLUE] * frames + [RED] * frames, rate)
        probabilities[rate] = [shown[frames + int(0.1 * part * rate) - 1].probabilities[2] for part in range(1, 8)]
    assert probabilities[30.0] == pytest.approx(probabilities[120.0], abs=1e-3 if method == "exponential" else 0.02)


def test_the_exponential_mean_is_the_kernel_it_is_said_to_be() -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.001, 0.1, 50))
    values = rng.dirichlet([1, 1, 1], 50).astype(np.float32)
    smoother = Smoother(PLAIN, Smoothing(time_constant_s=0.3))
    for at, given in zip(times, values, strict=True):
        last = smoother.update(prediction(*given), float(at))
    weights = np.exp(-(times[-1] - times) / 0.3)
    assert last.probabilities == pytest.approx(weights @ values / weights.sum(), abs=1e-6)
    assert last.lag_ms == pytest.approx(1e3 * weights @ (times[-1] - times) / weights.sum())


def test_the_vote_counts_the_frames_of_its_window() -> None:
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.uniform(0.001, 0.1, 80))
    values = rng.dirichlet([1, 1, 1], 80).astype(np.float32)
    smoother = Smoother(PLAIN, Smoothing("vote", window_s=0.4, margin=0, hold_s=0))
    for number, (at, given) in enumerate(zip(times, values, strict=True)):
        last = smoother.update(prediction(*given), float(at))
        seen = [n for n in range(number + 1) if times[n] > at - 0.4]
        votes = np.bincount(values[seen].argmax(1), minlength=3)
        assert votes[last.index] == votes.max()
        assert last.probabilities == pytest.approx(values[seen].mean(0), abs=1e-6)
        assert last.lag_ms == pytest.approx(1e3 * (at - times[seen].mean()), abs=1e-6)


def test_a_label_holds_until_another_leads_by_the_margin() -> None:
    close = [prediction(0.52, 0.48, 0), prediction(0.48, 0.52, 0)] * 60
    for margin, changes in ((0.3, 0), (0.0, 1)):
        smoother = Smoother(PLAIN, Smoothing(margin=margin, hold_s=0.0, time_constant_s=0.01))
        shown = [one.index for one in feed(smoother, close)]
        assert sum(a != b for a, b in pairwise(shown)) >= changes
        assert margin == 0 or set(shown) == {0}


def test_a_challenger_that_gives_way_starts_its_hold_time_anew() -> None:
    smoother = Smoother(PLAIN, Smoothing(time_constant_s=0.001, hold_s=0.1))
    burst = [BLUE] * 5 + ([RED] * 6 + [BLUE]) * 5  # 100 ms from the first to the seventh frame at 60 Hz
    assert {one.label for one in feed(smoother, burst)} == {"blue"}
    assert feed(smoother, [RED] * 7, start=5 + len(burst) / 60)[-1].label == "red"


def test_uncertain_below_the_threshold_of_the_label_shown() -> None:
    smoother = Smoother(Labelling.of(LABELS, {"blue": 0.2, "green": 0.9, "red": 0.9}), Smoothing(hold_s=0))
    shown = feed(smoother, [BLUE] * 60 + [GREEN] * 60)
    labels = [one.label for one in shown]
    assert labels[60] == "blue" and labels[-1] == "green"
    assert None in labels[60:]
    for one in shown:
        assert one.certain == (one.label is not None) == (one.probability >= (0.2, 0.9, 0.9)[one.index])


@pytest.mark.parametrize("method", ["exponential", "vote", "none"])
def test_gaps_clocks_that_run_backwards_and_new_labels_start_anew(method: Method) -> None:
    labellings = [PLAIN]
    smoother = Smoother(lambda: labellings[-1], Smoothing(method, gap_s=0.3))
    first = feed(smoother, [BLUE] * 30)
    assert [one.reset for one in first] == ["start"] + [""] * 29
    after = smoother.update(RED, 5 + 29 / 60 + 0.31)
    assert (after.reset, after.label, after.probability, after.lag_ms) == ("gap", "red", 1.0, 0.0)
    after = smoother.update(GREEN, 1.0)
    assert (after.reset, after.label) == ("clock", "green")
    assert smoother.update(GREEN, 1.0).reset == ""  # the same instant twice
    labellings.append(Labelling.of(("a", "b", "c")))
    smoother.reset()
    after = smoother.update(GREEN, 1.1)
    assert (after.reset, after.label) == ("labels", "b")
    labellings.append(Labelling.of(("one", "other"), {"other": 0.99, "one": 0}))
    after = smoother.update(prediction(0.1, 0.9), 1.2)  # another number of labels, unannounced
    assert (after.reset, after.label, after.index) == ("labels", None, 1)
    with pytest.raises(UsageError, match="2 labels for 3"):
        smoother.update(RED, 1.3)


def test_another_scene_is_shown_at_once_and_motion_is_not() -> None:
    here, there = (SyntheticEndoscope(seed, "normal", 120, 160) for seed in (1, 2))
    frames = [here.frame(n / 60) for n in range(30)] + [there.frame(n / 60) for n in range(30)]
    for cuts in (True, False):
        smoother = Smoother(PLAIN, Smoothing(cuts=cuts))
        shown = [
            smoother.update(BLUE if number < 30 else RED, number / 60, frame) for number, frame in enumerate(frames)
        ]
        assert [number for number, one in enumerate(shown) if one.reset == "cut"] == ([30] if cuts else [])
        assert shown[30].label == ("red" if cuts else "blue")


def test_thresholds_of_another_bundle_apply_at_once_and_what_was_seen_is_kept() -> None:
    labellings = [Labelling.of(LABELS, {"blue": 0.9, "green": 0, "red": 0})]
    smoother = Smoother(lambda: labellings[-1])
    assert smoother.update(prediction(0.8, 0.2, 0), 0.0).label is None
    labellings.append(Labelling.of(LABELS, {"blue": 0.7, "green": 0, "red": 0}))
    shown = smoother.update(prediction(0.8, 0.2, 0), 0.1)
    assert (shown.label, shown.reset) == ("blue", "") and shown.lag_ms > 0


def test_a_recording_is_timed_by_its_frames() -> None:
    scene = SyntheticEndoscope(0, "normal", 120, 160)
    other = np.zeros((120, 160, 3), np.uint8)
    for rate_hz, reset in ((10.0, ""), (2.0, "gap")):
        replay = ReplaySmoother(Smoother(PLAIN, Smoothing(gap_s=0.3)), rate_hz)
        for number in range(4):
            replay.expect(number, other if number == 3 else scene.frame(number / rate_hz))
        found = []
        for number, given in enumerate([BLUE, BLUE, None, BLUE]):
            state = State.OK if given is not None else State.FAILED
            result = replay.smoothed(Result(number, 5.0, 5.0, 5.0, 5.0, 0, state, given, "engine"))
            found.append(result.smoothed.reset if isinstance(result.smoothed, Smoothed) else None)
        assert found == ["start", reset, None, "cut" if rate_hz == 10 else "gap"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"method": "median"}, "--smooth 'median'"),
        ({"time_constant_s": 0.0}, "time_constant_s"),
        ({"window_s": float("nan")}, "window_s"),
        ({"gap_s": -1.0}, "gap_s"),
        ({"hold_s": -0.1}, "hold_s"),
        ({"margin": 1.0}, "margin"),
    ],
)
def test_settings_that_make_no_sense_are_named(options: dict[str, float], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Smoothing(**options)  # type: ignore[arg-type]


def test_a_stream_hands_out_smoothed_results_beside_the_raw_ones(tiny_bundle: Path) -> None:
    classifier = Classifier.load(tiny_bundle, threads=1)
    results: list[Result] = []
    smoother = Smoother(Labelling.of_classifier(classifier), Smoothing(cuts=False))
    with Stream(classifier, results.append, sink_size=64, smoother=smoother) as stream:
        for number in range(20):
            frame = np.zeros((40, 40, 3), np.uint8)
            frame[..., 2 if number == 10 else 0] = 250
            stream.push(frame, captured_at=time.monotonic())
            stream.drain(30)
    raw = [result.prediction.label for result in results if result.prediction is not None]
    smoothed = [result.smoothed.label for result in results if isinstance(result.smoothed, Smoothed)]
    assert raw == ["blue"] * 10 + ["red"] + ["blue"] * 9
    assert smoothed == ["blue"] * 20


@pytest.mark.parametrize("method", ["exponential", "vote"])
def test_it_takes_tenths_of_a_millisecond(method: Method) -> None:
    scene = SyntheticEndoscope(0, "normal", 120, 160)
    frames = [scene.frame(number / 60) for number in range(10)]
    smoother = Smoother(PLAIN, Smoothing(method))
    took = []
    for number in range(60):
        started = time.perf_counter()
        smoother.update(BLUE, number / 60, frames[number % 10])
        took.append(time.perf_counter() - started)
    assert min(took[30:]) < 1e-3  # some .1 ms here; the bound is for busy machines
