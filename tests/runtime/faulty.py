"""Real engines that can be told to fail: they raise, hang, take longer or give nonsense, on command."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gensoup.runtime.bundle import read_bundle
from gensoup.runtime.classifier import Classifier, FrameClassifier
from gensoup.runtime.engines import Engine, Layer, load_engine
from gensoup.runtime.errors import EngineError
from gensoup.runtime.failover import golden_proof
from gensoup.runtime.guard import Guarded


class FaultyEngine:
    """Around a real engine: ``fault`` is "", "raise", "hang", "nan" or "slow"; ``release`` ends all hanging."""

    def __init__(self, real: Engine, name: str = "faulty", fault: str = "") -> None:
        self.real = real
        self.name = name
        self.fault = fault
        self.slow_s = 0.03
        self.release = threading.Event()
        self.calls = 0
        self.closed = 0

    def infer(self, frame: np.ndarray) -> np.ndarray:
        self.calls += 1
        if self.fault == "raise":
            raise EngineError("device lost")
        if self.fault == "hang":
            assert self.release.wait(60)
        if self.fault == "slow":
            time.sleep(self.slow_s)
        probabilities = self.real.infer(frame)
        return np.full_like(probabilities, np.nan) if self.fault == "nan" else probabilities

    def explain(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.real.explain(frame)

    def close(self) -> None:
        self.closed += 1

    def layers(self) -> Sequence[Layer]:
        return self.real.layers()


class Rig:
    """A guard over two classifiers of one bundle, whose engines can be told to fail; ``loaded``: those loaded anew."""

    def __init__(
        self,
        bundle: Path,
        *,
        reload: bool = True,
        slow_ms: float | None = 60_000,
        patience_s: float = 0.3,
        retry_s: float = 0.1,
    ) -> None:
        self.bundle = read_bundle(bundle)
        self.first = self.engine("first")
        self.second = self.engine("second")
        self.loaded: list[FaultyEngine] = []
        self.next_fault = ""
        self.guard = Guarded(
            self.classifier(self.first),
            self.classifier(self.second),
            golden_proof(replace(self.bundle, models={})),
            reload_first=self._reload if reload else None,
            slow_ms=slow_ms,
            patience_s=patience_s,
            retry_s=retry_s,
        )

    def engine(self, name: str, fault: str = "") -> FaultyEngine:
        return FaultyEngine(load_engine(self.bundle.model, 1), name, fault)

    def classifier(self, engine: FaultyEngine) -> Classifier:
        manifest = self.bundle.manifest
        return Classifier(manifest.labels, manifest.preprocess, engine, self.bundle.sha256)

    def _reload(self) -> FrameClassifier:
        self.loaded.append(self.engine(f"first again {len(self.loaded)}", self.next_fault))
        return self.classifier(self.loaded[-1])

    def close(self) -> None:
        for engine in (self.first, self.second, *self.loaded):
            engine.release.set()
        self.guard.close()
