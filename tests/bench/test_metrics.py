"""Metrics against scikit-learn, in ordinary and degenerate cases, and what bootstrap intervals must do."""

from __future__ import annotations

import doctest
import json
import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import log_loss, matthews_corrcoef, precision_recall_fscore_support

from gensoup.bench import metrics
from gensoup.bench.metrics import (
    SUMMARY_NAMES,
    calibration_error,
    confusion_matrix,
    negative_log_likelihood,
    per_class,
    score,
    summaries,
    summarise,
)

Drawn = tuple[NDArray[np.int64], NDArray[np.int64], int]


def draw(seed: int) -> Drawn:
    """Truth and predictions over K classes; odd seeds leave out some classes of the truth, the predictions, or both."""
    generator = np.random.default_rng(seed)
    classes = int(generator.integers(2, 9))
    n = int(generator.integers(1, 120))
    truth = generator.integers(0, classes, n)
    predicted = np.where(generator.random(n) < generator.random(), truth, generator.integers(0, classes, n))
    if seed % 2:
        truth = np.minimum(truth, generator.integers(0, classes))
        predicted = np.minimum(predicted, generator.integers(0, classes))
    return truth, predicted, classes


def probabilities_of(seed: int, n: int = 200, classes: int = 4) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Probabilities that favour the truth."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, n)
    logits = generator.normal(size=(n, classes))
    logits[np.arange(n), truth] += 1.5
    odds = np.exp(logits)
    return truth, odds / odds.sum(1, keepdims=True)


@pytest.mark.parametrize("seed", range(80))
def test_agrees_with_scikit_learn(seed: int) -> None:
    truth, predicted, classes = draw(seed)
    confusion = confusion_matrix(truth, predicted, classes)
    assert confusion.dtype == np.int64
    assert np.array_equal(confusion, sklearn_confusion(truth, predicted, labels=range(classes)))

    got = summarise(confusion)
    assert tuple(got) == SUMMARY_NAMES
    present = np.unique(truth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of each class that one side alone has
        precision, recall, f1, _ = precision_recall_fscore_support(
            truth, predicted, labels=present, average="macro", zero_division=0
        )
        mcc = matthews_corrcoef(truth, predicted)
    assert got["accuracy"] == pytest.approx(np.mean(truth == predicted))
    assert got["mcc"] == pytest.approx(mcc, abs=1e-12)
    assert got["macro_precision"] == pytest.approx(precision)
    assert got["macro_recall"] == pytest.approx(recall)
    assert got["macro_f1"] == pytest.approx(f1)
    columns = per_class(confusion)
    assert got["macro_specificity"] == pytest.approx(columns["specificity"][present].mean())
    harmonic = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    assert got["f1_of_macros"] == pytest.approx(harmonic)


@pytest.mark.parametrize("seed", range(40))
def test_classes_agree_with_scikit_learn(seed: int) -> None:
    truth, predicted, classes = draw(seed)
    got = per_class(confusion_matrix(truth, predicted, classes))
    expected = precision_recall_fscore_support(truth, predicted, labels=range(classes), zero_division=0)
    for name, column in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert got[name] == pytest.approx(column), name
    for label in range(classes):  # specificity is the recall of "not this class"
        _, recall, _, _ = precision_recall_fscore_support(
            truth != label, predicted != label, labels=[True], zero_division=0
        )
        assert got["specificity"][label] == pytest.approx(recall[0])


def test_a_class_never_predicted_has_precision_0_and_still_counts() -> None:
    got = summarise(np.array([[4, 0], [2, 0]]))
    assert got["macro_precision"] == pytest.approx((4 / 6 + 0) / 2)
    assert got["macro_recall"] == pytest.approx(0.5)
    assert got["mcc"] == 0.0


def test_a_class_without_images_is_no_class_that_was_missed() -> None:
    got = summarise(np.array([[3, 0, 1], [0, 4, 0], [0, 0, 0]]))  # one image is called what the folder has none of
    assert got["macro_recall"] == pytest.approx((0.75 + 1) / 2)
    assert got["macro_precision"] == 1 and got["accuracy"] == 7 / 8


def test_draws_of_one_class_alone_say_nothing_of_mcc() -> None:
    truth, sure = np.array([0, 0, 0, 1]), np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    scores = score(truth, sure)  # (3/4)^4 of the draws have no image of the second class
    assert scores.intervals["mcc"] == (1.0, 1.0)
    assert "mcc" not in score(truth[:3], sure[:3]).intervals


def test_classes_that_never_occur_do_not_count() -> None:
    confusion = np.zeros((9, 9), int)
    confusion[:2, :2] = [[5, 1], [2, 7]]
    assert summarise(confusion) == pytest.approx(summarise(confusion[:2, :2]))


def test_no_image_at_all_gives_zeros() -> None:
    assert set(summarise(np.zeros((3, 3), int)).values()) == {0.0}
    empty = score([], np.zeros((0, 3)))
    assert empty.n == 0
    assert empty.intervals == {}
    assert empty.calibration_error == 0.0


def test_leading_dimensions_are_vectorised() -> None:
    stack = np.random.default_rng(0).integers(0, 6, (5, 2, 4, 4))
    stack[0, 0] = 0
    stack[1, 1, :, 2:] = 0
    together = summaries(stack)
    for place in np.ndindex(5, 2):
        alone = summarise(stack[place])
        assert {name: values[place] for name, values in together.items()} == pytest.approx(alone)


def test_large_counts_do_not_overflow() -> None:
    confusion = np.array([[4, 1], [2, 5]])
    assert summarise(confusion * 10**9) == pytest.approx(summarise(confusion))


@pytest.mark.parametrize(("truth", "predicted"), [([0, 1], [0]), ([0, 3], [0, 0]), ([0, 0], [0, -1])])
def test_confusion_refuses_what_does_not_fit(truth: list[int], predicted: list[int]) -> None:
    with pytest.raises(ValueError, match="must"):
        confusion_matrix(truth, predicted, 3)


def test_calibration_error_by_hand() -> None:
    # Steps of 0.5: two images at 0.6 (one right), two at 1.0 (both right); gap .5 × |.6 − .5| + .5 × 0.
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.0, 1.0], [1.0, 0.0]])
    assert calibration_error([0, 1, 1, 0], probabilities, bins=5) == pytest.approx(0.05)


