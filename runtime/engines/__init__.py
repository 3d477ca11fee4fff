"""Inference engines behind one small interface."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Engine(Protocol):
    """Runs one network on one frame at a time."""

    name: str

    def infer(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities [K] of one preprocessed frame, uint8 BGR [H, W, 3].

        Raises EngineError when the engine fails.
        """
        ...

    def explain(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities [K] and the saliency map [h, w] of one frame.

        Raises EngineError when the engine fails, or when the graph has no saliency.
        """
        ...


def load_engine(model: bytes, threads: int | None = None) -> Engine:
    """The engine for an ONNX ``model`` on this machine, with ``threads`` cores (None: the engine's default).

    Raises EngineError for a model the engine cannot load, MissingDependencyError when no engine is installed.
    """
    from gensoup.runtime.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(model, threads)
