"""A bundle on an engine, proven on this machine before the first frame."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.bundle import Bundle, Manifest, read_bundle
from gensoup.runtime.engines import Engine, load_engine
from gensoup.runtime.errors import BundleError, EngineError, UsageError
from gensoup.runtime.preprocess import Preprocess


@dataclass(frozen=True)
class Prediction:
    """What one frame shows.

    probabilities: float32 [K], in the order of the bundle's labels.
    preprocess_ms, engine_ms: the two stages; latency_ms: their sum.
    saliency: float32 [h, w] in [0, 1], where in the network's input the label's evidence lies; None unless asked for.
    """

    label: str
    index: int
    probability: float
    probabilities: NDArray[np.float32]
    preprocess_ms: float
    engine_ms: float
    saliency: NDArray[np.float32] | None = None

    @property
    def latency_ms(self) -> float:
        """Milliseconds from the call to the result."""
        return self.preprocess_ms + self.engine_ms


class Explaining:
    """A classifier that always tells where the evidence lies, for a stream."""

    def __init__(self, classifier: Classifier) -> None:
        """Raises UsageError where the bundle has no saliency."""
        classifier.check_saliency()
        self.engine = classifier.engine
        self._classifier = classifier

    def __call__(self, frame: NDArray[np.uint8]) -> Prediction:
        """Classify a BGR uint8 frame [height, width, 3] of any size."""
        return self._classifier(frame, saliency=True)


class Classifier:
    """Classifies frames one at a time; not thread-safe, use one a thread."""

    def __init__(self, labels: tuple[str, ...], preprocess: Preprocess, engine: Engine, sha256: str = "") -> None:
        """``sha256``: the digest of the bundle it came from, empty where there is none."""
        self.labels = labels
        self.preprocess = preprocess
        self.engine = engine
        self.sha256 = sha256
        self.manifest: Manifest | None = None

    @classmethod
    def load(
        cls, path: str | Path, threads: int | None = None, require_signature: str | Path | None = None
    ) -> Classifier:
        """Open a bundle, load it into this machine's engine and check it against its golden frames.

        threads: CPU cores the engine may use; None: the engine's default. require_signature: a file of public keys, one
        of which must have signed the bundle.
        Raises BundleError when the bundle is damaged or does not give its golden outputs here, EngineError or
        MissingDependencyError when no engine can run it.
        """
        bundle = read_bundle(Path(path), None if require_signature is None else Path(require_signature))
        try:
            engine = load_engine(bundle.model, threads)
        except EngineError as error:
            raise BundleError(f"{path}: {error}") from error
        classifier = cls(bundle.manifest.labels, bundle.manifest.preprocess, engine, bundle.sha256)
        classifier.manifest = bundle.manifest
        check_golden(bundle, classifier)
        return classifier

    def __call__(self, frame: NDArray[np.uint8], saliency: bool = False) -> Prediction:
        """Classify a BGR uint8 frame [height, width, 3] of any size; ``saliency``: also tell where its evidence lies.

        Raises DataError for anything else, EngineError when the engine fails or the bundle has no saliency.
        """
        started = time.perf_counter()
        network_input = self.preprocess(frame)
        prepared = time.perf_counter()
        shown = None
        if saliency:
            probabilities, shown = self.engine.explain(network_input)
        else:
            probabilities = self.engine.infer(network_input)
        done = time.perf_counter()
        index = int(np.argmax(probabilities))
        return Prediction(
            label=self.labels[index],
            index=index,
            probability=float(probabilities[index]),
            probabilities=probabilities,
            preprocess_ms=(prepared - started) * 1e3,
            engine_ms=(done - prepared) * 1e3,
            saliency=shown,
        )

    def check_saliency(self) -> None:
        """Raise UsageError, with the reason, where the bundle has no saliency."""
        stated = self.manifest.saliency if self.manifest is not None else {}
        if not stated.get("available"):
            reason = stated.get("reason", "it was exported before there was one: export the run again")
            raise UsageError(f"--saliency: the bundle has no saliency map ({reason})")


def check_golden(bundle: Bundle, classifier: Classifier) -> None:
    """Prove preprocessing (≤ 1 grey level) and engine (≤ the manifest's tolerance) on the bundle's golden frames.

    Raises BundleError with the numbers when either is off, or the engine's error when it cannot take the frames.
    """
    golden, tolerance = bundle.golden, bundle.manifest.tolerance()
    if golden.probabilities.shape[1] != len(classifier.labels):
        raise BundleError(f"{bundle.path}: {len(classifier.labels)} labels for {golden.probabilities.shape[1]} outputs")
    for number, (camera, expected) in enumerate(zip(golden.camera_frames, golden.frames, strict=True)):
        got = classifier.preprocess(camera)
        apart = int(np.abs(got.astype(int) - expected).max()) if got.shape == expected.shape else 255
        if apart > 1:
            raise BundleError(f"{bundle.path}: golden frame {number} is preprocessed differently here ({apart} levels)")
        try:
            probabilities = classifier.engine.infer(expected)
        except EngineError as error:
            raise BundleError(f"{bundle.path}: golden frame {number}: {error}") from error
        if probabilities.shape != golden.probabilities[number].shape:
            raise BundleError(f"{bundle.path}: {len(classifier.labels)} labels for {probabilities.size} outputs")
        difference = float(np.abs(probabilities - golden.probabilities[number]).max())
        if not difference <= tolerance:
            raise BundleError(
                f"{bundle.path}: {classifier.engine.name} gives other probabilities than the reference on golden "
                f"frame {number} (apart by {difference:.2g}, tolerance {tolerance:.2g})"
            )
