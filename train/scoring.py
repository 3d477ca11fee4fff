"""Scoring a network on one role: logits, temperature, Matthews' correlation, likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from torch import nn

from gensoup.bench.metrics import confusion_matrix, negative_log_likelihood, summarise
from gensoup.export.graph import standardise, to_planes
from gensoup.train.images import Frames

BATCH = 64
# A temperature outside of this range means logits that carry no information, or no doubt, about a small set.
LOG_TEMPERATURE_BOUNDS = (np.log(0.05), np.log(20.0))


@dataclass(frozen=True)
class Fitness:
    """mcc: raw; nll: mean negative log-likelihood at the fitted ``temperature``; images: passes it cost."""

    mcc: float
    nll: float
    temperature: float
    images: int


def predict_logits(model: nn.Module, images: Frames, device: torch.device) -> NDArray[np.float32]:
    """Logits float32 [N, K] of network inputs uint8 BGR [N, H, W, 3], in eval mode; all that is scored comes from them.

    One pass, and one transfer from the device at its end: they are K numbers an image.
    """
    model.eval().to(memory_format=torch.channels_last)
    rows = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            frames = torch.as_tensor(images[start : start + BATCH]).to(device)
            planes = standardise(to_planes(frames)).contiguous(memory_format=torch.channels_last)
            rows.append(model(planes).float())
    return torch.cat(rows).cpu().numpy()


def fit_temperature(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """The temperature that maximises the likelihood of [N, K] logits (Guo et al. 2017), with Platt's targets (1999).

    Every label counts as right with probability (N + 1) / (N + 2), else as any other: N images that are all classified
    rightly would otherwise ask for certainty.
    """
    if not np.isfinite(logits).all():
        return 1.0
    count, classes = logits.shape
    right = (count + 1) / (count + 2)
    expected = np.full((count, classes), (1 - right) / max(1, classes - 1))
    expected[np.arange(count), targets] = right

    def loss(log_temperature: float) -> float:
        return float(-(expected * log_softmax(logits / np.exp(log_temperature), axis=1)).sum(1).mean())

    return float(np.exp(minimize_scalar(loss, bounds=LOG_TEMPERATURE_BOUNDS, method="bounded").x))


def probabilities(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Softmax of logits [N, K] over ``temperature``."""
    return np.asarray(softmax(logits.astype(np.float64) / temperature, axis=1))


def fitness_on(model: nn.Module, images: Frames, targets: NDArray[np.int64], device: torch.device) -> Fitness:
    """Score ``model`` on the images of a role, its temperature fitted on the same."""
    logits = predict_logits(model, images, device)
    return fitness_of(logits, targets, fit_temperature(logits, targets))


def fitness_of(logits: NDArray[np.float32], targets: NDArray[np.int64], temperature: float) -> Fitness:
    """Score logits [N, K] at a given temperature. Logits that are no numbers give an infinite likelihood loss."""
    if not np.isfinite(logits).all():
        return Fitness(0.0, float("inf"), 1.0, len(targets))
    confusion = confusion_matrix(targets, logits.argmax(1), logits.shape[1])
    nll = negative_log_likelihood(targets, probabilities(logits, temperature))
    return Fitness(float(summarise(confusion)["mcc"]), float(nll), temperature, len(targets))
