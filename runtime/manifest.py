"""``manifest.json``: what a bundle says about itself, checked before anything of it is believed."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

from gensoup.runtime.archive import one_line, shown
from gensoup.runtime.errors import BundleError
from gensoup.runtime.preprocess import Preprocess

SCHEMA_VERSION = 1
# Control characters, line and paragraph separators, halves of surrogate pairs: they steer terminals or break lines.
_UNSHOWABLE = ("Cc", "Cs", "Zl", "Zp")


@dataclass(frozen=True)
class Manifest:
    """What a bundle says about itself.

    precisions: per precision ("fp32"): ``member`` (the graph's file), ``engine`` and ``reference`` of the parity check,
        ``tolerance`` (largest accepted difference of a probability) and what was reached.
    thresholds: label → the least probability at which that label counts as certain; empty: none were chosen.
    metrics: name → value, with ``intervals`` (name → [low, high], 95%).
    provenance: data fingerprint, seed, versions, genes.
    saliency: ``available``; if so ``size`` of the map, its range per class, ``floor`` and ``top``, and the number of
        ``frames`` it was fixed on; else the ``reason``. Empty in bundles from before there were maps.
    members: file → SHA-256; filled in by :func:`gensoup.runtime.bundle.pack_bundle`.
    """

    labels: tuple[str, ...]
    preprocess: Preprocess
    architecture: str
    macs: int
    parameters: int
    precisions: Mapping[str, Mapping[str, Any]]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    saliency: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels {list(self.labels)}: must be different names, at least one")
        if any(unicodedata.category(sign) in _UNSHOWABLE for label in self.labels for sign in label):
            raise ValueError(f"labels {list(self.labels)}: may hold no line breaks or other control characters")
        if self.thresholds and set(self.thresholds) != set(self.labels):
            raise ValueError("thresholds: must name every label, and nothing else")

    def tolerance(self, precision: str = "fp32") -> float:
        """The largest accepted difference of a probability. Raises KeyError for a precision the bundle lacks."""
        return float(self.precisions[precision]["tolerance"])

    def to_json(self) -> str:
        """The text of ``manifest.json``. Raises ValueError for numbers that are not finite: JSON has none."""
        values = {**asdict(self), "preprocess": self.preprocess.to_dict()}
        return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Parse ``manifest.json``. Raises BundleError for a newer schema or a malformed text."""
        try:
            values = json.loads(text, parse_constant=_not_finite, parse_float=_finite)
            version = values["schema_version"]
            _check_number("schema_version", version, 1, whole=True)
            if version > SCHEMA_VERSION:
                raise BundleError(
                    f"manifest schema {shown(str(version))} is newer than this GenSoup reads ({SCHEMA_VERSION}): "
                    "update gensoup"
                )
            values["preprocess"] = Preprocess.from_dict(values["preprocess"])
            if not isinstance(values["labels"], list) or not all(isinstance(one, str) for one in values["labels"]):
                raise ValueError("labels must be a list of names")
            values["labels"] = tuple(values["labels"])
            for name in ("precisions", "thresholds", "metrics", "provenance", "saliency", "members"):
                if not isinstance(values.get(name, {}), dict):
                    raise ValueError(f"{name} must be a mapping")
            manifest = cls(**values)
            manifest._check_numbers()
            return manifest
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BundleError(f"malformed manifest ({one_line(error)})") from error

    def _check_numbers(self) -> None:
        """Raise ValueError for numbers that no bundle can have."""
        _check_number("macs", self.macs, 0, whole=True)
        _check_number("parameters", self.parameters, 0, whole=True)
        for name in {"fp32", *self.precisions}:
            _check_number(f"tolerance of {name}", self.precisions[name]["tolerance"], 0, 1)
        for label, threshold in self.thresholds.items():
            _check_number(f"threshold of {label}", threshold, 0, 1)


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_finite(shown(text, 20))


def _check_number(name: str, value: Any, least: float, most: float = math.inf, whole: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not least <= value <= most:
        raise ValueError(f"{name} is {shown(repr(value), 40)}, must lie in {least:g} to {most:g}")
