"""Proof that an engine's saliency maps are the trained network's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gensoup.export.graph import ExplainedGraph
from gensoup.export.parity import ParityError
from gensoup.export.precisions import BuiltGraph
from gensoup.export.saliency import SaliencyRange
from gensoup.runtime.engines import PROBABILITIES, Engine
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


def prove_saliency(
    built: BuiltGraph, expected: Sequence[Answer], frames: NDArray[np.uint8], engines: Iterable[Engine]
) -> BuiltGraph:
    """The graph with what its maps reached in ``how``, or without maps and with the reason where they are too far off.

    expected: :func:`reference_maps` of ``frames``; none: the graph has no maps. engines: with the graph loaded; the one
    that is farthest off counts. Raises ParityError when the fp32 graph's maps are not the reference's: then it is not
    the same network.
    """
    if not expected:
        return replace(built, how={**built.how, "saliency": False})
    reached = max((_reached(engine, expected, frames) for engine in engines), key=lambda one: one["largest_difference"])
    reached["tolerance"] = TOLERANCE[built.precision]
    if reached["largest_difference"] <= reached["tolerance"]:
        return replace(built, how={**built.how, "saliency": True, "saliency_parity": reached})
    if built.precision == "fp32":
        raise ParityError(
            f"fp32 on {reached['engine']}: saliency maps are apart by {reached['largest_difference']:.2g} from "
            f"PyTorch's (tolerance {reached['tolerance']:.2g})"
        )
    plain = keep_outputs(built.model, [PROBABILITIES])
    return replace(built, model=plain, how={**built.how, "saliency": False, "saliency_parity": reached})


def _reached(engine: Engine, expected: Sequence[Answer], frames: NDArray[np.uint8]) -> dict[str, Any]:
    """How far an engine's maps are off. What is no number is off by 1, and so are maps of other labels throughout."""
    pairs = [(answer, engine.explain(frame)) for answer, frame in zip(expected, frames, strict=True)]
    apart = [np.abs(got[1] - answer[1]) for answer, got in pairs if got[0].argmax() == answer[0].argmax()]
    cells = np.nan_to_num(np.array(apart or [[1.0]]), nan=1.0, posinf=1.0)
    return {
        "engine": engine.name,
        "frames": len(apart),
        "largest_difference": float(cells.max()),
        "mean_difference": float(cells.mean()),
    }
