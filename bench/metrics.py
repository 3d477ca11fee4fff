"""Classification metrics with bootstrap intervals (thesis §2.5), on numpy alone.

The macro averages are over the classes that occur in the truth: of the others nothing is known, and a 0 in their place
would say that they were all missed (scikit-learn counts a class in that is predicted only, unless it is given
``labels``). Images called such a class count against their own. A ratio of nothing to nothing is 0, as in scikit-learn.
Rows of a confusion matrix are the truth, columns the predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

SUMMARY_NAMES = (
    "accuracy",
    "mcc",
    "macro_precision",
    "macro_recall",
    "macro_specificity",
    "macro_f1",
    "f1_of_macros",
)
CALIBRATION_BINS = 15
# A float32 softmax can give a probability of exactly 0; a wrong answer of full confidence then costs 15.9 nats.
LEAST_PROBABILITY = float(np.finfo(np.float32).eps)
_CELLS_AT_ONCE = 10_000_000

# What people call the metrics.
TITLES = {
    "accuracy": "Accuracy",
    "mcc": "Matthews' correlation",
    "macro_precision": "Precision (macro)",
    "macro_recall": "Recall (macro)",
    "macro_specificity": "Specificity (macro)",
    "macro_f1": "F1 (mean of classes)",
    "f1_of_macros": "F1 (of macro precision, recall)",
    "calibration_error": "Calibration error",
    "negative_log_likelihood": "Negative log-likelihood",
}


@dataclass(frozen=True, eq=False)
class Scores:
    """How well N predictions fit the truth.

    confusion_matrix: int64 [K, K].
    per_class: ``precision``, ``recall``, ``specificity``, ``f1`` float64 [K] and ``support`` int64 [K].
    intervals: metric → (low, high); empty where there are fewer than two groups to draw from.
    """

    n: int
    accuracy: float
    mcc: float
    macro_precision: float
    macro_recall: float
    macro_specificity: float
    macro_f1: float
    f1_of_macros: float
    confusion_matrix: Counts
    calibration_error: float
    negative_log_likelihood: float
    per_class: dict[str, NDArray[Any]]
    intervals: dict[str, tuple[float, float]]

    @property
    def chance_remark(self) -> str | None:
        """A line where Matthews' correlation cannot be told from guessing, which gives 0; None where it can."""
        low, high = self.intervals.get("mcc", (self.mcc, self.mcc))
        if low > 0:
            return None
        shown = f"{self.mcc:.3f}" + (f", 95% {low:.3f} to {high:.3f}" if "mcc" in self.intervals else "")
        return f"no better than guessing: Matthews' correlation on {self.n} images ({shown}) cannot be told from 0"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, under the names of the fields."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["confusion_matrix"] = self.confusion_matrix.tolist()
        values["per_class"] = {name: column.tolist() for name, column in self.per_class.items()}
        values["intervals"] = {name: list(interval) for name, interval in self.intervals.items()}
        return values


def confusion_matrix(
    truth: NDArray[np.integer] | Sequence[int], predicted: NDArray[np.integer] | Sequence[int], classes: int
) -> Counts:
    """Count pairs of true and predicted class: int64 [classes, classes], rows are the truth.

    Raises ValueError when the two differ in length or name a class outside 0…classes − 1.

    >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2).tolist()
    [[1, 1], [0, 1]]
    """
    truth, predicted = np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
    if truth.ndim != 1 or truth.shape != predicted.shape:
        raise ValueError(f"truth {list(truth.shape)} and predictions {list(predicted.shape)} must be of equal length")
    both = np.concatenate([truth, predicted])
    if both.size and not 0 <= both.min() <= both.max() < classes:
        raise ValueError(f"classes must lie in 0…{classes - 1}")
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def summarise(confusion: NDArray[Any]) -> dict[str, float]:
    """The metrics of ``SUMMARY_NAMES`` for one confusion matrix [K, K].

    >>> summarise(np.array([[1, 1], [0, 2]]))["accuracy"]
    0.75
    """
    return {name: float(value) for name, value in summaries(confusion).items()}


