"""Opening a new bundle in the way the running one was opened, to take its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gensoup.runtime.classifier import Classifier, Explaining, FrameClassifier
from gensoup.runtime.errors import UsageError
from gensoup.runtime.guard import Guarded


def load_like(running: FrameClassifier, path: Path) -> FrameClassifier:
    """Load a bundle with the options of the one that runs, and prove it on its golden frames.

    Raises BundleError, EngineError or MissingDependencyError, see :meth:`Classifier.load`; UsageError for a classifier
    that is not of a bundle.
    """
    if isinstance(running, Guarded) and running.another is not None:
        return running.another(path)
    if isinstance(running, Explaining):
        return Explaining(_alike(running.classifier, path))
    if isinstance(running, Classifier):
        return _alike(running, path)
    raise UsageError(f"swap '{path}': {type(running).__name__} was not loaded from a bundle; give a loaded classifier")


def release(classifier: FrameClassifier) -> None:
    """Give back what a classifier holds: its engine, or both of a guarded one and the thread that tries them."""
    if isinstance(classifier, Guarded):
        classifier.close(engines=True)
    else:
        classifier.engine.close()


@contextmanager
def released(classifier: FrameClassifier) -> Iterator[None]:
    """Release a classifier at the end of a ``with`` block."""
    try:
        yield
    finally:
        release(classifier)


def same_labels(one: FrameClassifier, other: FrameClassifier) -> bool:
    """Whether two classifiers are known to have the same labels in the same order."""
    labels = getattr(one, "labels", None)
    return labels is not None and tuple(labels) == tuple(getattr(other, "labels", ()))


def _alike(running: Classifier, path: Path) -> Classifier:
    options = running.options
    return Classifier.of(options.read(path), options)
