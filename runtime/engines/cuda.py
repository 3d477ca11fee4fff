"""What the frame path needs of CUDA, by NVIDIA's own ``cuda-bindings``: pinned buffers, a stream, a graph."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.device import nvidia_release
from gensoup.runtime.errors import EngineError, MissingDependencyError


def load_cudart(extra: str) -> Any:
    """``cuda.bindings.runtime``, once it is sure that there is a device; ``extra`` is what installs it.

    Raises MissingDependencyError without the package, EngineError without a driver or a GPU.
    """
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise MissingDependencyError("cuda-bindings", extra) from error
    try:
        status, count = runtime.cudaGetDeviceCount()
    except RuntimeError as reason:  # no libcuda at all
        raise EngineError("no NVIDIA driver here: nvidia-smi should show the GPU") from reason
    if status != runtime.cudaError_t.cudaSuccess or count < 1:
        raise EngineError(f"no CUDA device ({status.name}): nvidia-smi should show the GPU")
    return runtime


class Cuda:
    """Checked calls of the CUDA runtime on device 0. Every method raises EngineError with CUDA's name of the error."""

    def __init__(self, extra: str) -> None:
        """See :func:`load_cudart`."""
        self.runtime = load_cudart(extra)
        self.call("cudaSetDevice", 0)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the runtime; its result without the error code (None, one value or a tuple)."""
        error, *results = getattr(self.runtime, name)(*arguments)
        if error != self.runtime.cudaError_t.cudaSuccess:
            raise EngineError(f"{name} failed ({error.name})")
        return results[0] if len(results) == 1 else tuple(results) or None

    def device(self) -> dict[str, str]:
        """GPU name, compute capability ("86") and driver of device 0.

        The driver's own version where the system tells it: CUDA's, 12040 for 12.4, is the same for many drivers.
        """
        properties = self.call("cudaGetDeviceProperties", 0)
        name = properties.name
        return {
            "gpu": (name.decode() if isinstance(name, bytes) else str(name)).rstrip("\0"),
            "sm": f"{properties.major}{properties.minor}",
            "driver": nvidia_release() or str(self.call("cudaDriverGetVersion")),
        }


class PinnedBuffer:
    """An array in page-locked host memory with its counterpart on the device."""

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self._cuda = cuda
        self.bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._host = int(cuda.call("cudaMallocHost", self.bytes))
        self.device = int(cuda.call("cudaMalloc", self.bytes))
        memory = (ctypes.c_ubyte * self.bytes).from_address(self._host)
        self.array: NDArray[Any] = np.ndarray(shape, dtype, buffer=memoryview(memory))

    def upload(self, stream: Any) -> None:
        """Queue the copy to the device."""
        self._copy(self.device, self._host, "cudaMemcpyHostToDevice", stream)

    def download(self, stream: Any) -> None:
        """Queue the copy from the device."""
        self._copy(self._host, self.device, "cudaMemcpyDeviceToHost", stream)

    def close(self) -> None:
        """Free both; ``array`` must not be used any more."""
        if self.device:
            self.array = np.zeros(0, self.array.dtype)
            self._cuda.call("cudaFree", self.device)
            self._cuda.call("cudaFreeHost", self._host)
            self.device = self._host = 0

    def _copy(self, target: int, source: int, kind: str, stream: Any) -> None:
        direction = getattr(self._cuda.runtime.cudaMemcpyKind, kind)
        self._cuda.call("cudaMemcpyAsync", target, source, self.bytes, direction, stream)
