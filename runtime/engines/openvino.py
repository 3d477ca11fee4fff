"""OpenVINO on the CPU: Intel's engine, which also runs on other x86 and on ARM."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.device import default_threads
from gensoup.runtime.engines import PROBABILITIES, SALIENCY, Layer, check_ports, first_line, no_saliency
from gensoup.runtime.engines.graph_outputs import keep_outputs
from gensoup.runtime.errors import EngineError, MissingDependencyError

_PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "uint8", "f64": "fp64"}


@cache
def core() -> Any:
    """The ``openvino.Core`` of this process, kept until it ends.

    Its CPU plugin gives the thread that loads it an alternate stack for signals, and unmaps that with the last Core. If
    another thread drops that one, the next signal (an interrupt from the keyboard) ends the process with SIGSEGV.
    Raises MissingDependencyError.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError("openvino", "openvino") from error
    return openvino.Core()


class OpenVinoEngine:
    """One compiled model and one request, in latency mode. Its threads are TBB's, which sleep when there is no work."""

    name = "openvino-cpu"

    def __init__(self, model: bytes, threads: int | None = None) -> None:
        """``model``: ONNX bytes with input ``frame`` and output ``probabilities``; ``threads``: None: half of them."""
        core()
        self._model, self._threads = model, threads
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads or default_threads(),
            # On CPUs with bf16 the default would be bf16: precision lives in the graph.
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,  # the cores are shared with capture and display
        }
        network = self._read(model)
        inputs = [name for port in network.inputs for name in sorted(port.names)]
        outputs = [name for port in network.outputs for name in sorted(port.names)]
        check_ports(inputs, outputs)
        self._has_saliency = SALIENCY in outputs
        self._shape = tuple(network.inputs[0].get_shape())
        plain = self._read(keep_outputs(model, [PROBABILITIES])) if self._has_saliency else network
        self._compiled = self._compile(plain)
        self._request: Any = self._compiled.create_infer_request()
        self._explaining: Any = None

    def infer(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See :class:`gensoup.runtime.engines.Engine`."""
        return self._run(self._request, frame, [PROBABILITIES])[0]

    def explain(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See :class:`gensoup.runtime.engines.Engine`."""
        if not self._has_saliency:
            raise no_saliency(self.name)
        if self._explaining is None:
            self._explaining = self._compile(self._read(self._model)).create_infer_request()
        probabilities, saliency = self._run(self._explaining, frame, [PROBABILITIES, SALIENCY])
        return probabilities, saliency

    def close(self) -> None:
        """See :class:`gensoup.runtime.engines.Engine`."""
        self._request = self._explaining = self._compiled = None

    def replica(self) -> OpenVinoEngine:
        """See :class:`gensoup.runtime.engines.replicas.Replicable`. Compiled anew: one compiled model with several
        streams hands each frame to a thread of its own, two copies of one thread compute in the callers' threads."""
        return OpenVinoEngine(self._model, self._threads)

    def layers(self) -> Sequence[Layer]:
        """What the compiled model says that it executes."""
        if self._compiled is None:
            raise EngineError(f"{self.name} is closed")
        layers = []
        for operation in self._compiled.get_runtime_model().get_ordered_ops():
            told = operation.get_rt_info()
            kind, precision = (told[key].astype(str) for key in ("layerType", "runtimePrecision"))
            layers.append(Layer(operation.get_friendly_name(), kind, _PRECISIONS.get(precision, precision)))
        return layers

    def _run(self, request: Any, frame: NDArray[np.uint8], outputs: list[str]) -> list[NDArray[np.float32]]:
        if request is None:
            raise EngineError(f"{self.name} is closed")
        # OpenVINO would take any dtype and cast it: a float frame in 0…1 gave an answer, and a wrong one.
        if frame.dtype != np.uint8 or (1, *frame.shape) != self._shape:
            raise EngineError(
                f"openvino failed on a frame (uint8 {list(self._shape[1:])} is expected, not {frame.dtype} "
                f"{list(frame.shape)})"
            )
        try:
            # Into the request's own memory: a tensor around the caller's array does not keep that array alive.
            np.copyto(request.get_tensor("frame").data[0], frame)
            request.infer()
            return [np.array(request.get_tensor(name).data[0], np.float32) for name in outputs]
        except Exception as error:
            raise EngineError(f"openvino failed on a frame ({first_line(error)})") from error

    @staticmethod
    def _read(model: bytes) -> Any:
        try:
            return core().read_model(model)
        except Exception as error:
            raise EngineError(f"openvino cannot load the model ({_last_line(error)})") from error

    def _compile(self, network: Any) -> Any:
        try:
            return core().compile_model(network, "CPU", self._settings)
        except Exception as error:
            raise EngineError(f"openvino cannot load the model ({_last_line(error)})") from error


def _last_line(error: Exception) -> str:
    """OpenVINO's messages begin with the places in its own sources; the reason comes last."""
    return ([line for line in str(error).splitlines() if line.strip()] or [first_line(error)])[-1].strip()
