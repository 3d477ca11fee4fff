"""All engines by name: which can be used here, and how each is opened."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from gensoup.runtime.device import fingerprint, installed_version
from gensoup.runtime.engines import PROBABILITIES, Engine
from gensoup.runtime.engines.engine_files import engines_folder, model_digest
from gensoup.runtime.engines.tensorrt_library import LIBRARIES, Library
from gensoup.runtime.errors import EngineError, GenSoupError, MissingDependencyError, UsageError
from gensoup.runtime.private_cache import make_private, read_private, write_private

AUTO = "auto"
REFERENCE = "onnxruntime-cpu"
# Name → the packages of which one must be installed, and the extra that has it; the reference first.
_ENGINES: dict[str, tuple[tuple[str, ...], str]] = {
    REFERENCE: (("onnxruntime", "onnxruntime-gpu"), "cpu"),
    "openvino-cpu": (("openvino",), "openvino"),
    "onnxruntime-cuda": (("onnxruntime-gpu",), "gpu"),
    "onnxruntime-tensorrt": (("onnxruntime-gpu",), "gpu"),
    "tensorrt": (("tensorrt",), "tensorrt"),
    "tensorrt-rtx": (("tensorrt-rtx",), "tensorrt-rtx"),
}
ENGINES: tuple[str, ...] = tuple(_ENGINES)
ON_CPU = (REFERENCE, "openvino-cpu")
# Those that compile for minutes before their first frame.
COMPILING = (*LIBRARIES, "onnxruntime-tensorrt")
_FINISHED = "finished"


def obstacle(name: str) -> GenSoupError | None:
    """Why an engine cannot be used on this machine, as far as can be told without loading it; None when it can."""
    packages, extra = _ENGINES[name]
    # On Jetson TensorRT is a package of the system's, which only an import finds.
    if installed_version(*packages) is None and not _importable(packages[0]):
        return MissingDependencyError(packages[0], extra)
    if name not in ON_CPU and not _has_nvidia_driver():
        return EngineError(f"{name}: no NVIDIA driver here: nvidia-smi should show the GPU")
    return None


def check_engine(name: str, choice: str = AUTO) -> None:
    """Raise UsageError for an engine that does not exist or cannot be used here, with those that can.

    choice: what stands for no engine in particular.
    """
    if name == choice:
        return
    obstacles = {other: obstacle(other) for other in ENGINES}
    usable = ", ".join((choice, *(other for other, reason in obstacles.items() if reason is None)))
    if name not in obstacles:
        lacking = "; ".join(f"{other}: {_remedy(other, reason)}" for other, reason in obstacles.items() if reason)
        others = f" (not {lacking})" if lacking else ""
        raise UsageError(f"engine '{name}': no such engine; usable here: {usable}{others}")
    if (reason := obstacles[name]) is not None:
        raise UsageError(f"engine '{name}': {_remedy(name, reason)}; usable here: {usable}")


def ready_without_building(name: str, model: bytes, precision: str, engines_dir: Path | None = None) -> bool:
    """Whether an engine can be tried unasked: nothing that compiles for minutes, only what was built before.

    engines_dir: as for :func:`open_engine`.
    """
    if obstacle(name) is not None:
        return False
    if name in LIBRARIES:
        from gensoup.runtime.engines.tensorrt import find_engine

        try:
            find_engine(_library(name), model, precision, (PROBABILITIES,), _ahead_of_time(name, engines_dir))
        except GenSoupError:
            return False
    if name == "onnxruntime-tensorrt":
        return read_private(_provider_cache(model) / _FINISHED) is not None
    return True


def open_engine(
    name: str, model: bytes, precision: str, threads: int | None = None, engines_dir: Path | None = None
) -> Engine:
    """Load an ONNX ``model`` of ``precision`` into the engine ``name``.

    threads: CPU cores, None: the engine's default. engines_dir: where TensorRT-RTX engines built ahead of time lie.
    ``onnxruntime-tensorrt`` compiles at the first call, for minutes; TensorRT's own engines must have been built.
    Raises EngineError, MissingDependencyError.
    """
    if (reason := obstacle(name)) is not None:
        raise reason
    if name in LIBRARIES:
        from gensoup.runtime.engines.tensorrt import TensorRtEngine

        return TensorRtEngine(_library(name), model, precision, _ahead_of_time(name, engines_dir))
    if name == "openvino-cpu":
        from gensoup.runtime.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(model, threads)
    from gensoup.runtime.engines.onnxruntime import OnnxRuntimeEngine

    if name == "onnxruntime-cuda":
        return OnnxRuntimeEngine(model, threads, "cuda")
    if name == "onnxruntime-tensorrt":
        folder = _provider_cache(model)
        make_private(folder)
        engine = OnnxRuntimeEngine(model, threads, "tensorrt", folder)
        write_private(folder / _FINISHED, "")
        return engine
    return OnnxRuntimeEngine(model, threads)


def versions() -> dict[str, str | None]:
    """What decides how fast and how exact engines are, by package."""
    packages = sorted({package for names, _ in _ENGINES.values() for package in names})
    return {package: installed_version(package) for package in packages}


def engine_versions(name: str) -> dict[str, str | None]:
    """What an engine's speed depends on, by package: the first of those it may come from that is installed."""
    return {package: version for package in _ENGINES[name][0] if (version := installed_version(package)) is not None}


def this_device() -> Mapping[str, Any]:
    """What is measured here holds for machines with the same of this alone."""
    told = fingerprint()
    return {name: told[name] for name in ("model", "cpu", "cores", "usable_cores", "machine", "gpus", "nvidia_driver")}


def _ahead_of_time(name: str, engines_dir: Path | None) -> Path | None:
    """Only TensorRT for RTX builds for other GPUs than the one at hand."""
    return engines_dir if name == "tensorrt-rtx" else None


def _library(name: str) -> Library:
    return next(library for library in get_args(Library) if library == name)


def _provider_cache(model: bytes) -> Path:
    """Where ONNX Runtime's TensorRT provider keeps what it compiled for one model on this machine."""
    parts = repr((model_digest(model), sorted(versions().items(), key=str), sorted(this_device().items(), key=str)))
    return engines_folder() / f"onnxruntime-{hashlib.sha256(parts.encode()).hexdigest()[:32]}"


def _remedy(name: str, reason: GenSoupError) -> str:
    return str(reason).removeprefix(f"{name}: ")


def _importable(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package.replace("-", "_")) is not None


@lru_cache(maxsize=1)
def _has_nvidia_driver() -> bool:
    """Whether libcuda is there: with the driver on PCs, with JetPack on Jetson, under WSL."""
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True
