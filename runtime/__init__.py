"""What runs on the cart: preprocessing, bundles, engines, sources and the live stream. Never imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gensoup.runtime.telemetry import silence_engines

if TYPE_CHECKING:
    from gensoup.runtime.classifier import Classifier, Prediction
    from gensoup.runtime.stream import Result, State, Stream

__all__ = ["Classifier", "Prediction", "Result", "State", "Stream"]

silence_engines()


def __getattr__(name: str) -> Any:
    """Load the public names on first use, so that ``gensoup --help`` need not import numpy and OpenCV."""
    from importlib import import_module

    if name in ("Classifier", "Prediction"):
        return getattr(import_module("gensoup.runtime.classifier"), name)
    if name in ("Result", "State", "Stream"):
        return getattr(import_module("gensoup.runtime.stream"), name)
    raise AttributeError(f"module 'gensoup.runtime' has no attribute '{name}'")
