"""Inference engines behind one small interface. :mod:`gensoup.runtime.engines.catalogue` lists them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import EngineError

PROBABILITIES, SALIENCY = "probabilities", "saliency"
# The layers whose precision decides speed and accuracy, by a part of what engines call them.
_HEAVY = ("conv", "gemm", "matmul", "matrix_multiply", "matrix multiply", "fullyconnected")


@dataclass(frozen=True)
class Layer:
    """One layer as an engine runs it.

    kind: the engine's own word. precision: "fp32", "fp16", "bf16", "int8", … of what it reads, or the engine's word.
    """

    name: str
    kind: str
    precision: str


class Engine(Protocol):
    """Runs one network on one frame at a time.

    name: "onnxruntime-cpu", "onnxruntime-cuda", "onnxruntime-tensorrt", "openvino-cpu", "tensorrt", "tensorrt-rtx".
    """

    name: str

    def infer(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities [K] of one preprocessed frame, uint8 BGR [H, W, 3]; never computes a saliency map.

        Raises EngineError when the engine fails.
        """
        ...

    def explain(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities [K] and the saliency map [h, w] of one frame. The first call loads the larger graph.

        Raises EngineError when the engine fails, or when the graph has no saliency.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds; it must not be used any more."""
        ...

    def layers(self) -> Sequence[Layer]:
        """See :func:`inspect_engine`."""
        ...


def load_engine(model: bytes, threads: int | None = None) -> Engine:
    """The reference engine, ONNX Runtime on the CPU, for an ONNX ``model``, with ``threads`` cores (None: half).

    Raises EngineError for a model the engine cannot load, MissingDependencyError when it is not installed.
    """
    from gensoup.runtime.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(model, threads)


def inspect_engine(engine: Engine) -> Sequence[Layer]:
    """What runs in which precision, as the engine itself tells: ONNX Runtime by the profile of one frame, OpenVINO by
    its compiled model, TensorRT by its engine inspector. Takes as long as loading it; not for the frame path.

    Raises EngineError where the engine cannot tell.
    """
    return engine.layers()


def built_precisions(layers: Iterable[Layer]) -> dict[str, int]:
    """How many convolutions and matrix products run in each precision, the most frequent first."""
    heavy = (layer.precision for layer in layers if any(word in layer.kind.lower() for word in _HEAVY))
    return dict(Counter(heavy).most_common())


def precisions_run(engine: Engine) -> dict[str, int]:
    """:func:`built_precisions` of an engine, by its own account; empty where it cannot tell."""
    try:
        return built_precisions(inspect_engine(engine))
    except EngineError:
        return {}


def check_precision(asked: str, layers: Sequence[Layer], engine: str) -> None:
    """Raise EngineError unless most convolutions and matrix products run in the precision that was asked for.

    Quantised networks keep sensitive layers in higher precision, so "int8" is content with any int8 layer. An engine
    that hides its layers in one fused block cannot be judged, and passes.
    """
    built = built_precisions(layers)
    found = {"int8": built.get("int8", 0) + built.get("uint8", 0)}.get(asked, built.get(asked, 0))
    enough = found > 0 if asked == "int8" else 2 * found > sum(built.values())
    if built and not enough:
        told = ", ".join(f"{count} {precision}" for precision, count in built.items())
        raise EngineError(f"{engine} was asked for {asked} and built otherwise: convolutions and products are {told}")


def check_ports(inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Raise EngineError for a graph that does not take ``frame`` alone or gives no ``probabilities``."""
    if list(inputs) != ["frame"] or PROBABILITIES not in outputs:
        raise EngineError(f"the model has inputs {inputs} and outputs {outputs}, not 'frame' and 'probabilities'")


def no_saliency(name: str) -> EngineError:
    """The error of :meth:`Engine.explain` for a graph without a saliency output."""
    return EngineError(f"{name}: the graph has no saliency output")


def first_line(error: Exception) -> str:
    """What a foreign library's exception says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
