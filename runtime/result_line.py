"""A result as a line of JSON, for ``run --json`` and the log of a recording."""

from __future__ import annotations

import json
from typing import Any

from gensoup.runtime.result import Result
from gensoup.runtime.smoothing import Smoothed


def result_values(result: Result) -> dict[str, Any]:
    """The fields of a line, in their order.

    label and probability are the raw winner's, None for a frame that failed. smoothed_label is None below its threshold
    too, where ``certain`` is false and smoothed_probability still the best class's; all three are None unsmoothed.
    """
    prediction = result.prediction
    smoothed = result.smoothed if isinstance(result.smoothed, Smoothed) else None
    return {
        "frame": result.frame_id,
        "label": prediction.label if prediction is not None else None,
        "probability": round(prediction.probability, 6) if prediction is not None else None,
        "latency_ms": round(result.latency_ms, 3),
        "age_ms": round(result.age_ms, 3),
        "state": result.state.value,
        "smoothed_label": smoothed.label if smoothed is not None else None,
        "smoothed_probability": round(smoothed.probability, 6) if smoothed is not None else None,
        "certain": smoothed.certain if smoothed is not None else None,
    }


def json_line(values: dict[str, Any]) -> bytes:
    """One line, its end included."""
    return (json.dumps(values, ensure_ascii=False) + "\n").encode()
