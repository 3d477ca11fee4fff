"""ONNX Runtime: on the CPU the reference engine, present on every machine; on NVIDIA's CUDA and TensorRT providers."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.device import default_threads
from gensoup.runtime.engines import PROBABILITIES, SALIENCY, Layer, check_ports, first_line, no_saliency
from gensoup.runtime.engines.graph_outputs import keep_outputs, output_names
from gensoup.runtime.errors import EngineError, MissingDependencyError

Provider = Literal["cpu", "cuda", "tensorrt"]

_PROVIDERS: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_PRECISIONS = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64"}


class OnnxRuntimeEngine:
    """One ONNX Runtime session. Its threads sleep between frames instead of spinning: at a camera's pace a spinning
    pool burns a whole core while it waits, and takes it from capture and display."""

    def __init__(
        self, model: bytes, threads: int | None = None, provider: Provider = "cpu", cache: Path | None = None
    ) -> None:
        """``model``: ONNX bytes with input ``frame`` and output ``probabilities``. ``threads``: None: half the cores.

        cache: a folder of this user's where TensorRT keeps what it compiled; without one it compiles again each time.

        Measured on 2 cores at 64 Hz, 1080p to 224 px, three runs of 6 s each beside other work: one thread gives
        SqueezeNet-1.1 a p99 of 13.0–14.9 ms and MobileNetV3-Large 13.1–15.6 ms with 0.7 busy cores, two threads
        13.2–38.3 ms and 15.7–16.2 ms with 1.0 and 1.2. The rest of the cores serves capture and display.
        """
        assert provider in get_args(Provider)
        self.name = f"onnxruntime-{provider}"
        self._model, self._threads, self._provider, self._cache = model, threads, provider, cache
        try:
            self._has_saliency = SALIENCY in (outputs := output_names(model))
            plain = keep_outputs(model, [PROBABILITIES]) if self._has_saliency and PROBABILITIES in outputs else model
        except ValueError:  # ONNX Runtime says it better
            self._has_saliency, plain = False, model
        self._plain = plain
        self._session: Any = self._open(plain)
        self._explaining: Any = None
        inputs = [entry.name for entry in self._session.get_inputs()]
        names = [entry.name for entry in self._session.get_outputs()]
        check_ports(inputs, names)

    def infer(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See :class:`gensoup.runtime.engines.Engine`."""
        (probabilities,) = self._run(self._session, [PROBABILITIES], frame)
        return np.asarray(probabilities[0], np.float32)

    def explain(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See :class:`gensoup.runtime.engines.Engine`."""
        if not self._has_saliency:
            raise no_saliency(self.name)
        if self._explaining is None:
            self._explaining = self._open(self._model)
        probabilities, saliency = self._run(self._explaining, [PROBABILITIES, SALIENCY], frame)
        return np.asarray(probabilities[0], np.float32), np.asarray(saliency[0], np.float32)

    def close(self) -> None:
        """See :class:`gensoup.runtime.engines.Engine`."""
        self._session = self._explaining = None

    def replica(self) -> OnnxRuntimeEngine:
        """See :class:`gensoup.runtime.engines.replicas.Replicable`. Sessions may run in several threads at once: one
        thread's frame is then computed in that thread where the session has one thread, and weights are held once."""
        return copy.copy(self)

    def layers(self) -> Sequence[Layer]:
        """What a profile of one frame shows: the kernels that ran, fused and with the casts that were put in."""
        with tempfile.TemporaryDirectory(prefix="gensoup-profile-") as folder:
            session = self._open(self._plain, Path(folder) / "profile")
            entry = session.get_inputs()[0]
            self._run(session, [PROBABILITIES], np.zeros(entry.shape[1:], np.uint8))
            events = json.loads(Path(session.end_profiling()).read_text())
        kernels = [event for event in events if event.get("cat") == "Node" and "op_name" in event.get("args", {})]
        return [
            Layer(
                name=str(event["name"]).removesuffix("_kernel_time"),
                kind=str(event["args"]["op_name"]),
                precision=_precision(event["args"].get("input_type_shape", [])),
            )
            for event in kernels
        ]

    def _run(self, session: Any, outputs: list[str], frame: NDArray[np.uint8]) -> list[Any]:
        if session is None:
            raise EngineError(f"{self.name} is closed")
        try:
            return list(session.run(outputs, {"frame": frame[None]}))
        except Exception as error:
            raise EngineError(f"onnxruntime failed on a frame ({first_line(error)})") from error

    def _open(self, model: bytes, profile: Path | None = None) -> Any:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingDependencyError("onnxruntime", "cpu") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads or default_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        if self._provider != "cpu":
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            _check_provider(onnxruntime, self._provider)
        try:
            session = onnxruntime.InferenceSession(model, options, providers=_providers(self._provider, self._cache))
        except Exception as error:  # ONNX Runtime's own exceptions share no public base class
            raise EngineError(f"onnxruntime cannot load the model ({first_line(error)})") from error
        # ONNX Runtime only warns when a provider cannot start, and goes on with the next one.
        if (got := session.get_providers()[:1]) != [_PROVIDERS[self._provider]]:
            raise EngineError(
                f"onnxruntime took {got[0] if got else 'nothing'} in place of {_PROVIDERS[self._provider]}: check that "
                "nvidia-smi shows the GPU, and that the versions of CUDA and cuDNN (and TensorRT) are those that "
                "onnxruntime-gpu names"
            )
        return session


def _check_provider(onnxruntime: Any, provider: Provider) -> None:
    wanted = _PROVIDERS[provider]
    if wanted not in onnxruntime.get_available_providers():
        raise EngineError(
            f"this onnxruntime has no {wanted}: pip uninstall onnxruntime, then pip install 'gensoup[gpu]' "
            "(on Jetson the onnxruntime-gpu wheel of your JetPack)"
        )
    if hasattr(onnxruntime, "preload_dlls"):  # finds CUDA and cuDNN where pip has put them
        onnxruntime.preload_dlls()


def _providers(provider: Provider, cache: Path | None) -> list[Any]:
    """Providers with their options, the wanted one first; nothing behind it that would hide its failure."""
    if provider == "cpu":
        return [_PROVIDERS["cpu"]]
    # TF32 would halve the mantissa of what the bundle calls fp32.
    cuda = (_PROVIDERS["cuda"], {"device_id": "0", "use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"})
    if provider == "cuda":
        return [cuda]
    # Without trt_fp16_enable and trt_int8_enable the network is strongly typed: precision lives in the graph.
    tensorrt = {"device_id": "0"}
    if cache is not None:
        tensorrt |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache)}
        tensorrt |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(cache)}
    return [(_PROVIDERS["tensorrt"], tensorrt), cuda]


def _precision(types: Sequence[dict[str, Any]]) -> str:
    """Of a kernel's inputs, [{"float": shape}, …]: that of the first."""
    word = next((name for kinds in types for name in kinds), "none")
    return _PRECISIONS.get(word, word)