def summaries(confusion: NDArray[Any]) -> dict[str, Floats]:
    """The metrics of ``SUMMARY_NAMES`` for confusion matrices [..., K, K]: name → float64 [...].

    ``mcc`` is Gorodkin's for several classes, 0 where undefined; ``macro_f1`` the mean of the classes' F1;
    ``f1_of_macros`` the harmonic mean of macro precision and recall (thesis eq. 2.65).
    """
    confusion = np.asarray(confusion, np.float64)
    right, actual, called = _margins(confusion)
    total = actual.sum(-1)
    correct = right.sum(-1)
    spread = (total**2 - (called**2).sum(-1)) * (total**2 - (actual**2).sum(-1))
    counted = actual > 0
    classes = per_class(confusion)
    macro = {name: _ratio((classes[name] * counted).sum(-1), counted.sum(-1)) for name in classes if name != "support"}
    precision, recall = macro["precision"], macro["recall"]
    return {
        "accuracy": _ratio(correct, total),
        "mcc": _ratio(correct * total - (called * actual).sum(-1), np.sqrt(spread)),
        "macro_precision": precision,
        "macro_recall": recall,
        "macro_specificity": macro["specificity"],
        "macro_f1": macro["f1"],
        "f1_of_macros": _ratio(2 * precision * recall, precision + recall),
    }


