"""A bundle on an engine, proven on this machine before the first frame."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.archive import shown
from gensoup.runtime.bundle import Bundle, read_bundle
from gensoup.runtime.certificate import Certificate, read_certificate
from gensoup.runtime.certified import certified_request, check_bundle, check_device, check_plain
from gensoup.runtime.console import StageProgress
from gensoup.runtime.engines import Engine
from gensoup.runtime.engines.catalogue import AUTO
from gensoup.runtime.engines.choice import Request, choose
from gensoup.runtime.engines.replicas import replicas_of
from gensoup.runtime.errors import BundleError, EngineError, UsageError
from gensoup.runtime.golden_proof import check_engine, check_explaining, check_preprocess
from gensoup.runtime.manifest import Manifest
from gensoup.runtime.memory import trim_memory
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


class FrameClassifier(Protocol):
    """What a stream needs of a classifier. Where it has ``sha256`` and ``labels`` too, results tell the bundle, and a
    smoother goes on over a swap between bundles of the same labels."""

    @property
    def engine(self) -> Engine:
        """The engine that answered last, or answers next."""
        ...

    def __call__(self, frame: NDArray[np.uint8]) -> Prediction:
        """Classify a BGR uint8 frame [height, width, 3]."""
        ...


@dataclass(frozen=True)
class LoadOptions:
    """With what a bundle was opened, so that another can be opened alike; see :meth:`Classifier.load`."""

    engine: str = AUTO
    precision: str | None = None
    threads: int | None = None
    require_signature: str | Path | None = None
    engines_dir: str | Path | None = None
    require_certificate: str | Path | None = None
    require_certificate_signature: str | Path | None = None

    def read(self, path: str | Path) -> Bundle:
        """Read and check a bundle, and its signature where one is required."""
        key = self.require_signature
        return read_bundle(Path(path), None if key is None else Path(key))

    def certificate(self) -> Certificate | None:
        """The certificate that is required, read and checked; None where none is.

        Raises UsageError for a key without a certificate.
        """
        path, key = self.require_certificate, self.require_certificate_signature
        if path is None:
            if key is not None:
                raise UsageError("--require-certificate-signature: of which one? add --require-certificate FILE")
            return None
        return read_certificate(Path(path), None if key is None else Path(key))

    def request(self) -> Request:
        """What is wanted of the bundle's engine."""
        folder = None if self.engines_dir is None else Path(self.engines_dir)
        return Request(self.engine, self.precision, self.threads, folder)


