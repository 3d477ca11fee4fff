"""Proof that the deployed graph gives what the trained network gave, preprocessing included."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gensoup.bench.metrics import confusion_matrix, summarise
from gensoup.export.graph import DeployGraph
from gensoup.runtime.engines import Engine
from gensoup.runtime.errors import GenSoupError

TOLERANCE = 1e-3  # of a probability, fp32: two orders above what engines were seen to differ by


class ParityError(GenSoupError):
    """The engine's answers are not the trained network's."""


@dataclass(frozen=True)
class Parity:
    """How far an engine's probabilities lie from the reference's.

    frames: how many were compared. label_agreement: share of frames with the same winning class.
    mcc_reference, mcc_engine: Matthews' correlation of both on the same frames.
    """

    engine: str
    reference: str
    frames: int
    largest_difference: float
    mean_difference: float
    label_agreement: float
    mcc_reference: float
    mcc_engine: float
    tolerance: float = TOLERANCE

    def check(self) -> None:
        """Raise ParityError, with the numbers, unless the difference lies within the tolerance."""
        if not self.largest_difference <= self.tolerance:
            raise ParityError(
                f"{self.engine} is not equal to {self.reference}: probabilities apart by {self.largest_difference:.2g} "
                f"(tolerance {self.tolerance:.2g}), labels agree on {self.label_agreement:.1%} of {self.frames} frames"
            )


def reference_probabilities(model: nn.Module, temperature: float, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What PyTorch makes of network inputs uint8 BGR [N, H, W, 3], one at a time as the engine does: float32 [N, K]."""
    graph = DeployGraph(model, temperature).eval()
    with torch.inference_mode():
        rows = [graph(torch.from_numpy(np.ascontiguousarray(frame[None])))[0].numpy() for frame in frames]
    return np.stack(rows)


def measure_parity(
    model: nn.Module, temperature: float, engine: Engine, frames: NDArray[np.uint8], targets: NDArray[np.int64]
) -> Parity:
    """Compare ``engine`` with PyTorch on network inputs uint8 BGR [N, H, W, 3] with class indices [N]."""
    expected = reference_probabilities(model, temperature, frames)
    got = np.stack([engine.infer(frame) for frame in frames])
    difference = np.abs(got - expected)
    classes = expected.shape[1]

    def mcc(probabilities: NDArray[np.float32]) -> float:
        return float(summarise(confusion_matrix(targets, probabilities.argmax(1), classes))["mcc"])

    return Parity(
        engine=engine.name,
        reference=f"torch {torch.__version__.split('+')[0]} cpu fp32",
        frames=len(frames),
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        label_agreement=float((got.argmax(1) == expected.argmax(1)).mean()),
        mcc_reference=mcc(expected),
        mcc_engine=mcc(got),
    )
