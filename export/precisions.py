"""One graph for each precision that was asked for, and what it became."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensoup.export.half import to_fp16
from gensoup.export.int8 import METHOD, calibrate
from gensoup.export.layers import WeightedLayer, built
from gensoup.export.proof import Proof
from gensoup.export.sensitivity import choose_int8
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import GenSoupError


@dataclass(frozen=True, eq=False)
class BuiltGraph:
    """A graph in one precision.

    built: layers with weights of each precision in it. kept: those that int8 left in fp32, the most sensitive first.
    how: what else a reader of the manifest needs to know of its making.
    """

    precision: str
    model: bytes
    built: dict[str, int]
    kept: tuple[WeightedLayer, ...] = ()
    how: dict[str, Any] = field(default_factory=dict)

    def stated(self) -> dict[str, Any]:
        """What the manifest says was asked for and built."""
        kept = {"kept_in_fp32": [layer.name for layer in self.kept]} if self.precision == "int8" else {}
        return {"asked": self.precision, "built": self.built, **kept, **self.how}


def build_graph(
    precision: str,
    model: bytes,
    training_frames: NDArray[np.uint8],
    proof: Proof,
    progress: StageProgress,
) -> BuiltGraph:
    """``model`` (fp32 ONNX bytes) in another precision.

    training_frames: network inputs uint8 BGR [N, H, W, 3] that int8 is calibrated on. proof: int8 goes as far as it
    allows. Raises GenSoupError when nothing of the graph became what was asked for.
    """
    how: dict[str, Any] = {}
    kept: tuple[WeightedLayer, ...] = ()
    if precision == "fp16":
        model = to_fp16(model)
        progress("fp16", 1, 1)
    elif precision == "int8":
        calibrated = calibrate(model, training_frames, progress)
        choice = choose_int8(
            calibrated, training_frames, proof.judge_int8, lambda candidate: proof.open(candidate, precision), progress
        )
        model, kept = choice.model, choice.kept
        how = {"calibration": {"frames": calibrated.frames, "method": METHOD}}
    result = BuiltGraph(precision, model, built(model), kept, how)
    if precision not in result.built:
        raise GenSoupError(f"--precision {precision}: no layer of this network became {precision}; leave it out")
    return result
