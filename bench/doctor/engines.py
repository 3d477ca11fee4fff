"""What each engine can do here: a small network is loaded into it and run for real."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from gensoup.bench.doctor import Line, Mark
from gensoup.runtime.engines import Engine
from gensoup.runtime.engines.catalogue import COMPILING, ENGINES, obstacle, open_engine
from gensoup.runtime.engines.tensorrt_library import LIBRARIES
from gensoup.runtime.errors import GenSoupError, MissingDependencyError

SECTION = "engines"
SIZE = 224  # of the small network's input, px
_WARM_UP, _CALLS, _RATE_HZ = 3, 16, 64.0


@dataclass(frozen=True)
class Trial:
    """How an engine did. milliseconds: median of a call at 64 a second, None where it did not run. text: what happened.

    installed: whether its package is here.
    """

    engine: str
    milliseconds: float | None
    text: str
    installed: bool


def small_network() -> bytes:
    """ONNX bytes: convolutions of 41 M multiply-adds at 224 px, input ``frame``, output ``probabilities`` [1, 2].

    Its weights are random. tests/bench/doctor/small_network.py makes it.
    """
    return files("gensoup.bench.doctor").joinpath("small_network.onnx").read_bytes()


def try_engines(
    model: bytes, names: Sequence[str] = ENGINES, open_: Callable[[str, bytes, str], Engine] = open_engine
) -> list[Trial]:
    """Each engine in turn; those that compile for minutes are asked for their library and their GPU alone."""
    return [_try(name, model, open_) for name in names]


def _try(name: str, model: bytes, open_: Callable[[str, bytes, str], Engine]) -> Trial:
    if (reason := obstacle(name)) is not None:
        return Trial(name, None, str(reason).removeprefix(f"{name}: "), not isinstance(reason, MissingDependencyError))
    try:
        if name in COMPILING:
            return Trial(name, None, _library(name), True)
        engine = open_(name, model, "fp32")
        try:
            return Trial(name, _milliseconds(engine), "", True)
        finally:
            engine.close()
    except GenSoupError as error:
        return Trial(name, None, f"failed: {str(error).removeprefix(f'{name}: ')}", True)


def _library(name: str) -> str:
    """What can be told of an engine that compiles first. Raises GenSoupError when it cannot work."""
    if name not in LIBRARIES:
        import onnxruntime

        if "TensorrtExecutionProvider" not in onnxruntime.get_available_providers():
            return "failed: this onnxruntime has no TensorRT provider"
        return "is there; compiles when first named, for minutes"
    from gensoup.runtime.engines.cuda import Cuda
    from gensoup.runtime.engines.tensorrt_library import load_tensorrt

    library = load_tensorrt("tensorrt" if name == "tensorrt" else "tensorrt-rtx")
    device = Cuda(name).device()
    return f"{library.__version__} on {device['gpu']}; gensoup export BUNDLE --target {name} builds its engines"


def _milliseconds(engine: Engine) -> float:
    frame = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    times = []
    for number in range(_WARM_UP + _CALLS):
        started = time.perf_counter()
        engine.infer(frame)
        taken = time.perf_counter() - started
        if number >= _WARM_UP:
            times.append(taken)
        time.sleep(max(0.0, 1 / _RATE_HZ - taken))
    return statistics.median(times) * 1e3


def engine_lines(trials: Sequence[Trial], gpu: bool) -> list[Line]:
    """gpu: whether an NVIDIA GPU is in this machine."""
    lines = []
    for trial in trials:
        if trial.milliseconds is not None:
            text = f"{trial.milliseconds:.1f} ms for the small network (median at 64 a second)"
            lines.append(Line(SECTION, trial.engine, Mark.GOOD, text))
        elif trial.text.startswith("failed"):
            lines.append(Line(SECTION, trial.engine, Mark.RED, trial.text, f"see docs/engines.md, {trial.engine}"))
        else:
            lines.append(Line(SECTION, trial.engine, Mark.NOTE, trial.text))
    usable = [trial.engine for trial in trials if trial.milliseconds is not None]
    if not usable:
        lines.append(Line(SECTION, "any", Mark.RED, "no engine runs here", "pip install 'gensoup[cpu]'"))
    elif gpu and all(name.endswith("-cpu") for name in usable) and not any(_works(trial) for trial in trials):
        remedy = "pip uninstall -y onnxruntime; pip install 'gensoup[gpu]', or 'gensoup[tensorrt]' (docs/engines.md)"
        lines.append(Line(SECTION, "GPU", Mark.RED, "a GPU is here and no engine uses it", remedy))
    return lines


def _works(trial: Trial) -> bool:
    return trial.engine in COMPILING and trial.installed and trial.text.endswith(("builds its engines", "for minutes"))