def test_calibration_error_agrees_with_a_plain_loop() -> None:
    truth, probabilities = probabilities_of(3)
    top, right = probabilities.max(1), probabilities.argmax(1) == truth
    expected = 0.0
    for step in range(15):
        inside = (top > step / 15) & (top <= (step + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(top[inside].mean() - right[inside].mean())
    assert calibration_error(truth, probabilities) == pytest.approx(expected)


def test_calibration_error_tells_honest_from_overconfident() -> None:
    generator = np.random.default_rng(1)
    top = generator.uniform(0.5, 1, 20_000)
    truth = (generator.random(20_000) > top).astype(int)
    honest = np.stack([top, 1 - top], 1)
    boastful = np.stack([np.full_like(top, 0.999), np.full_like(top, 0.001)], 1)
    assert calibration_error(truth, honest) < 0.02
    assert calibration_error(truth, boastful) == pytest.approx(0.249, abs=0.02)


def test_likelihood_agrees_with_scikit_learn() -> None:
    truth, probabilities = probabilities_of(5)
    assert negative_log_likelihood(truth, probabilities) == pytest.approx(log_loss(truth, probabilities))


def test_likelihood_of_an_impossible_answer_is_finite() -> None:
    worst = negative_log_likelihood([0], np.array([[0.0, 1.0]]))
    assert worst == pytest.approx(15.94, abs=0.01)


def test_scores_have_the_promised_names_and_survive_json() -> None:
    truth, probabilities = probabilities_of(0)
    values = json.loads(json.dumps(score(truth, probabilities).to_dict(), allow_nan=False))
    assert set(values) == {
        *("n", *SUMMARY_NAMES, "confusion_matrix", "calibration_error", "intervals"),
        *("negative_log_likelihood", "per_class"),
    }
    assert set(values["intervals"]) == {*SUMMARY_NAMES, "calibration_error", "negative_log_likelihood"}
    assert values["n"] == 200
    assert np.sum(values["confusion_matrix"]) == 200
    for name, (low, high) in values["intervals"].items():
        assert low < values[name] < high, name


def test_the_seed_decides_the_intervals() -> None:
    truth, probabilities = probabilities_of(0)
    assert score(truth, probabilities, seed=1).intervals == score(truth, probabilities, seed=1).intervals
    assert score(truth, probabilities, seed=1).intervals != score(truth, probabilities, seed=2).intervals


def test_resampling_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, probabilities = probabilities_of(0)
    whole = score(truth, probabilities, resamples=50).intervals
    monkeypatch.setattr(metrics, "_CELLS_AT_ONCE", 16 * 7)
    assert score(truth, probabilities, resamples=50).intervals == whole


def test_intervals_agree_with_a_bootstrap_that_copies_images() -> None:
    truth, probabilities = probabilities_of(2, n=60)
    groups = np.arange(60) // 3
    generator = np.random.default_rng(0)
    draws = []
    for _ in range(1000):
        drawn = np.concatenate([np.flatnonzero(groups == group) for group in generator.integers(20, size=20)])
        draws.append(score(truth[drawn], probabilities[drawn], resamples=0))
    intervals = score(truth, probabilities, list(groups)).intervals
    for name in (*SUMMARY_NAMES, "negative_log_likelihood"):
        expected = np.quantile([getattr(one, name) for one in draws], [0.025, 0.975])
        assert intervals[name] == pytest.approx(expected, abs=1e-9), name


def test_groups_widen_intervals_when_their_images_agree() -> None:
    generator = np.random.default_rng(4)
    right = np.repeat(generator.random(20) < 0.7, 25)
    truth = generator.integers(0, 2, 500)
    answer = np.where(right, truth, 1 - truth)
    probabilities = np.where(np.arange(2) == answer[:, None], 0.8, 0.2)

    def width(groups: list[str] | None) -> float:
        low, high = score(truth, probabilities, groups).intervals["accuracy"]
        return high - low

    patients = [f"patient {index // 25}" for index in range(500)]
    assert width(patients) > 3 * width(None)


def test_intervals_cover_the_true_accuracy() -> None:
    generator = np.random.default_rng(7)
    covered = 0
    for _ in range(200):
        truth = generator.integers(0, 2, 150)
        answer = np.where(generator.random(150) < 0.8, truth, 1 - truth)
        probabilities = np.where(np.arange(2) == answer[:, None], 0.8, 0.2)
        low, high = score(truth, probabilities, resamples=200).intervals["accuracy"]
        covered += low <= 0.8 <= high
    assert 178 <= covered <= 199  # 190 expected, standard deviation 3.1; percentile intervals run slightly narrow


def test_what_cannot_be_told_from_guessing_is_said() -> None:
    truth = np.arange(60) % 3
    right = np.eye(3)[truth] * 0.8 + 0.1
    assert score(truth, right).chance_remark is None
    one_answer = score(truth, np.tile([0.8, 0.1, 0.1], (60, 1)))
    assert "on 60 images (0.000, 95% 0.000 to 0.000)" in str(one_answer.chance_remark)
    shuffled = right[np.random.default_rng(0).permutation(60)]
    assert "cannot be told from 0" in str(score(truth, shuffled).chance_remark)
    alone = score(truth, right, groups=["one"] * 60)  # no interval: the estimate itself is all there is
    assert alone.intervals == {} and alone.chance_remark is None


def test_one_group_alone_gives_no_intervals() -> None:
    truth, probabilities = probabilities_of(0)
    assert score(truth, probabilities, ["p"] * 200).intervals == {}


def test_the_interval_of_the_calibration_error_holds_its_estimate() -> None:
    for seed in range(10):
        scores = score(*probabilities_of(seed, n=80), resamples=300)
        low, high = scores.intervals["calibration_error"]
        assert 0 <= low <= scores.calibration_error <= high


@pytest.mark.parametrize(
    ("truth", "probabilities"),
    [
        ([0, 1], np.ones((3, 2))),
        ([0, 2], np.full((2, 2), 0.5)),
        ([0, 1], np.array([[0.5, np.nan], [0.5, 0.5]])),
        ([[0]], np.ones((1, 1))),
    ],
)
def test_score_refuses_what_does_not_fit(truth: list[int], probabilities: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="must"):
        score(truth, probabilities)


def test_score_refuses_groups_of_another_length() -> None:
    with pytest.raises(ValueError, match="groups"):
        score([0, 1], np.full((2, 2), 0.5), ["a"])


def test_examples_in_docstrings_run() -> None:
    assert doctest.testmod(metrics).failed == 0
    assert doctest.testmod(metrics).attempted > 0
