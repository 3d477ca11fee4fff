"""How well the deployed classifier does on a labelled folder: the very path the cart runs, file by file."""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.held_out import seen_remark
from gensoup.bench.metrics import Scores, score
from gensoup.bench.statistics import percentile
from gensoup.bench.thresholds import certain
from gensoup.runtime.classifier import Classifier
from gensoup.runtime.engines import precisions_run
from gensoup.runtime.errors import DataError, EngineError
from gensoup.runtime.images import Image, read_image

_READERS = 2
_READ_AHEAD = 8
_POINTS = {"p50": 50, "p95": 95, "p99": 99}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the deployed classifier made of a folder. Classes are in the bundle's order, images in the folder's.

    scores: the metrics, over groups where the folder has groups.
    probabilities: float32 [N, K]; targets: int64 [N], index into the bundle's labels; files: their N relative paths.
    skipped: "file: reason" of each image that could not be read. absent: labels of the bundle of which no image
        was scored.
    latency_ms: float64 [N], what the classifier itself took for each image, reading and decoding the file left out. A
        first impression beside other work, no proof of real time: that is the gate's.
    certain: of the images that the bundle's thresholds call certain; None where it has no thresholds.
    ran: how many convolutions and matrix products the engine runs in each precision, by its own account; empty where it
        cannot tell.
    """

    scores: Scores
    probabilities: NDArray[np.float32]
    targets: NDArray[np.int64]
    files: tuple[str, ...]
    skipped: tuple[str, ...]
    absent: tuple[str, ...]
    latency_ms: NDArray[np.float64]
    certain: Certain | None = None
    ran: Mapping[str, int] = field(default_factory=dict)

    @property
    def frames_per_second(self) -> float:
        """Images over the time that the classifier took for them."""
        return float(len(self.latency_ms) / (self.latency_ms.sum() / 1e3))

    @property
    def latency_percentiles(self) -> dict[str, float]:
        """Milliseconds, as p50, p95, p99."""
        return {name: percentile(self.latency_ms, q) for name, q in _POINTS.items()}


@dataclass(frozen=True, eq=False)
class Certain:
    """The part of an evaluation whose winning class reaches its threshold; the rest was answered "uncertain".

    thresholds: float64 [K]. called: bool [N]. scores: of those alone, None where there are none. coverage: their share
    of all images; class_coverage: float64 [K], their share of each class's images, 0 for a class without images.
    """

    thresholds: NDArray[np.float64]
    called: NDArray[np.bool_]
    scores: Scores | None
    coverage: float
    class_coverage: NDArray[np.float64]


def evaluate(
    classifier: Classifier, folder: LabelledFolder, progress: Callable[[int, int], None] | None = None
) -> Evaluation:
    """Classify every image of ``folder`` with ``classifier`` and score it.

    Classes are matched by name; the folder may lack some of the bundle's. A broken image is named and skipped.
    progress: called with (images done, images in all) after each.
    Raises DataError for a class the bundle does not know, or when no image can be read; EngineError when the engine
    fails or gives numbers that are not finite.
    """
    index_of = _class_indices(classifier, folder)
    kept: list[int] = []
    rows: list[NDArray[np.float32]] = []
    skipped: list[str] = []
    latency_ms: list[float] = []
    for position, image in enumerate(_images(folder)):
        name = folder.files[position]
        if isinstance(image, DataError):
            skipped.append(f"{name}: {_reason(image, folder, name)}")
        else:
            prediction = classifier(image)
            if not np.isfinite(prediction.probabilities).all():
                raise EngineError(f"{classifier.engine.name} gives probabilities that are no numbers for {name}")
            kept.append(position)
            rows.append(prediction.probabilities)
            latency_ms.append(prediction.latency_ms)
        if progress is not None:
            progress(position + 1, len(folder))
    if not rows:
        first = f", the first is {skipped[0]}" if skipped else ""
        raise DataError(f"{folder.path}: none of its {len(folder)} images can be read{first}")
    used = folder.subset(kept)
    targets, probabilities = index_of[used.targets], np.stack(rows)
    scores = score(targets, probabilities, used.groups)
    support = zip(classifier.labels, scores.per_class["support"], strict=True)
    return Evaluation(
        scores=scores,
        probabilities=probabilities,
        targets=targets,
        files=used.files,
        skipped=tuple(skipped),
        absent=tuple(label for label, count in support if count == 0),
        latency_ms=np.array(latency_ms),
        certain=_certain(classifier, targets, probabilities, used.groups),
        ran=precisions_run(classifier.engine),
    )


def remarks(classifier: Classifier, folder: LabelledFolder, evaluation: Evaluation) -> list[str]:
    """What a reader of the metrics must know, a line each."""
    lines = []
    if seen := seen_remark(folder, classifier.manifest):
        lines.append(seen)
    if evaluation.absent:
        absent, present = _listed(evaluation.absent), len(classifier.labels) - len(evaluation.absent)
        lines.append(
            f"{folder.path} has no image of {absent}, which the bundle knows: the metrics say nothing of them, macro "
            f"means are over the {present} classes present"
        )
    if chance := evaluation.scores.chance_remark:
        lines.append(chance)
    return lines


def evaluation_to_dict(
    bundle: Path, classifier: Classifier, folder: LabelledFolder, evaluation: Evaluation
) -> dict[str, Any]:
    """What ``gensoup eval --json`` writes."""
    certain = evaluation.certain
    return {
        **evaluation.scores.to_dict(),
        "labels": list(classifier.labels),
        "bundle": str(bundle),
        "bundle_sha256": classifier.sha256,
        "model_sha256": classifier.model_sha256,
        "engine": classifier.engine.name,
        "precision": classifier.precision,
        "ran": evaluation.ran,
        "data": str(folder.path),
        "data_fingerprint": folder.fingerprint(),
        "grouped": folder.groups is not None,
        "skipped": list(evaluation.skipped),
        "absent_classes": list(evaluation.absent),
        "macro_over": [label for label in classifier.labels if label not in evaluation.absent],
        "notes": remarks(classifier, folder, evaluation),
        "frames_per_second": evaluation.frames_per_second,
        "latency_ms": evaluation.latency_percentiles,
        "certain": None if certain is None else _certain_to_dict(classifier, certain),
    }


def _certain(
    classifier: Classifier, targets: NDArray[np.int64], probabilities: NDArray[Any], groups: Sequence[str] | None
) -> Certain | None:
    manifest = classifier.manifest
    if manifest is None or not manifest.thresholds:
        return None
    thresholds = np.array([manifest.thresholds[label] for label in classifier.labels])
    called = certain(probabilities, thresholds)
    kept = None if groups is None else [group for group, sure in zip(groups, called, strict=True) if sure]
    images = np.bincount(targets, minlength=len(thresholds))
    return Certain(
        thresholds=thresholds,
        called=called,
        scores=score(targets[called], probabilities[called], kept) if called.any() else None,
        coverage=float(called.mean()),
        class_coverage=np.bincount(targets[called], minlength=len(thresholds)) / np.maximum(images, 1),
    )


def _certain_to_dict(classifier: Classifier, certain: Certain) -> dict[str, Any]:
    """The certain images' own metrics under the same names, and how many they are."""

    def by_label(values: NDArray[np.float64]) -> dict[str, float]:
        return dict(zip(classifier.labels, values.tolist(), strict=True))

    return {
        "coverage": certain.coverage,
        "uncertain": int((~certain.called).sum()),
        "thresholds": by_label(certain.thresholds),
        "class_coverage": by_label(certain.class_coverage),
        **({"n": 0} if certain.scores is None else certain.scores.to_dict()),
    }


