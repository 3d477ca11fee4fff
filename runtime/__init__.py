"""What runs on the cart: preprocessing, bundles, engines, sources and the live stream. Never imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gensoup.runtime.telemetry import silence_engines

if TYPE_CHECKING:
    from gensoup.runtime.classifier import Classifier, Prediction
    from gensoup.runtime.events import Event
    from gensoup.runtime.failover import load_guarded
    from gensoup.runtime.guard import Guarded
    from gensoup.runtime.result import Result, State
    from gensoup.runtime.stream import Stream

_HOMES = {
    "Classifier": "classifier",
    "Event": "events",
    "Guarded": "guard",
    "Prediction": "classifier",
    "Result": "result",
    "State": "result",
    "Stream": "stream",
    "load_guarded": "failover",
}
__all__ = ["Classifier", "Event", "Guarded", "Prediction", "Result", "State", "Stream", "load_guarded"]

silence_engines()


def __getattr__(name: str) -> Any:
    """Load the public names on first use, so that ``gensoup --help`` need not import numpy and OpenCV."""
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(f"gensoup.runtime.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'gensoup.runtime' has no attribute '{name}'")