class Classifier:
    """Classifies frames one at a time; not thread-safe, use one a thread."""

    def __init__(self, labels: tuple[str, ...], preprocess: Preprocess, engine: Engine, sha256: str = "") -> None:
        """``sha256``: the digest of the bundle it came from, empty where there is none."""
        self.labels = labels
        self.preprocess = preprocess
        self.engine = engine
        self.sha256 = sha256
        self.manifest: Manifest | None = None
        self.precision = "fp32"
        self.options = LoadOptions()
        self.certificate: Certificate | None = None
        # The graph with saliency is another program than the one proven on opening: it proves itself when first run.
        self._prove_explaining: Callable[[], object] | None = None

    @classmethod
    def load(
        cls,
        path: str | Path,
        engine: str = AUTO,
        precision: str | None = None,
        threads: int | None = None,
        require_signature: str | Path | None = None,
        engines_dir: str | Path | None = None,
        progress: StageProgress | None = None,
        *,
        require_certificate: str | Path | None = None,
        require_certificate_signature: str | Path | None = None,
    ) -> Classifier:
        """Open a bundle, load it into an engine of this machine and check it against its golden frames.

        engine, precision: names, or "auto" and None: the fastest on this machine that passes the golden frames,
        measured when a bundle is first opened here (a second or three) and remembered. threads: CPU cores the engine
        may use; None: the engine's default. require_signature: a file of public keys, one of which must have signed
        the bundle. engines_dir: where TensorRT-RTX engines lie that were built ahead of time. progress: told when
        engines are measured. require_certificate: a file of ``gensoup bench --certificate``; another bundle, device,
        engine, precision or number of threads than certified is refused, "auto" and None are as certified.
        require_certificate_signature: a file of public keys, one of which must have signed that certificate.
        Raises BundleError when the bundle is damaged or does not give its golden outputs here, CertificateError for
        what is not certified, UsageError for names that it or this machine does not know, EngineError or
        MissingDependencyError when no engine can run it.
        """
        certified = (require_certificate, require_certificate_signature)
        options = LoadOptions(engine, precision, threads, require_signature, engines_dir, *certified)
        classifier = cls.of(options.read(path), options, progress)
        trim_memory()  # now that the bundle's bytes and golden frames are free
        return classifier

    @classmethod
    def of(cls, bundle: Bundle, options: LoadOptions, progress: StageProgress | None = None) -> Classifier:
        """Like :meth:`load`, with a bundle that was read and checked before."""
        manifest, request = bundle.manifest, options.request()
        if (certificate := options.certificate()) is not None:
            check_bundle(certificate, bundle.sha256)
            check_device(certificate)
            request = certified_request(certificate, request)
        check_preprocess(bundle)
        try:
            chosen = choose(
                request,
                bundle.models,
                bundle.sha256,
                bundle.golden.frames[0],
                lambda candidate, name: check_engine(bundle, candidate, name),
                progress,
            )
        except EngineError as error:
            raise BundleError(f"{bundle.path}: {error}") from error
        classifier = cls(manifest.labels, manifest.preprocess, chosen.engine, bundle.sha256)
        classifier.manifest = manifest
        classifier.precision = chosen.precision
        classifier.options = options
        classifier.certificate = certificate
        lean = replace(bundle, models={}, golden=replace(bundle.golden, camera_frames=()))
        classifier._prove_explaining = partial(check_explaining, lean, chosen.engine, chosen.precision)
        return classifier

    def __call__(self, frame: NDArray[np.uint8], saliency: bool = False) -> Prediction:
        """Classify a BGR uint8 frame [height, width, 3] of any size; ``saliency``: also tell where its evidence lies.

        Raises DataError for anything else, EngineError when the engine fails or the bundle has no saliency, BundleError
        when the graph with saliency does not give the golden outputs either: checked once, at its first frame.
        """
        started = time.perf_counter()
        network_input = self.preprocess(frame)
        prepared = time.perf_counter()
        heat = None
        if saliency:
            probabilities, heat = self.engine.explain(network_input)
        else:
            probabilities = self.engine.infer(network_input)
        done = time.perf_counter()
        if saliency and self._prove_explaining is not None:
            self._prove_explaining()
            self._prove_explaining = None
        index = int(np.argmax(probabilities))
        return Prediction(
            label=self.labels[index],
            index=index,
            probability=float(probabilities[index]),
            probabilities=probabilities,
            preprocess_ms=(prepared - started) * 1e3,
            engine_ms=(done - prepared) * 1e3,
            saliency=heat,
        )

    @property
    def model_sha256(self) -> str:
        """Of the trained network's file that the bundle was exported from; empty where it is not known."""
        return "" if self.manifest is None else str(self.manifest.provenance.get("model_sha256", ""))

    def replicas(self, count: int) -> list[Classifier]:
        """``count`` classifiers like this one, each for one thread, all at the same time; this one must rest meanwhile.

        They have this one's engine, or copies of it (:mod:`gensoup.runtime.engines.replicas`), with as many threads:
        load it with ``threads=1``, for an engine thread each serves frames at the least core time. Raises EngineError.
        """
        return [self._with(engine) for engine in replicas_of(self.engine, count)]

    def _with(self, engine: Engine) -> Classifier:
        other = copy.copy(self)
        other.engine = engine
        return other

    def check_saliency(self) -> None:
        """Raise UsageError, with the reason, where the graph in use has no saliency."""
        manifest = self.manifest
        if manifest is None or not manifest.saliency:
            raise UsageError("--saliency: the bundle is from before there were saliency maps; export the run again")
        if not manifest.saliency.get("available"):
            reason = shown(str(manifest.saliency.get("reason")))
            raise UsageError(f"--saliency: the network admits no saliency map ({reason})")
        if not manifest.precisions[self.precision].get("saliency"):
            raise UsageError(
                f"--saliency: the bundle's {self.precision} graph has none, its maps were too far off; "
                "take --precision fp32"
            )


class Explaining:
    """A classifier that always tells where the evidence lies, for a stream."""

    def __init__(self, classifier: Classifier) -> None:
        """Loads the graph with saliency and proves it.

        Raises UsageError where there is none, EngineError where it cannot be run, BundleError where it is wrong,
        CertificateError for a classifier that is certified without it.
        """
        if classifier.certificate is not None:
            check_plain(classifier.certificate, saliency=True)
        classifier.check_saliency()
        self.engine = classifier.engine
        self.labels, self.sha256, self.precision = classifier.labels, classifier.sha256, classifier.precision
        self.classifier, self.preprocess = classifier, classifier.preprocess
        size = classifier.preprocess.size
        classifier(np.zeros((size, size, 3), np.uint8), saliency=True)  # now, lest the first frame wait for it

    def replicas(self, count: int) -> list[Explaining]:
        """See :meth:`Classifier.replicas`."""
        return [Explaining(classifier) for classifier in self.classifier.replicas(count)]

    def __call__(self, frame: NDArray[np.uint8]) -> Prediction:
        """Classify a BGR uint8 frame [height, width, 3] of any size."""
        return self.classifier(frame, saliency=True)
