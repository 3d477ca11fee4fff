"""Proof that an engine's saliency maps are the trained network's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gensoup.export.graph import ExplainedGraph
from gensoup.export.parity import ParityError
from gensoup.export.precisions import BuiltGraph
from gensoup.export.saliency import SaliencyRange
from gensoup.runtime.engines import PROBABILITIES, load_engine
from gensoup.runtime.engines.graph_outputs import keep_outputs

# The largest accepted difference of any cell, on frames that both give the same label. Seen with SqueezeNet 1.1 on
# validation frames: 1e-6, .003 and .16.
TOLERANCE = {"fp32": 1e-2, "fp16": 5e-2, "int8": 0.3}
MAX_FRAMES = 64

# Of one frame: probabilities [K] and the map [h, w].
Answer = tuple[NDArray[np.float32], NDArray[np.float32]]


def reference_maps(
    model: nn.Module, temperature: float, shown: SaliencyRange, frames: NDArray[np.uint8]
) -> tuple[Answer, ...]:
    """What PyTorch makes of network inputs uint8 BGR [N, H, W, 3], one at a time as the engine does."""
    graph = ExplainedGraph(model, temperature, shown).eval()
    with torch.inference_mode():
        answers = [graph(torch.from_numpy(np.ascontiguousarray(frame[None]))) for frame in frames]
    return tuple((probabilities[0].numpy(), saliency[0].numpy()) for probabilities, saliency in answers)


def prove_saliency(built: BuiltGraph, expected: Sequence[Answer], frames: NDArray[np.uint8]) -> BuiltGraph:
    """The graph with what its maps reached in ``how``, or without maps and with the reason where they are too far off.

    expected: :func:`reference_maps` of ``frames``; none: the graph has no maps. Raises ParityError when the fp32
    graph's maps are not the reference's: then it is not the same network.
    """
    if not expected:
        return replace(built, how={**built.how, "saliency": False})
    engine = load_engine(built.model)
    pairs = [(answer, engine.explain(frame)) for answer, frame in zip(expected, frames, strict=True)]
    apart = [np.abs(got[1] - answer[1]) for answer, got in pairs if got[0].argmax() == answer[0].argmax()]
    largest = float(np.max(apart)) if apart else 1.0
    reached = {
        "frames": len(apart),
        "largest_difference": largest,
        "mean_difference": float(np.mean(apart)) if apart else 1.0,
        "tolerance": TOLERANCE[built.precision],
    }
    if largest <= TOLERANCE[built.precision]:
        return replace(built, how={**built.how, "saliency": True, "saliency_parity": reached})
    if built.precision == "fp32":
        raise ParityError(
            f"fp32 on {engine.name}: saliency maps are apart by {largest:.2g} from PyTorch's "
            f"(tolerance {TOLERANCE['fp32']:.2g})"
        )
    plain = keep_outputs(built.model, [PROBABILITIES])
    return replace(built, model=plain, how={**built.how, "saliency": False, "saliency_parity": reached})
