"""Which engine, in which precision: the fastest on this machine of those that pass the golden frames."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.console import StageProgress
from gensoup.runtime.engines import Engine
from gensoup.runtime.engines.catalogue import (
    AUTO,
    ENGINES,
    ON_CPU,
    check_engine,
    open_engine,
    ready_without_building,
    this_device,
    versions,
)
from gensoup.runtime.errors import EngineError, GenSoupError, UsageError, WriteError
from gensoup.runtime.private_cache import cache_root, read_private, write_private

FORMAT = 1
_REFERENCE_PRECISION = "fp32"
# Frames come at an endoscope's pace: back to back, with warm caches and threads awake, engines look better.
_RATE_HZ, _ROUNDS, _WARM_UP, _FRAMES = 64.0, 2, 4, 20
_WORTH_IT = 0.95  # another than the earlier candidate is taken from 5% on: less is noise


@dataclass(frozen=True)
class Candidate:
    """An engine's name and a precision."""

    engine: str
    precision: str


@dataclass(frozen=True)
class Chosen:
    """The engine that was opened and proven, and its precision; median milliseconds where candidates were compared."""

    engine: Engine
    precision: str
    milliseconds: Mapping[Candidate, float]


@dataclass(frozen=True)
class Request:
    """What a user wants of a bundle: ``engine`` "auto" or a name, ``precision`` None for any, CPU threads."""

    engine: str = AUTO
    precision: str | None = None
    threads: int | None = None
    engines_dir: Path | None = None


def candidates(request: Request, models: Mapping[str, bytes]) -> list[Candidate]:
    """What can answer a request, the reference first. "auto" holds nothing that would have to be compiled first.

    Raises UsageError for an engine that is unknown or cannot be used here, or a precision that the bundle lacks.
    """
    check_engine(request.engine)
    if request.engines_dir is not None and request.engine not in (AUTO, "tensorrt-rtx"):
        raise UsageError(f"--engines-dir: holds engines of tensorrt-rtx; leave it out with --engine {request.engine}")
    if request.precision is not None and request.precision not in models:
        raise UsageError(
            f"precision '{request.precision}': this bundle holds {', '.join(models)}; "
            "gensoup export RUN --precision adds others"
        )
    precisions = [request.precision] if request.precision is not None else list(models)
    precisions.sort(key=lambda name: name != _REFERENCE_PRECISION)
    if request.engine != AUTO:
        return [Candidate(request.engine, precision) for precision in precisions]
    found = [
        Candidate(engine, precision)
        for engine in ENGINES
        for precision in precisions
        if ready_without_building(engine, models[precision], precision, request.engines_dir)
    ]
    # Without any engine installed the reference says what to install.
    return found or [Candidate(ENGINES[0], precisions[0])]


def choose(
    request: Request,
    models: Mapping[str, bytes],
    bundle_sha256: str,
    frame: NDArray[np.uint8],
    prove: Callable[[Engine, str], object],
    progress: StageProgress | None = None,
) -> Chosen:
    """Open the fastest candidate that ``prove`` (engine, precision) lets pass; measured once, then remembered.

    models: precision → ONNX bytes. frame: a network input, uint8 [H, W, 3]. progress: told of measuring only.
    Raises UsageError, or the first candidate's error when none passes.
    """
    wanted = candidates(request, models)

    def opened(candidate: Candidate) -> Engine:
        model = models[candidate.precision]
        engine = open_engine(candidate.engine, model, candidate.precision, request.threads, request.engines_dir)
        try:
            prove(engine, candidate.precision)
        except GenSoupError:
            _close(engine)
            raise
        return engine

    if len(wanted) == 1:
        return Chosen(opened(wanted[0]), wanted[0].precision, {})
    memory = cache_root() / "choices" / f"{_key(request, wanted, bundle_sha256)}.json"
    if (remembered := recall(memory, wanted)) is not None:
        try:
            return Chosen(opened(remembered), remembered.precision, {})
        except GenSoupError:  # what was built is gone, or the driver changed its mind: measure again
            pass
    report = progress or (lambda stage, done, total: None)
    engines: dict[Candidate, Engine] = {}
    errors: dict[Candidate, GenSoupError] = {}
    for number, candidate in enumerate(wanted):
        report("engines", number, len(wanted) + _ROUNDS)
        try:
            engines[candidate] = opened(candidate)
        except GenSoupError as error:
            errors[candidate] = error
    milliseconds = _measure(engines, frame, report, errors) if len(engines) > 1 else {}
    for candidate in errors.keys() & engines.keys():
        _close(engines.pop(candidate))
    if not engines:
        raise errors[wanted[0]]
    best = fastest(milliseconds) if milliseconds else next(iter(engines))
    for candidate, engine in engines.items():
        if candidate != best:
            _close(engine)
    if not any(_may_pass(candidate, error) for candidate, error in errors.items()):
        remember(memory, best, milliseconds)
    return Chosen(engines[best], best.precision, milliseconds)


