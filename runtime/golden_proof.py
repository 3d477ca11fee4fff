"""Proving preprocessing and engines on a bundle's golden frames, on the machine at hand."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.bundle import Bundle
from gensoup.runtime.engines import Engine
from gensoup.runtime.errors import BundleError, EngineError
from gensoup.runtime.preprocess import Frame


def check_preprocess(bundle: Bundle) -> None:
    """Prove preprocessing on the bundle's golden frames: at most 1 grey level apart. Raises BundleError."""
    golden, labels = bundle.golden, bundle.manifest.labels
    if golden.probabilities.shape[1] != len(labels):
        raise BundleError(f"{bundle.path}: {len(labels)} labels for {golden.probabilities.shape[1]} outputs")
    for number, (camera, expected) in enumerate(zip(golden.camera_frames, golden.frames, strict=True)):
        got = bundle.manifest.preprocess(camera)
        apart = int(np.abs(got.astype(int) - expected).max()) if got.shape == expected.shape else 255
        if apart > 1:
            raise BundleError(f"{bundle.path}: golden frame {number} is preprocessed differently here ({apart} levels)")


def check_engine(bundle: Bundle, engine: Engine, precision: str = "fp32") -> list[float]:
    """Prove an engine on the bundle's golden frames, to the tolerance that the manifest gives ``precision``.

    Gives the milliseconds that each frame took.
    Raises BundleError with the numbers, or with the engine's error when it cannot take the frames.
    """
    return _check(bundle, engine.infer, engine.name, precision)


def check_explaining(bundle: Bundle, engine: Engine, precision: str = "fp32") -> list[float]:
    """As :func:`check_engine`, of the engine's graph with saliency."""
    return _check(bundle, lambda frame: engine.explain(frame)[0], f"{engine.name} with saliency", precision)


def _check(bundle: Bundle, infer: Callable[[Frame], NDArray[np.float32]], name: str, precision: str) -> list[float]:
    golden, tolerance = bundle.golden, bundle.manifest.tolerance(precision)
    taken: list[float] = []
    for number, (frame, expected) in enumerate(zip(golden.frames, golden.probabilities, strict=True)):
        started = time.perf_counter()
        try:
            probabilities = infer(frame)
        except EngineError as error:
            raise BundleError(f"{bundle.path}: golden frame {number}: {error}") from error
        taken.append((time.perf_counter() - started) * 1e3)
        if probabilities.shape != expected.shape:
            raise BundleError(f"{bundle.path}: {len(expected)} labels for {probabilities.size} outputs")
        difference = float(np.abs(probabilities - expected).max())
        if not difference <= tolerance:
            raise BundleError(
                f"{bundle.path}: {name} gives other probabilities than the reference on golden "
                f"frame {number} ({precision}, apart by {difference:.2g}, tolerance {tolerance:.2g})"
            )
    return taken
