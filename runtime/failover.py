"""Opening a bundle twice: in the engine that is wanted, and in the reference engine, which stands in for it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gensoup.runtime.bundle import Bundle
from gensoup.runtime.classifier import Classifier, Explaining, FrameClassifier, LoadOptions
from gensoup.runtime.console import StageProgress
from gensoup.runtime.engines.catalogue import AUTO, REFERENCE, obstacle, open_engine
from gensoup.runtime.errors import BundleError, UsageError
from gensoup.runtime.golden_proof import check_engine, check_explaining
from gensoup.runtime.guard import SLOW_MS, Guarded, Proof


def load_guarded(
    path: str | Path,
    engine: str = AUTO,
    precision: str | None = None,
    threads: int | None = None,
    require_signature: str | Path | None = None,
    engines_dir: str | Path | None = None,
    progress: StageProgress | None = None,
    *,
    saliency: bool = False,
    slow_ms: float | None = SLOW_MS,
    patience_s: float = 0.5,
    retry_s: float = 1.0,
    require_certificate: str | Path | None = None,
    require_certificate_signature: str | Path | None = None,
) -> Guarded:
    """Like :meth:`Classifier.load`, with the fp32 graph on ONNX Runtime's CPU engine standing by, proven as well.

    saliency: both tell with every frame where the evidence lies. slow_ms, patience_s, retry_s: see :class:`Guarded`;
    where the wanted engine is the reference itself, a second session of it stands by, and speed is not judged: it would
    be no faster. A certificate speaks of the wanted engine; what the other one answers is DEGRADED all the same.
    """
    certified = (require_certificate, require_certificate_signature)
    options = LoadOptions(engine, precision, threads, require_signature, engines_dir, *certified)
    bundle = options.read(path)
    wanted = Classifier.of(bundle, options, progress)
    spare = _spare(bundle, threads)
    same = wanted.engine.name == spare.engine.name and wanted.precision == spare.precision
    slim = replace(bundle, models={}, golden=replace(bundle.golden, camera_frames=()))  # what proofs need, no more

    def view(classifier: Classifier) -> FrameClassifier:
        return Explaining(classifier) if saliency else classifier

    def reload(load: Callable[[Bundle], Classifier]) -> FrameClassifier:
        found = options.read(path)
        if found.sha256 != bundle.sha256:
            raise BundleError(f"{path}: is another bundle by now; the one that runs cannot be loaded anew")
        return view(load(found))

    exact = replace(options, engine=wanted.engine.name, precision=wanted.precision)
    guard = Guarded(
        view(wanted),
        view(spare),
        golden_proof(slim),
        reload_first=lambda: reload(lambda found: Classifier.of(found, exact)),
        reload_second=lambda: reload(lambda found: _spare(found, threads)),
        slow_ms=None if same else slow_ms,
        patience_s=patience_s,
        retry_s=retry_s,
    )
    guard.certificate = wanted.certificate
    guard.another = lambda other: load_guarded(
        other,
        engine,
        precision,
        threads,
        require_signature,
        engines_dir,
        saliency=saliency,
        slow_ms=slow_ms,
        patience_s=patience_s,
        retry_s=retry_s,
        require_certificate=require_certificate,
        require_certificate_signature=require_certificate_signature,
    )
    return guard


def load_live(
    path: str | Path,
    engine: str,
    precision: str | None,
    threads: int | None,
    require_signature: str | Path | None,
    engines_dir: str | Path | None,
    progress: StageProgress | None,
    *,
    failover: bool | None,
    saliency: bool,
    realtime: bool,
    require_certificate: Path | None = None,
    require_certificate_signature: Path | None = None,
) -> Classifier | Explaining | Guarded:
    """What ``gensoup run`` opens: guarded, as ``failover`` says; None: in real time, where the reference is installed.

    saliency: every frame's prediction has its map. Where frames have no deadline, speed is not judged.
    """
    if require_certificate is not None and not realtime:
        raise UsageError("--require-certificate: throughput mode has no deadline to hold; leave --mode out")
    options = (path, engine, precision, threads, require_signature, engines_dir, progress)
    if failover or (failover is None and realtime and obstacle(REFERENCE) is None):
        return load_guarded(
            *options,
            saliency=saliency,
            slow_ms=SLOW_MS if realtime else None,
            require_certificate=require_certificate,
            require_certificate_signature=require_certificate_signature,
        )
    classifier = Classifier.load(
        *options,
        require_certificate=require_certificate,
        require_certificate_signature=require_certificate_signature,
    )
    return Explaining(classifier) if saliency else classifier


def golden_proof(bundle: Bundle) -> Proof:
    """Proof by the bundle's golden frames, at the tolerance of the classifier's precision, of the graph that it runs.

    Its answer is the median milliseconds of a frame.
    """

    def prove(classifier: FrameClassifier) -> float:
        precision = getattr(classifier, "precision", "fp32")
        check = check_explaining if isinstance(classifier, Explaining) else check_engine
        return statistics.median(check(bundle, classifier.engine, precision))

    return prove


def _spare(bundle: Bundle, threads: int | None) -> Classifier:
    engine = open_engine(REFERENCE, bundle.models["fp32"], "fp32", threads)
    spare = Classifier(bundle.manifest.labels, bundle.manifest.preprocess, engine, bundle.sha256)
    spare.manifest = bundle.manifest
    return spare
