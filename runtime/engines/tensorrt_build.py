"""Building TensorRT engines: an explicit step with progress, never on the frame path."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gensoup.runtime.console import StageProgress
from gensoup.runtime.engines import PROBABILITIES, SALIENCY, Layer, built_precisions, check_precision
from gensoup.runtime.engines.cuda import Cuda
from gensoup.runtime.engines.engine_files import EngineKey, engines_folder, model_digest, store_engine
from gensoup.runtime.engines.graph_outputs import keep_outputs, output_names
from gensoup.runtime.engines.tensorrt_library import (
    Library,
    engine_layers,
    error_log,
    load_tensorrt,
    network_layers,
)
from gensoup.runtime.errors import EngineError, UsageError
from gensoup.runtime.private_cache import read_private, write_private

WORKSPACE_BYTES = 1 << 30
_PROGRESS_STEPS = 1000


@dataclass(frozen=True)
class Built:
    """A serialised engine, the layers of the network it was built from, and TensorRT's timing cache afterwards."""

    plan: bytes
    layers: Sequence[Layer]
    timing_cache: bytes | None


def output_sets(model: bytes) -> tuple[tuple[str, ...], ...]:
    """Which engines a graph needs: one for the frame path, and one with saliency where the graph has it.

    Raises EngineError for bytes that are no ONNX model.
    """
    try:
        names = output_names(model)
    except ValueError as error:
        raise EngineError(str(error)) from error
    return ((PROBABILITIES,), (PROBABILITIES, SALIENCY)) if SALIENCY in names else ((PROBABILITIES,),)


def key_of(
    library: Library, version: str, model: bytes, precision: str, outputs: tuple[str, ...], sms: tuple[str, ...]
) -> EngineKey:
    """The key of an engine built ahead of time; what depends on one machine is added by :func:`local_key`."""
    return EngineKey(model_digest(model), library, version, precision, sms, outputs)


def local_key(key: EngineKey, device: dict[str, str], workspace_bytes: int = WORKSPACE_BYTES) -> EngineKey:
    """The key of an engine built on, and for, the GPU that :meth:`gensoup.runtime.engines.cuda.Cuda.device` names."""
    flags = (f"workspace {workspace_bytes}", "tf32 off")
    return replace(key, sms=(device["sm"],), flags=flags, driver=device["driver"], gpu=device["gpu"])


def build_here(
    library: Library,
    model: bytes,
    precision: str,
    progress: StageProgress | None = None,
    workspace_bytes: int = WORKSPACE_BYTES,
) -> list[Path]:
    """Build the engines of one ONNX model for this machine's GPU, into the user's private cache; returns their paths.

    The built engine is inspected: one that does not run in ``precision`` is refused.
    Raises EngineError or MissingDependencyError, WriteError when the cache cannot be written.
    """
    trt = load_tensorrt(library)
    device = Cuda(library).device()
    paths = []
    for outputs in output_sets(model):
        key = local_key(key_of(library, trt.__version__, model, precision, outputs, ()), device, workspace_bytes)
        timings = _timing_cache_path(key)
        started = time.monotonic()
        built = build_plan(
            library,
            keep_outputs(model, outputs),
            workspace_bytes=workspace_bytes,
            timing_cache=read_private(timings) or b"",
            progress=_staged(progress, f"{library} {precision}"),
        )
        layers = _inspected(trt, built.plan) or list(built.layers)
        check_precision(precision, layers, library)
        if built.timing_cache is not None:
            write_private(timings, built.timing_cache)
        notes = {"built": built_precisions(layers), "seconds": round(time.monotonic() - started, 1)}
        paths.append(store_engine(key, built.plan, notes))
    return paths


def build_ahead_of_time(
    model: bytes, precision: str, sms: Sequence[str], folder: Path, progress: StageProgress | None = None
) -> list[Path]:
    """Build TensorRT-RTX engines for GPU generations ("86" for 8.6), here without a GPU; returns their paths.

    The network is strongly typed, so its layers' precisions are what gets built; they are checked against ``precision``
    and noted beside the engine. Raises UsageError for a generation the library does not know, else as
    :func:`build_here`.
    """
    library: Library = "tensorrt-rtx"
    trt = load_tensorrt(library)
    paths = []
    for outputs in output_sets(model):
        staged = _staged(progress, f"{library} {precision}")
        started = time.monotonic()
        built = build_plan(library, keep_outputs(model, outputs), sms=sms, progress=staged)
        check_precision(precision, built.layers, library)
        notes = {"built": built_precisions(built.layers), "seconds": round(time.monotonic() - started, 1)}
        key = key_of(library, trt.__version__, model, precision, outputs, tuple(sms))
        paths.append(store_engine(key, built.plan, notes, folder))
    return paths


