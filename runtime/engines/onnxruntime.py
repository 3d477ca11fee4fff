"""ONNX Runtime on the CPU: the reference engine, present on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.device import usable_cores
from gensoup.runtime.errors import EngineError, MissingDependencyError


class OnnxRuntimeEngine:
    """One ONNX Runtime session. Its threads sleep between frames instead of spinning: at a camera's pace a spinning
    pool burns a whole core while it waits, and takes it from capture and display."""

    name = "onnxruntime-cpu"

    def __init__(self, model: bytes, threads: int | None = None) -> None:
        """``model``: ONNX bytes with input ``frame`` and output ``probabilities``. ``threads``: None: half the cores.

        Measured on 2 cores at 64 Hz, 1080p to 224 px, three runs of 6 s each beside other work: one thread gives
        SqueezeNet-1.1 a p99 of 13.0–14.9 ms and MobileNetV3-Large 13.1–15.6 ms with 0.7 busy cores, two threads
        13.2–38.3 ms and 15.7–16.2 ms with 1.0 and 1.2. The rest of the cores serves capture and display.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingDependencyError("onnxruntime", "cpu") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or max(1, usable_cores() // 2)
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own exceptions share no public base class
            raise EngineError(f"onnxruntime cannot load the model ({_first_line(error)})") from error
        inputs = [entry.name for entry in self._session.get_inputs()]
        outputs = [entry.name for entry in self._session.get_outputs()]
        if inputs != ["frame"] or "probabilities" not in outputs:
            raise EngineError(f"the model has inputs {inputs} and outputs {outputs}, not 'frame' and 'probabilities'")

        self._has_saliency = "saliency" in outputs

    def infer(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See :class:`gensoup.runtime.engines.Engine`."""
        return self._run(["probabilities"], frame)[0]

    def explain(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See :class:`gensoup.runtime.engines.Engine`."""
        if not self._has_saliency:
            raise EngineError(f"{self.name}: the graph has no saliency output")
        probabilities, saliency = self._run(["probabilities", "saliency"], frame)
        return probabilities, saliency

    def _run(self, outputs: list[str], frame: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        try:
            answers = self._session.run(outputs, {"frame": frame[None]})
        except Exception as error:
            raise EngineError(f"onnxruntime failed on a frame ({_first_line(error)})") from error
        return [np.asarray(answer[0], np.float32) for answer in answers]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
