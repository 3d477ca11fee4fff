"""TensorRT and TensorRT for RTX on the frame path: addresses set once, an own stream, a CUDA graph, pinned buffers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.engines import PROBABILITIES, SALIENCY, Layer, no_saliency
from gensoup.runtime.engines.cuda import Cuda, PinnedBuffer
from gensoup.runtime.engines.engine_files import EngineFile, engines_folder, fetch_engine, find_ahead_of_time
from gensoup.runtime.engines.tensorrt_build import key_of, local_key, output_sets
from gensoup.runtime.engines.tensorrt_library import Library, engine_layers, error_log, load_tensorrt
from gensoup.runtime.errors import EngineError, WriteError
from gensoup.runtime.private_cache import read_private, write_private

_TYPES: dict[str, type[np.generic]] = {"UINT8": np.uint8, "FLOAT": np.float32}


def find_engine(
    library: Library, model: bytes, precision: str, outputs: tuple[str, ...], engines_dir: Path | None = None
) -> EngineFile:
    """The engine that was built for ``model`` and this machine's GPU: in ``engines_dir``, else in the private cache.

    Raises EngineError, which says how to build it, and as :func:`gensoup.runtime.engines.cuda.load_cudart`.
    """
    trt = load_tensorrt(library)
    device = Cuda(library).device()
    key = key_of(library, trt.__version__, model, precision, outputs, (device["sm"],))
    if engines_dir is not None:
        return find_ahead_of_time(engines_dir, key)
    found = fetch_engine(local_key(key, device))
    if found is None:
        raise EngineError(
            f"{library}: no {precision} engine was built yet for this model on {device['gpu']} (driver "
            f"{device['driver']}, {library} {trt.__version__}): gensoup export BUNDLE --target {library}"
        )
    return found


class TensorRtEngine:
    """One engine built beforehand; a second one, with saliency, is loaded when it is first asked for."""

    def __init__(self, library: Library, model: bytes, precision: str, engines_dir: Path | None = None) -> None:
        """``model``: the ONNX bytes that the engine was built from. Raises as :func:`find_engine`."""
        self.name: str = library
        self._library: Library = library
        self._origin = (model, precision, engines_dir)
        found = find_engine(library, model, precision, (PROBABILITIES,), engines_dir)
        self._program: _Program | None = _Program(library, found.plan)
        self._explaining: _Program | None = None

    def infer(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See :class:`gensoup.runtime.engines.Engine`."""
        if self._program is None:
            raise EngineError(f"{self.name} is closed")
        return self._program.run(frame, [PROBABILITIES])[0]

    def explain(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See :class:`gensoup.runtime.engines.Engine`."""
        if self._program is None:
            raise EngineError(f"{self.name} is closed")
        if self._explaining is None:
            model, precision, engines_dir = self._origin
            outputs = output_sets(model)[-1]
            if SALIENCY not in outputs:
                raise no_saliency(self.name)
            found = find_engine(self._library, model, precision, outputs, engines_dir)
            self._explaining = _Program(self._library, found.plan)
        probabilities, saliency = self._explaining.run(frame, [PROBABILITIES, SALIENCY])
        return probabilities, saliency

    def close(self) -> None:
        """See :class:`gensoup.runtime.engines.Engine`."""
        for program in (self._program, self._explaining):
            if program is not None:
                program.close()
        self._program = self._explaining = None

    def layers(self) -> Sequence[Layer]:
        """What TensorRT's engine inspector tells; TensorRT for RTX fuses nearly everything into one block."""
        if self._program is None:
            raise EngineError(f"{self.name} is closed")
        return engine_layers(self._program.trt, self._program.engine)


class _Program:
    """A deserialised engine with its context, buffers, stream and captured graph."""

    def __init__(self, library: Library, plan: bytes) -> None:
        self.trt = load_tensorrt(library)
        self._library = library
        self._cuda = Cuda(library)
        self._log = error_log(self.trt)
        self._runtime = self.trt.Runtime(self._log)
        self.engine = self._runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise EngineError(f"{library} cannot load the engine ({self._log.reason()}): build it again")
        self._buffers: dict[str, PinnedBuffer] = {}
        self._graph: Any = None
        self._stream = self._cuda.call("cudaStreamCreateWithFlags", self._cuda.runtime.cudaStreamNonBlocking)
        # The host sleeps until the frame is done; the default would spin on a core that capture and display need.
        self._done = self._cuda.call("cudaEventCreateWithFlags", self._cuda.runtime.cudaEventBlockingSync)
        self._context = self._make_context(plan)
        self._bind()
        self._enqueue()  # once outside the graph: kernels are loaded (for RTX, compiled) at the first run
        self._wait()
        self._keep_kernels(plan)
        self._capture()

    def run(self, frame: NDArray[np.uint8], outputs: list[str]) -> list[NDArray[np.float32]]:
        """One frame; copies of the outputs without their first axis."""
        target = self._buffers["frame"].array[0]
        if frame.shape != target.shape or frame.dtype != np.uint8:
            raise EngineError(
                f"{self._library} failed on a frame (uint8 {list(target.shape)} is expected, not {frame.dtype} "
                f"{list(frame.shape)})"
            )
        np.copyto(target, frame)
        if self._graph is not None:
            self._cuda.call("cudaGraphLaunch", self._graph, self._stream)
        else:
            self._enqueue()
        self._wait()
        return [self._buffers[name].array[0].copy() for name in outputs]

    def close(self) -> None:
        """Free the device; the order matters."""
        self._cuda.call("cudaStreamSynchronize", self._stream)
        if self._graph is not None:
            self._cuda.call("cudaGraphExecDestroy", self._graph)
        self._context = self.engine = self._runtime = None
        for buffer in self._buffers.values():
            buffer.close()
        self._cuda.call("cudaEventDestroy", self._done)
        self._cuda.call("cudaStreamDestroy", self._stream)

    def _bind(self) -> None:
        for index in range(self.engine.num_io_tensors):
            name = self.engine.get_tensor_name(index)
            shape, dtype = tuple(self.engine.get_tensor_shape(name)), self.engine.get_tensor_dtype(name).name
            if dtype not in _TYPES or min(shape, default=0) < 1:
                raise EngineError(
                    f"{self._library}: the engine's {name} is {dtype} {list(shape)}, not what GenSoup builds"
                )
            self._buffers[name] = PinnedBuffer(self._cuda, shape, _TYPES[dtype])
            self._buffers[name].array[...] = 0
            self._context.set_tensor_address(name, self._buffers[name].device)
        if not {"frame", PROBABILITIES} <= set(self._buffers):
            raise EngineError(
                f"{self._library}: the engine has {sorted(self._buffers)}, not 'frame' and 'probabilities'"
            )

    def _enqueue(self) -> None:
        self._buffers["frame"].upload(self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise EngineError(f"{self._library} failed on a frame ({self._log.reason()})")
        for name, buffer in self._buffers.items():
            if name != "frame":
                buffer.download(self._stream)

    def _wait(self) -> None:
        self._cuda.call("cudaEventRecord", self._done, self._stream)
        self._cuda.call("cudaEventSynchronize", self._done)

    def _capture(self) -> None:
        """Record one frame as a CUDA graph; an engine that cannot be captured is launched kernel by kernel instead."""
        runtime = self._cuda.runtime
        if hasattr(self._context, "is_stream_capturable") and not self._context.is_stream_capturable(int(self._stream)):
            return
        self._cuda.call(
            "cudaStreamBeginCapture", self._stream, runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        )
        try:
            self._enqueue()
        except EngineError:
            runtime.cudaStreamEndCapture(self._stream)  # its own error says again what failed
            return
        graph = self._cuda.call("cudaStreamEndCapture", self._stream)
        self._graph = self._cuda.call("cudaGraphInstantiate", graph, 0)
        self._cuda.call("cudaGraphDestroy", graph)

    def _make_context(self, plan: bytes) -> Any:
        if self._library == "tensorrt-rtx":
            self._config = self.engine.create_runtime_config()
            self._kernels = self._config.create_runtime_cache()
            if (content := read_private(_kernels_path(plan))) is not None:
                self._kernels.deserialize(content)
            self._config.set_runtime_cache(self._kernels)
            context = self.engine.create_execution_context(self._config)
        else:
            context = self.engine.create_execution_context()
        if context is None:
            raise EngineError(f"{self._library} cannot run the engine ({self._log.reason()})")
        return context

    def _keep_kernels(self, plan: bytes) -> None:
        """TensorRT for RTX compiles its kernels on the device: kept, the next start is quick."""
        if self._library != "tensorrt-rtx" or read_private(_kernels_path(plan)) is not None:
            return
        with suppress(WriteError):  # slower starts, nothing worse
            write_private(_kernels_path(plan), bytes(self._kernels.serialize()))


def _kernels_path(plan: bytes) -> Path:
    return engines_folder() / f"{hashlib.sha256(plan).hexdigest()[:32]}.kernels"
