"""Proof that the deployed graph gives what the trained network gave, preprocessing included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gensoup.bench.metrics import score
from gensoup.bench.paired import paired_mcc_loss
from gensoup.export.graph import DeployGraph
from gensoup.export.samples import Samples
from gensoup.runtime.engines import Engine
from gensoup.runtime.errors import GenSoupError

# Of a probability. fp32: two orders above what engines were seen to differ by. fp16: ten times what trained SqueezeNet
# 1.1 and MobileNetV3-Small were seen to differ by on validation frames (.004, .005); a network hardly trained, whose
# fitted temperature sharpens small logits, reached .03 with all labels the same. Lost values move far more.
TOLERANCE = {"fp32": 1e-3, "fp16": 5e-2}
# int8 moves single probabilities far where a frame lies between two classes; these two say whether it matters.
MIN_AGREEMENT = 0.99
MAX_MCC_LOSS = 0.01
# The widest that the golden frames' tolerance of int8 may get: half of the way from one class to another.
MAX_INT8_TOLERANCE = 0.5
Interval = tuple[float, float]


class ParityError(GenSoupError):
    """The engine's answers are not the trained network's."""


@dataclass(frozen=True)
class Parity:
    """How far an engine's probabilities lie from the reference's on the run's validation images.

    frames: how many were compared. label_agreement: share of frames with the same winning class.
    tolerance: largest accepted difference; None for int8, which ``mcc_loss_upper`` judges instead. Labels must agree in
        either case.
    mcc_loss_upper: paired bootstrap, one-sided 95%, over groups where the data has them.
    soup_frames: how many of the frames nobody but the fusion's acceptance saw, the role ``soup``; ``soup_mcc_…`` are
        Matthews' correlation there, with 95% intervals (None where there is one group alone).
    ran: how many convolutions and matrix products the engine runs in each precision, by its own account: a CPU without
        half precision runs fp16 as fp32. Empty where that was not asked or cannot be told.
    """

    precision: str
    engine: str
    reference: str
    frames: int
    largest_difference: float
    mean_difference: float
    label_agreement: float
    mcc_reference: float
    mcc_engine: float
    mcc_loss_upper: float
    soup_frames: int
    soup_mcc_reference: float
    soup_mcc_reference_interval: Interval | None
    soup_mcc_engine: float
    soup_mcc_engine_interval: Interval | None
    tolerance: float | None
    ran: Mapping[str, int] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether the engine may stand for the reference."""
        if self.label_agreement < MIN_AGREEMENT:
            return False
        if self.tolerance is None:
            return self.mcc_loss_upper <= MAX_MCC_LOSS
        return self.largest_difference <= self.tolerance

    @property
    def shortfall(self) -> float:
        """How much of label agreement and MCC is lacking; 0 where both are as they must be."""
        return max(0.0, MIN_AGREEMENT - self.label_agreement) + max(0.0, self.mcc_loss_upper - MAX_MCC_LOSS)

    def check(self) -> None:
        """Raise ParityError, with the numbers, unless :attr:`holds`."""
        if self.holds:
            return
        apart, bound = "", f"; allowed: {MAX_MCC_LOSS}"
        if self.tolerance is not None:
            apart, bound = f" (tolerance {self.tolerance:.2g})", ""
        raise ParityError(
            f"{self.precision} on {self.engine} is not equal to {self.reference}: probabilities apart by "
            f"{self.largest_difference:.2g}{apart}, labels agree on {self.label_agreement:.1%} of {self.frames} frames "
            f"(needed: {MIN_AGREEMENT:.0%}), MCC {self.mcc_reference:.3f} becomes {self.mcc_engine:.3f}, a loss of at "
            f"most {self.mcc_loss_upper:.3f} (95%{bound}); --parity-report FILE.html shows the worst frames"
        )


def reference_name() -> str:
    """What every engine is compared with."""
    return f"torch {torch.__version__.split('+')[0]} cpu fp32"


def reference_probabilities(model: nn.Module, temperature: float, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What PyTorch makes of network inputs uint8 BGR [N, H, W, 3], one at a time as the engine does: float32 [N, K]."""
    graph = DeployGraph(model, temperature).eval()
    with torch.inference_mode():
        rows = [graph(torch.from_numpy(np.ascontiguousarray(frame[None])))[0].numpy() for frame in frames]
    return np.stack(rows)


def engine_probabilities(engine: Engine, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The engine's answers to network inputs uint8 BGR [N, H, W, 3]: float32 [N, K]."""
    return np.stack([engine.infer(frame) for frame in frames])


def compare(
    expected: NDArray[np.float32], got: NDArray[np.float32], samples: Samples, *, precision: str, engine: str
) -> Parity:
    """Compare an engine's probabilities [N, K] with the reference's on the same samples.

    What is no number is as far away as can be: a difference of 1 and another label.
    """
    if expected.shape != got.shape:
        raise ParityError(
            f"{precision} on {engine} is not equal to {reference_name()}: {got.shape[1]} probabilities for "
            f"{expected.shape[1]} classes"
        )
    broken = np.asarray(~np.isfinite(got).all(axis=1), np.bool_)
    answers = np.where(broken, (expected.argmax(1) + 1) % expected.shape[1], got.argmax(1))
    clean = np.where(broken[:, None], np.eye(expected.shape[1], dtype=np.float32)[answers], got)
    difference = np.where(broken[:, None], 1.0, np.abs(clean - expected))
    loss = paired_mcc_loss(samples.targets, expected.argmax(1), answers, expected.shape[1], samples.groups)
    soup = samples.of_role("soup")
    before, after = (_mcc(samples, soup, probabilities) for probabilities in (expected, clean))
    return Parity(
        precision=precision,
        engine=engine,
        reference=reference_name(),
        frames=len(samples),
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        label_agreement=float((answers == expected.argmax(1)).mean()),
        mcc_reference=loss.reference,
        mcc_engine=loss.other,
        mcc_loss_upper=loss.upper,
        soup_frames=len(soup),
        soup_mcc_reference=before[0],
        soup_mcc_reference_interval=before[1],
        soup_mcc_engine=after[0],
        soup_mcc_engine_interval=after[1],
        tolerance=TOLERANCE.get(precision),
    )


def _mcc(samples: Samples, places: Sequence[int], probabilities: NDArray[Any]) -> tuple[float, Interval | None]:
    """Matthews' correlation of some of the samples, with its interval."""
    groups = None if samples.groups is None else [samples.groups[place] for place in places]
    scores = score(samples.targets[list(places)], probabilities[list(places)], groups)
    return scores.mcc, scores.intervals.get("mcc")
