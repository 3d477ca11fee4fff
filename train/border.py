"""How well the frame's border alone tells the classes apart: where it does, a network may read overlays, not mucosa."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gensoup.bench.metrics import confusion_matrix, score, summarise
from gensoup.runtime.console import StageProgress
from gensoup.runtime.device import usable_cores

BORDER_SHARE = 0.1  # of the height at top and bottom, of the width at the sides
FOLDS = 5
LARGEST_SAMPLE = 6000
THUMBNAIL = 32

_SIDES = ("top", "right", "bottom", "left")
_DEPTH, _LENGTH = 4, 32
STRIPS_SHAPE = (len(_SIDES), _DEPTH, _LENGTH, 3)
_ALL, _START, _END = slice(None), slice(0, _LENGTH // 4), slice(_LENGTH - _LENGTH // 4, _LENGTH)
# Which side, and which stretch of it (left to right, top to bottom), each part is made of.
_PARTS: dict[str, tuple[tuple[int, slice], ...]] = {
    **{side: ((number, _ALL),) for number, side in enumerate(_SIDES)},
    "top left": ((0, _START), (3, _START)),
    "top right": ((0, _END), (1, _START)),
    "bottom right": ((2, _END), (1, _END)),
    "bottom left": ((2, _START), (3, _END)),
}


@dataclass(frozen=True)
class Reading:
    """A small model's score in cross-validation: Matthews' correlation with its 95% interval, and accuracy."""

    mcc: float
    low: float
    high: float
    accuracy: float


@dataclass(frozen=True)
class BorderReading:
    """What the border tells, beside what the whole thumbnail tells to the same model.

    images, folds: how many were used; left_out: classes with too few groups for as many folds.
    majority_accuracy: what always saying the commonest class scores (its MCC is 0).
    parts: MCC of each side and corner by itself. classes: each class against all others, from the border.
    """

    images: int
    folds: int
    left_out: tuple[str, ...]
    majority_accuracy: float
    border: Reading
    whole: Reading
    parts: dict[str, float]
    classes: dict[str, Reading]


def border_strips(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The four borders of a BGR frame, each resampled to one small size: uint8 [4, 4, 32, 3].

    Order: top, right, bottom, left; axis 1 runs across the border, axis 2 along it (left to right, top to bottom).
    """
    height, width = image.shape[:2]
    tall, wide = max(1, round(height * BORDER_SHARE)), max(1, round(width * BORDER_SHARE))
    rows = (image[:tall], image[height - tall :])
    columns = (image[:, width - wide :], image[:, :wide])
    top, bottom = (cv2.resize(part, (_LENGTH, _DEPTH), interpolation=cv2.INTER_AREA) for part in rows)
    right, left = (
        cv2.resize(part, (_DEPTH, _LENGTH), interpolation=cv2.INTER_AREA).transpose(1, 0, 2) for part in columns
    )
    return np.stack([top, right, bottom, left]).astype(np.uint8)


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The whole frame at 32 × 32 pixels, BGR uint8 [32, 32, 3]."""
    return np.asarray(cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA), np.uint8)


def draw_sample(targets: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Indices of at most ``LARGEST_SAMPLE`` images, drawn class by class in turn, sorted: so memory stays bounded."""
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(targets == label)) for label in np.unique(targets)]
    turns = np.concatenate([np.arange(len(indices)) for indices in drawn])
    return np.sort(np.concatenate(drawn)[np.argsort(turns, kind="stable")[:LARGEST_SAMPLE]])


def read_border(
    strips: NDArray[np.uint8],
    thumbnails: NDArray[np.uint8],
    targets: NDArray[np.int64],
    groups: Sequence[str],
    labels: Sequence[str],
    seed: int,
    progress: StageProgress,
) -> BorderReading | str:
    """Cross-validate a forest of randomised trees on the border, on the thumbnail and on each side and corner.

    strips: uint8 [N, 4, 4, 32, 3] of :func:`border_strips`. thumbnails: uint8 [N, 32, 32, 3]. Folds are stratified by
    class and never split a group (scikit-learn's StratifiedGroupKFold); intervals are a bootstrap over groups. Returns
    the reason instead where fewer than two classes have ``FOLDS`` groups.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names = np.asarray(groups)
    enough = [label for label in range(len(labels)) if len(np.unique(names[targets == label])) >= FOLDS]
    if len(enough) < 2:
        return f"not measured: fewer than two classes have {FOLDS} groups"
    chosen = np.flatnonzero(np.isin(targets, enough))
    truth = np.searchsorted(enough, targets[chosen])
    names, strips, thumbnails = names[chosen], strips[chosen], thumbnails[chosen]
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(strips, truth, names)
    splits = [(train, test) for train, test in folds if len(test)]  # beside huge groups a fold can stay empty
    steps, total = 0, len(splits) * (2 + len(_PARTS))

    def predict(features: NDArray[np.uint8]) -> NDArray[np.float64]:
        nonlocal steps
        features = features.reshape(len(features), -1)

        def one(split: tuple[NDArray[np.int64], NDArray[np.int64]]) -> tuple[Any, Any]:
            model = _forest(seed).fit(features[split[0]], truth[split[0]])
            return model.classes_, model.predict_proba(features[split[1]])

        probabilities = np.zeros((len(truth), len(enough)))
        for (_, test), (classes, given) in zip(splits, pool.map(one, splits), strict=True):
            probabilities[np.ix_(test, classes)] = given
            steps += 1
            progress("border", steps, total)
        return probabilities

    # The folds in parallel, not the trees of a forest: those are too small to be worth a hand-over each.
    with ThreadPoolExecutor(usable_cores()) as pool:
        seen = predict(strips)
        whole = predict(thumbnails)
        parts = {}
        for name, stretches in _PARTS.items():
            pieces = [strips[:, side, :, stretch].reshape(len(truth), -1) for side, stretch in stretches]
            predicted = predict(np.concatenate(pieces, axis=1)).argmax(1)
            parts[name] = summarise(confusion_matrix(truth, predicted, len(enough)))["mcc"]
    called = seen.argmax(1)
    return BorderReading(
        images=len(truth),
        folds=len(splits),
        left_out=tuple(label for number, label in enumerate(labels) if number not in enough),
        majority_accuracy=float(np.bincount(truth).max() / len(truth)),
        border=_reading(truth, seen, names, seed),
        whole=_reading(truth, whole, names, seed),
        parts=parts,
        classes={
            labels[label]: _reading(truth == row, np.stack([called != row, called == row], axis=1), names, seed)
            for row, label in enumerate(enough)
        },
    )


def _reading(truth: NDArray[Any], probabilities: NDArray[Any], groups: NDArray[Any], seed: int) -> Reading:
    result = score(truth.astype(np.int64), probabilities, groups.tolist(), seed=seed)
    return Reading(result.mcc, *result.intervals["mcc"], result.accuracy)


def _forest(seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(50, min_samples_leaf=2, class_weight="balanced", random_state=seed)