def _class_indices(classifier: Classifier, folder: LabelledFolder) -> NDArray[np.int64]:
    """For each of the folder's classes, its index in the bundle."""
    known = {unicodedata.normalize("NFC", label): index for index, label in enumerate(classifier.labels)}
    if unknown := [label for label in folder.labels if label not in known]:
        raise DataError(
            f"{folder.path}: the bundle does not know the class {_listed(unknown)}, it knows {_listed(known)}: "
            "rename the folders or take the bundle's own dataset"
        )
    return np.array([known[label] for label in folder.labels], np.int64)


def _images(folder: LabelledFolder) -> Iterator[Image | DataError]:
    """Every image in order, or the error it gave; a few are read ahead while the classifier works."""
    with ThreadPoolExecutor(_READERS, "gensoup-read") as pool:
        ahead: deque[Future[Image | DataError]] = deque()
        paths = iter(folder.paths)
        try:
            while True:
                while len(ahead) < _READ_AHEAD and (path := next(paths, None)) is not None:
                    ahead.append(pool.submit(_read, path))
                if not ahead:
                    return
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read(path: Path) -> Image | DataError:
    try:
        return read_image(path)
    except DataError as error:
        return error


def _reason(error: DataError, folder: LabelledFolder, name: str) -> str:
    return str(error).removeprefix(f"{folder.path / name}: ")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