def per_class(confusion: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Per class ``precision``, ``recall``, ``specificity`` (TN / (TN + FP)), ``f1`` and ``support``: [..., K] each."""
    confusion = np.asarray(confusion)
    right, actual, called = _margins(confusion)
    negatives = actual.sum(-1, keepdims=True) - actual
    return {
        "precision": _ratio(right, called),
        "recall": _ratio(right, actual),
        "specificity": _ratio(negatives - (called - right), negatives),
        "f1": _ratio(2 * right, actual + called),
        "support": actual,
    }


def calibration_error(
    truth: NDArray[np.integer] | Sequence[int], probabilities: NDArray[Any], bins: int = CALIBRATION_BINS
) -> float:
    """Expected calibration error of the winning class: the mean gap between its probability and how often it is right,
    over ``bins`` equal steps of probability, weighted by their images (Guo et al. 2017). 0 for no images."""
    truth, probabilities = _checked(truth, probabilities)
    step, gap = _calibration_gaps(truth, probabilities, bins)
    return float(np.abs(np.bincount(step, gap, bins)).sum() / max(len(truth), 1))


def negative_log_likelihood(truth: NDArray[np.integer] | Sequence[int], probabilities: NDArray[Any]) -> float:
    """Mean −ln of the true class's probability, in nats; probabilities below 1.2e-7 count as that. 0 for no images."""
    truth, probabilities = _checked(truth, probabilities)
    return float(_surprise(truth, probabilities).sum() / max(len(truth), 1))


def score(
    truth: NDArray[np.integer] | Sequence[int],
    probabilities: NDArray[Any],
    groups: Sequence[Any] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Scores:
    """All metrics of ``probabilities`` [N, K] against ``truth`` [N], with bootstrap percentile intervals.

    groups: one label an image (patient, examination or scene); whole groups are drawn with replacement, for images of
        one patient are no independent evidence. None draws single images.
    Draws in which one class alone is left say nothing of MCC and are left out of its interval.
    Percentile intervals say nothing where nothing varies: without a single mistake they are as narrow as [1, 1].
    The interval of ``calibration_error`` is shifted by the bootstrap's own bias (a resample's steps are noisier than
    the data's, so its error is larger). Raises ValueError for shapes that do not fit, classes outside 0…K − 1, or
    probabilities that are not finite.
    """
    truth, probabilities = _checked(truth, probabilities)
    classes = probabilities.shape[1]
    if groups is not None and len(groups) != len(truth):
        raise ValueError(f"{len(groups)} groups for {len(truth)} images")
    confusion = confusion_matrix(truth, probabilities.argmax(1), classes)
    estimates = {
        **summarise(confusion),
        "calibration_error": calibration_error(truth, probabilities),
        "negative_log_likelihood": negative_log_likelihood(truth, probabilities),
    }
    group_of = np.arange(len(truth)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    intervals: dict[str, tuple[float, float]] = {}
    if len(truth) and group_of.max() > 0 and resamples > 0:
        draws = _bootstrap(truth, probabilities, group_of, resamples, np.random.default_rng(seed))
        draws["calibration_error"] += estimates["calibration_error"] - draws["calibration_error"].mean()
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        for name, values in draws.items():
            if len(defined := values[~np.isnan(values)]):
                low, high = np.quantile(defined, tails)
                intervals[name] = (float(low), float(high))
        low, high = intervals["calibration_error"]
        intervals["calibration_error"] = (max(low, 0.0), min(high, 1.0))
    return Scores(
        n=len(truth), confusion_matrix=confusion, per_class=per_class(confusion), intervals=intervals, **estimates
    )


def _bootstrap(
    truth: Counts, probabilities: Floats, group_of: Counts, resamples: int, generator: np.random.Generator
) -> dict[str, Floats]:
    """Every metric of ``resamples`` draws of groups with replacement: name → float64 [resamples]; MCC is NaN in draws
    of one class.

    A draw is a weight a group; each metric needs only weighted counts, so no image is ever copied.
    """
    classes, groups = probabilities.shape[1], int(group_of.max()) + 1
    cell = truth * classes + probabilities.argmax(1)
    step, gap = _calibration_gaps(truth, probabilities, CALIBRATION_BINS)
    surprise = _surprise(truth, probabilities)
    at_once = max(1, _CELLS_AT_ONCE // classes**2)
    parts: list[dict[str, Floats]] = []
    for first in range(0, resamples, at_once):
        count = min(at_once, resamples - first)
        confusions = np.empty((count, classes, classes))
        calibration, likelihood = np.empty(count), np.empty(count)
        for row in range(count):
            weight = np.bincount(generator.integers(groups, size=groups), minlength=groups).astype(np.float64)[group_of]
            total = weight.sum()
            confusions[row] = np.bincount(cell, weight, classes**2).reshape(classes, classes)
            calibration[row] = np.abs(np.bincount(step, gap * weight, CALIBRATION_BINS)).sum() / total
            likelihood[row] = surprise @ weight / total
        extra = {"calibration_error": calibration, "negative_log_likelihood": likelihood}
        drawn = summaries(confusions)
        drawn["mcc"] = np.where((confusions.sum(-1) > 0).sum(-1) > 1, drawn["mcc"], np.nan)
        parts.append({**drawn, **extra})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _checked(labels: NDArray[np.integer] | Sequence[int], outputs: NDArray[Any]) -> tuple[Counts, Floats]:
    truth, probabilities = np.asarray(labels, np.int64), np.asarray(outputs, np.float64)
    if truth.ndim != 1 or probabilities.ndim != 2 or len(truth) != len(probabilities) or probabilities.shape[1] == 0:
        raise ValueError(f"truth must be [N] and probabilities [N, K], got {truth.shape} and {probabilities.shape}")
    if truth.size and not 0 <= truth.min() <= truth.max() < probabilities.shape[1]:
        raise ValueError(f"classes must lie in 0…{probabilities.shape[1] - 1}")
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities must be finite numbers")
    return truth, probabilities


def _calibration_gaps(truth: Counts, probabilities: Floats, bins: int) -> tuple[Counts, Floats]:
    """Each image's step of probability, and the winning probability minus 1 if it is right."""
    top = probabilities.max(1, initial=0)
    step = np.clip(np.ceil(top * bins).astype(np.int64) - 1, 0, bins - 1)
    return step, top - (probabilities.argmax(1) == truth)


def _surprise(truth: Counts, probabilities: Floats) -> Floats:
    """−ln of the true class's probability, float64 [N]."""
    return -np.log(np.clip(probabilities[np.arange(len(truth)), truth], LEAST_PROBABILITY, 1))


def _margins(confusion: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Hits, true and predicted images of each class, [..., K] each."""
    return np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1), confusion.sum(-2)


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """The quotient, 0 where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)