def _close(engine: Engine) -> None:
    with suppress(EngineError):  # a GPU that is lost cannot be tidied up
        engine.close()


def _may_pass(candidate: Candidate, error: GenSoupError) -> bool:
    """Whether a candidate may do better at the next start: a GPU that was not ready, and not one with wrong answers."""
    failed = isinstance(error, EngineError) or isinstance(error.__cause__, EngineError)
    return failed and candidate.engine not in ON_CPU


def fastest(milliseconds: Mapping[Candidate, float]) -> Candidate:
    """The fastest; an earlier one is only left for one that is faster by more than 5%."""
    best, *others = milliseconds
    for candidate in others:
        if milliseconds[candidate] < _WORTH_IT * milliseconds[best]:
            best = candidate
    return best


def recall(memory: Path, wanted: Sequence[Candidate]) -> Candidate | None:
    """What was chosen here before; None where nothing was, or where the note cannot be trusted."""
    try:
        values = json.loads(read_private(memory) or b"")
        if values["format"] != FORMAT:
            return None
        candidate = Candidate(str(values["engine"]), str(values["precision"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return candidate if candidate in wanted else None


def remember(memory: Path, best: Candidate, milliseconds: Mapping[Candidate, float]) -> None:
    """Note a choice for the next start. A cache that cannot be written only costs measuring again."""
    measured = [
        {"engine": candidate.engine, "precision": candidate.precision, "median_ms": round(value, 3)}
        for candidate, value in milliseconds.items()
    ]
    values: dict[str, Any] = {
        "format": FORMAT,
        "engine": best.engine,
        "precision": best.precision,
        "measured": measured,
    }
    try:
        write_private(memory, json.dumps(values, indent=2) + "\n")
    except WriteError:
        return


def _measure(
    engines: Mapping[Candidate, Engine],
    frame: NDArray[np.uint8],
    report: StageProgress,
    errors: dict[Candidate, GenSoupError],
) -> dict[Candidate, float]:
    """Median milliseconds of an inference at an endoscope's pace. In turns: a disturbance then hits all of them.

    An engine that fails is left out, and its error put into ``errors``.
    """
    taken: dict[Candidate, list[float]] = {candidate: [] for candidate in engines}
    for number in range(_ROUNDS):
        report("engines", len(engines) + number, len(engines) + _ROUNDS)
        for candidate in [candidate for candidate in engines if candidate not in errors]:
            try:
                taken[candidate] += _paced(engines[candidate], frame)
            except EngineError as error:
                errors[candidate] = error
    report("engines", len(engines) + _ROUNDS, len(engines) + _ROUNDS)
    return {candidate: statistics.median(values) for candidate, values in taken.items() if candidate not in errors}


def _paced(engine: Engine, frame: NDArray[np.uint8]) -> list[float]:
    taken = []
    due = time.monotonic()
    for number in range(_WARM_UP + _FRAMES):
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due + 1 / _RATE_HZ, time.monotonic())
        started = time.perf_counter()
        engine.infer(frame)
        if number >= _WARM_UP:
            taken.append((time.perf_counter() - started) * 1e3)
    return taken


def _key(request: Request, wanted: Sequence[Candidate], bundle_sha256: str) -> str:
    """Everything on which the answer depends."""
    parts = {
        "bundle": bundle_sha256,
        "candidates": [[candidate.engine, candidate.precision] for candidate in wanted],
        "threads": request.threads,
        "device": this_device(),
        "versions": versions(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]
