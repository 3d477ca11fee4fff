"""How well the deployed classifier does on a labelled folder: the very path the cart runs, file by file."""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.metrics import Scores, score
from gensoup.runtime.classifier import Classifier
from gensoup.runtime.errors import DataError, EngineError
from gensoup.runtime.images import Image, read_image

_READERS = 2
_READ_AHEAD = 8


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the deployed classifier made of a folder. Classes are in the bundle's order, images in the folder's.

    labels: the bundle's. scores: the metrics, over groups where the folder has groups.
    probabilities: float32 [N, K]; targets: int64 [N], index into the bundle's labels; files: their N relative paths.
    skipped: "file: reason" of each image that could not be read.
    frames_per_second: images over the time the classifier itself took, reading and decoding files left out. A first
        impression beside other work, no proof of real time: that is the gate's.
    """

    labels: tuple[str, ...]
    scores: Scores
    probabilities: NDArray[np.float32]
    targets: NDArray[np.int64]
    files: tuple[str, ...]
    skipped: tuple[str, ...]
    frames_per_second: float


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
    spent_ms = 0.0
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
            spent_ms += prediction.latency_ms
        if progress is not None:
            progress(position + 1, len(folder))
    if not rows:
        first = f", the first is {skipped[0]}" if skipped else ""
        raise DataError(f"{folder.path}: none of its {len(folder)} images can be read{first}")
    used = folder.subset(kept)
    targets, probabilities = index_of[used.targets], np.stack(rows)
    return Evaluation(
        labels=classifier.labels,
        scores=score(targets, probabilities, used.groups),
        probabilities=probabilities,
        targets=targets,
        files=used.files,
        skipped=tuple(skipped),
        frames_per_second=len(rows) / (spent_ms / 1e3),
    )


def remarks(folder: LabelledFolder, evaluation: Evaluation) -> list[str]:
    """What a reader of the metrics must know, a line each. Classes are counted as the scores have them."""
    lines = []
    support = evaluation.scores.per_class["support"]
    if missing := [label for label, count in zip(evaluation.labels, support, strict=True) if count == 0]:
        lines.append(
            f"{folder.path} has no image of {_listed(missing)}, which the bundle knows: the metrics say nothing of them"
        )
    if chance := evaluation.scores.chance_remark:
        lines.append(chance)
    return lines


def evaluation_to_dict(
    bundle: Path, classifier: Classifier, folder: LabelledFolder, evaluation: Evaluation
) -> dict[str, Any]:
    """What ``gensoup eval --json`` writes."""
    return {
        **evaluation.scores.to_dict(),
        "labels": list(classifier.labels),
        "bundle": str(bundle),
        "bundle_sha256": classifier.sha256,
        "engine": classifier.engine.name,
        "data": str(folder.path),
        "data_fingerprint": folder.fingerprint(),
        "grouped": folder.groups is not None,
        "skipped": list(evaluation.skipped),
        "notes": remarks(folder, evaluation),
        "frames_per_second": evaluation.frames_per_second,
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
