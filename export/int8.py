"""int8 in the graph: QuantizeLinear and DequantizeLinear around convolutions, ranges from training frames.

ONNX Runtime's quantiser does the work. What is asked of it is what TensorRT builds: signed, symmetric, one scale
a filter, biases left alone (TensorRT for RTX refuses quantised ones), nothing between a convolution and its activation.
Layers whose error is too large stay in fp32: :mod:`gensoup.export.sensitivity` says which.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from gensoup.export.layers import WeightedLayer, layers
from gensoup.export.onnx_graph import finish, parse
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import GenSoupError

KIND = "Conv"
METHOD = "largest magnitude over the calibration frames"
_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": [KIND],
    "QDQKeepRemovableActivations": True,
}


@dataclass(frozen=True, eq=False)
class Calibrated:
    """An fp32 graph and the range of each value that a convolution takes.

    frames: how many it was calibrated on. layers: those that can be quantised, in the graph's order.
    """

    model: bytes
    ranges: Any
    frames: int
    layers: tuple[WeightedLayer, ...]

    def quantised(self, names: Collection[str]) -> bytes:
        """The graph with these layers (names of nodes) in int8 and the rest as it was: ONNX bytes."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        if not names:
            return self.model
        with _quiet():
            quantiser = QDQQuantizer(
                onnx.load_model_from_string(self.model),
                per_channel=True,
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QInt8,
                tensors_range=self.ranges,
                nodes_to_quantize=list(names),
                nodes_to_exclude=[],
                op_types_to_quantize=[KIND],
                extra_options=dict(_OPTIONS),
            )
            quantiser.quantize_model()
        return finish(parse(quantiser.model.model.SerializeToString()))


def calibrate(model: bytes, frames: NDArray[np.uint8], progress: StageProgress | None = None) -> Calibrated:
    """Run network inputs (uint8 BGR [N, H, W, 3]) through an fp32 graph and keep the range of each value.

    Raises GenSoupError when the graph has no convolutions.
    """
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    found = tuple(layer for layer in layers(model) if layer.kind == KIND)
    if not found:
        raise GenSoupError("int8: the graph has no convolutions to quantise")
    report = progress or (lambda stage, done, total: None)

    class Frames(CalibrationDataReader):
        def __init__(self) -> None:
            self.place = 0

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            report("calibrate", self.place, len(frames))
            if self.place == len(frames):
                return None
            self.place += 1
            return {"frame": frames[self.place - 1][None]}

    with tempfile.TemporaryDirectory(prefix="gensoup-") as folder, _quiet():
        plain = Path(folder) / "model.onnx"
        plain.write_bytes(model)
        calibrator = create_calibrator(
            plain,
            [KIND],
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"symmetric": True},
        )
        calibrator.collect_data(Frames())
        ranges = calibrator.compute_data()
    return Calibrated(model, ranges, len(frames), found)


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser logs advice on the root logger that is of no use to the user of a finished tool."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
