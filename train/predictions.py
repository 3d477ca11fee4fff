"""The final network's predictions on ``test``, as a run leaves them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.metrics import LEAST_PROBABILITY
from gensoup.runtime.errors import GenSoupError


@dataclass(frozen=True, eq=False)
class Predictions:
    """files: names [N] inside the dataset's folder; truth: class indices int64 [N]; probabilities: float64 [N, K]."""

    files: tuple[str, ...]
    truth: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The winning classes, int64 [N]."""
        return self.probabilities.argmax(1)

    @property
    def losses(self) -> NDArray[np.float64]:
        """−ln of the true class's probability in nats, float64 [N]."""
        true = self.probabilities[np.arange(len(self.truth)), self.truth]
        return -np.log(np.clip(true, LEAST_PROBABILITY, 1))

    def hardest(self, count: int) -> list[int]:
        """Positions of the wrong predictions with the highest loss, the highest first."""
        wrong = np.flatnonzero(self.predicted != self.truth)
        return [int(place) for place in wrong[np.argsort(-self.losses[wrong], kind="stable")][:count]]

    def right(self, count: int) -> list[int]:
        """Positions of right predictions, evenly spread from the surest to the least sure."""
        right = np.flatnonzero(self.predicted == self.truth)
        ordered = right[np.argsort(self.losses[right], kind="stable")]
        chosen = np.unique(np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int))
        return [int(place) for place in ordered[chosen]]


def read_predictions(path: Path, labels: Sequence[str]) -> Predictions:
    """Read ``test_predictions.csv``: ``file,truth,predicted,p(LABEL),…``.

    Raises GenSoupError when it cannot be used.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        truth = [labels.index(row["truth"]) for row in rows]
        probabilities = [[float(row[f"p({label})"]) for label in labels] for row in rows]
        files = tuple(row["file"] for row in rows)
    except OSError as error:
        raise GenSoupError(f"{path}: cannot be read ({error.strerror}); train the run again") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise GenSoupError(f"{path}: not the predictions of this run ({error}); train the run again") from error
    if not files:
        raise GenSoupError(f"{path}: holds no predictions; train the run again")
    return Predictions(files, np.array(truth, np.int64), np.array(probabilities, float).reshape(-1, len(labels)))
