"""Thresholds by hand-counted examples, and against trying every one."""

from __future__ import annotations

import numpy as np
import pytest

from gensoup.bench.thresholds import certain, choose_thresholds


def rows(*entries: tuple[int, float], classes: int = 2) -> np.ndarray:
    """Probabilities whose winner is the given class with the given probability."""
    out = np.empty((len(entries), classes))
    for row, (winner, probability) in zip(out, entries, strict=True):
        row[:] = (1 - probability) / (classes - 1)
        row[winner] = probability
    return out


def test_wrong_calls_below_all_right_ones_are_cut_off() -> None:
    truth = np.array([1, 1, 0, 0, 0, 1])
    probabilities = rows((0, 0.55), (0, 0.6), (0, 0.7), (0, 0.8), (0, 0.9), (1, 0.9))
    thresholds = choose_thresholds(truth, probabilities)
    assert thresholds == pytest.approx([0.65, 0])
    assert certain(probabilities, thresholds).tolist() == [False, False, True, True, True, True]


def test_what_is_only_right_is_never_doubted() -> None:
    truth = np.array([0, 0, 1, 1])
    assert choose_thresholds(truth, rows((0, 0.51), (0, 0.99), (1, 0.6), (1, 0.7))).tolist() == [0, 0]


def test_recall_is_kept() -> None:
    """One wrong call among ten right ones below it: cutting them all off would leave a recall of 0."""
    truth = np.array([1, *[0] * 10])
    probabilities = rows((0, 0.95), *[(0, 0.6 + index / 100) for index in range(10)])
    assert choose_thresholds(truth, probabilities)[0] == 0
    # Where three of four calls are wrong, F1 would give up the one right call in five at the bottom, recall not.
    truth = np.array([1, 1, 1, 0, *[0] * 4])
    probabilities = rows((0, 0.61), (0, 0.62), (0, 0.63), (0, 0.60), *[(0, 0.9)] * 4)
    assert choose_thresholds(truth, probabilities)[0] == 0
    assert choose_thresholds(truth, probabilities, least_recall=0.8)[0] == pytest.approx(0.765)


def test_a_class_below_the_line_loses_nothing_more() -> None:
    truth = np.array([0, 0, 0, 0, 1])
    probabilities = rows((1, 0.9), (1, 0.8), (0, 0.7), (0, 0.9), (0, 0.6))
    thresholds = choose_thresholds(truth, probabilities)
    assert thresholds[0] == pytest.approx(0.65)
    assert certain(probabilities, thresholds)[[2, 3]].all()


def f1_and_recall(truth: np.ndarray, probabilities: np.ndarray, label: int, threshold: float) -> tuple[float, float]:
    called = (probabilities.argmax(1) == label) & (probabilities.max(1) >= threshold)
    hits, actual = (called & (truth == label)).sum(), (truth == label).sum()
    return 2 * hits / (called.sum() + actual), hits / actual


def test_against_trying_every_threshold() -> None:
    generator = np.random.default_rng(3)
    for _ in range(10):
        truth = generator.integers(0, 3, 60)
        logits = generator.normal(0, 1, (60, 3)) + 1.5 * np.eye(3)[truth]
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        chosen = choose_thresholds(truth, probabilities)
        for label in range(3):
            tried = [f1_and_recall(truth, probabilities, label, t) for t in np.linspace(0, 1, 1001)]
            floor = min(0.85, tried[0][1])
            f1, recall = f1_and_recall(truth, probabilities, label, chosen[label])
            assert f1 >= max(f1 for f1, recall in tried if recall >= floor) - 1e-9
            assert recall >= floor


def test_a_class_without_images_or_calls_gets_0() -> None:
    assert choose_thresholds(np.array([0, 0]), rows((0, 0.9), (0, 0.5), classes=3)).tolist() == [0, 0, 0]
    assert choose_thresholds(np.array([], int), np.empty((0, 2))).tolist() == [0, 0]
