"""What a manifest states, as rows of text. A stranger's may hold anything: what has no place is shown as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

# Columns of the table of parity: key in the manifest → heading.
PARITY = {
    "engine": "engine",
    "largest_difference": "apart,\nlargest",
    "label_agreement": "labels\nagree",
    "mcc_loss_upper": "MCC loss\n(95%)",
    "soup_mcc_reference": "on soup:\ntrained",
    "soup_mcc_engine": "\nengine",
    "tolerance": "allowed",
}
# Stated again for every engine; the table has what differs.
_BESIDE = ("engines", "precision", "mean_difference", "soup_mcc_reference_interval", "soup_mcc_engine_interval")
_MISSING = "—"
_DEEPEST = 3


def flat(values: Mapping[str, Any], name: str = "", depth: int = 1) -> Iterator[tuple[str, str]]:
    """A row a value: mappings inside become rows of their own, lists one line.

    >>> list(flat({"seed": 0, "genes": {"loss": 0.25}, "sizes": [96, 128]}))
    [('seed', '0'), ('genes: loss', '0.25'), ('sizes', '96, 128')]
    """
    for key, value in values.items():
        full = f"{name}: {key}" if name else str(key)
        if isinstance(value, dict) and value and depth < _DEEPEST:
            yield from flat(value, full, depth + 1)
        elif isinstance(value, list) and not any(isinstance(one, dict | list) for one in value):
            yield full, ", ".join(map(short, value)) or "none"
        else:
            yield full, short(value)


def metric_rows(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, value and interval of every metric; groups of metrics follow as ``certain: mcc``."""
    stated = metrics.get("intervals")
    intervals = stated if isinstance(stated, dict) else {}
    for name, text in flat({name: value for name, value in metrics.items() if value is not intervals}):
        interval = intervals.get(name)
        if isinstance(interval, list) and len(interval) == 2:
            yield name, text, f"{short(interval[0])} … {short(interval[1])}"
        else:
            yield name, text, short(interval, _MISSING)


def parity_rows(precisions: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """A row a precision and engine: see ``PARITY``."""
    for precision, reached in precisions.items():
        others = reached.get("engines")
        for one in (reached, *(others if isinstance(others, list) else ())):
            if isinstance(one, dict):
                yield (
                    precision,
                    *(short(one.get(key), _MISSING, ".2g" if key.startswith("largest") else ".4g") for key in PARITY),
                )


def built_of(reached: Mapping[str, Any]) -> dict[str, Any]:
    """What the table of parity does not have: member, layers built and kept, calibration, saliency."""
    return {name: value for name, value in reached.items() if name not in PARITY and name not in _BESIDE}


def short(value: Any, none: str = "null", form: str = ".4g") -> str:
    """A number in a format, text as it is, anything else as JSON. none: for None."""
    if value is None:
        return none
    if isinstance(value, float):
        return format(value, form)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