def build_plan(
    library: Library,
    model: bytes,
    *,
    sms: Sequence[str] = (),
    workspace_bytes: int = WORKSPACE_BYTES,
    timing_cache: bytes = b"",
    progress: Callable[[int, int], None] | None = None,
) -> Built:
    """Parse and build one ONNX model, strongly typed. ``sms``: empty: the GPU of this machine.

    Raises EngineError with what the parser or builder said.
    """
    trt = load_tensorrt(library)
    log = error_log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        reason = parser.get_error(0).desc() if parser.num_errors else log.reason()
        raise EngineError(f"{library} cannot parse the model ({' '.join(reason.split())})")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
    config.clear_flag(trt.BuilderFlag.TF32)  # it would halve the mantissa of what the bundle calls fp32
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    monitor = progress_monitor(trt, progress or (lambda done, total: None))
    config.progress_monitor = monitor
    if library == "tensorrt-rtx":
        _aim(trt, config, sms)
    timings = None
    if library == "tensorrt":  # a no-op in TensorRT for RTX
        timings = config.create_timing_cache(timing_cache)
        if timings is None:  # of another version or damaged
            timings = config.create_timing_cache(b"")
        config.set_timing_cache(timings, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{library} cannot build the model ({log.reason()})")
    monitor.finish()
    cache = None if timings is None else bytes(config.get_timing_cache().serialize())
    return Built(bytes(plan), network_layers(trt, network), cache)


def known_sms() -> tuple[str, ...]:
    """GPU generations that the installed TensorRT-RTX builds for ahead of time: ("75", "80", "86", …)."""
    members = load_tensorrt("tensorrt-rtx").ComputeCapability.__members__
    return tuple(sorted((name.removeprefix("SM") for name in members if name.startswith("SM")), key=int))


def check_sms(sms: Sequence[str]) -> None:
    """Raise UsageError for a GPU generation that the installed TensorRT-RTX does not build for."""
    if sms and (unknown := [sm for sm in sms if sm not in known_sms()]):
        raise UsageError(f"--sm {','.join(unknown)}: must be of {', '.join(known_sms())}")


def _aim(trt: Any, config: Any, sms: Sequence[str]) -> None:
    """Set the GPU generations; for none, the one here: the library's own default would be several."""
    if not sms:
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.CURRENT, 0)
        return
    check_sms(sms)
    config.num_compute_capabilities = len(sms)
    for index, sm in enumerate(sms):
        config.set_compute_capability(trt.ComputeCapability.__members__[f"SM{sm}"], index)


def progress_monitor(trt: Any, progress: Callable[[int, int], None]) -> Any:
    """TensorRT's nested phases as one bar: a phase fills the current step of its parent. Called from any thread."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.lock = threading.Lock()
            self.phases: dict[str, tuple[str | None, int, int]] = {}  # name → parent, steps done, all steps
            self.shown = -1

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self.lock:
                self.phases[phase_name] = (parent_phase or None, 0, max(1, num_steps))
                self.show()

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self.lock:
                if phase_name in self.phases:
                    parent, _, steps = self.phases[phase_name]
                    self.phases[phase_name] = (parent, min(step + 1, steps), steps)
                    self.show()
            return True  # False would cancel the build

        def phase_finish(self, phase_name: str) -> None:
            with self.lock:
                self.phases.pop(phase_name, None)

        def show(self) -> None:
            share = sum(self.share(name) for name, (parent, _, _) in self.phases.items() if parent is None)
            done = min(_PROGRESS_STEPS - 1, int(share * _PROGRESS_STEPS))
            if done > self.shown:  # phases of different lengths would let the bar jump back
                self.shown = done
                progress(done, _PROGRESS_STEPS)

        def share(self, name: str) -> float:
            _, done, steps = self.phases[name]
            inside = sum(self.share(child) for child, (parent, _, _) in self.phases.items() if parent == name)
            return min(1.0, (done + min(1.0, inside)) / steps)

        def finish(self) -> None:
            progress(_PROGRESS_STEPS, _PROGRESS_STEPS)

    return Monitor()


def _staged(progress: StageProgress | None, stage: str) -> Callable[[int, int], None]:
    return (lambda done, total: None) if progress is None else (lambda done, total: progress(stage, done, total))


def _timing_cache_path(key: EngineKey) -> Path:
    """One timing cache for all models on one GPU with one version of TensorRT."""
    named = hashlib.sha256("\n".join((key.library, key.version, key.driver, key.gpu, *key.sms)).encode()).hexdigest()
    return engines_folder() / f"timings-{named[:16]}.cache"


def _inspected(trt: Any, plan: bytes) -> list[Layer]:
    """The layers of a built engine, where the inspector tells their types; else none."""
    engine = trt.Runtime(error_log(trt)).deserialize_cuda_engine(plan)
    layers = [] if engine is None else engine_layers(trt, engine)
    return layers if built_precisions(layers) else []
