"""Two classifiers on the same images: how much worse the second may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.metrics import summaries

_RESAMPLES_AT_ONCE = 1000


@dataclass(frozen=True)
class MccLoss:
    """What Matthews' correlation loses from one classifier to another. upper: one-sided 95% bootstrap bound."""

    reference: float
    other: float
    upper: float

    @property
    def loss(self) -> float:
        """Positive where the other is worse."""
        return self.reference - self.other


def paired_mcc_loss(
    truth: NDArray[np.integer],
    reference: NDArray[np.integer],
    other: NDArray[np.integer],
    classes: int,
    groups: Sequence[Any] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> MccLoss:
    """The loss of MCC between two classifiers' answers [N] for the same images, with its upper bound.

    Each draw takes the same images for both, whole groups where there are ``groups``, so that what is hard for both
    cancels out. Where the answers never differ the bound is 0. Raises ValueError for lengths that differ or no images.

    >>> paired_mcc_loss(np.arange(4) % 2, np.arange(4) % 2, np.arange(4) % 2, 2).upper
    0.0
    """
    truth, reference, other = (np.asarray(part, np.int64) for part in (truth, reference, other))
    if not len(truth) or not len(truth) == len(reference) == len(other) == (
        len(truth) if groups is None else len(groups)
    ):
        raise ValueError("truth, both classifiers' answers and groups must be of one length, at least one")
    group_of = np.arange(len(truth)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    cells = [_cell_counts(truth * classes + answers, group_of, classes) for answers in (reference, other)]
    generator = np.random.default_rng(seed)
    count, losses = int(group_of.max()) + 1, []
    for first in range(0, resamples, _RESAMPLES_AT_ONCE):
        rows = min(_RESAMPLES_AT_ONCE, resamples - first)
        weights = generator.multinomial(count, np.full(count, 1 / count), rows).astype(np.float64)
        first_mcc, other_mcc = (summaries((weights @ cell).reshape(-1, classes, classes))["mcc"] for cell in cells)
        losses.append(first_mcc - other_mcc)
    before, after = (float(summaries(cell.sum(0).reshape(classes, classes))["mcc"]) for cell in cells)
    return MccLoss(before, after, upper=float(np.quantile(np.concatenate(losses), confidence)))


def _cell_counts(cell: NDArray[np.int64], group_of: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """How often each group [G] fills each cell of the confusion matrix: float64 [G, K²]."""
    counts = np.zeros((int(group_of.max()) + 1, classes**2))
    np.add.at(counts, (group_of, cell), 1)
    return counts
