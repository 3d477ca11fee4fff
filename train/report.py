"""One HTML page a run, whole in itself: no script, no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from gensoup.bench import figures_latency
from gensoup.bench.measurement import Measurement
from gensoup.bench.page import pages
from gensoup.runtime.errors import DataError
from gensoup.runtime.files import write_atomic
from gensoup.runtime.images import read_image
from gensoup.train import figures_scores, figures_search
from gensoup.train.conclusion import PREDICTIONS_FILE
from gensoup.train.deployed import Deployed
from gensoup.train.importance import categories, decoded, numbers
from gensoup.train.predictions import Predictions, read_predictions
from gensoup.train.remarks import by_reason
from gensoup.train.run import read_metrics
from gensoup.train.summary import COSTS, generations

REPORT_FILE = "report.html"
THUMBNAIL_HEIGHT = 150
SHOWN_WRONG, SHOWN_RIGHT = 8, 8
# Table 2.5 of the thesis: what a clinic asks of a class.
CLINICAL_RECALL = CLINICAL_SPECIFICITY = 0.85


def write_report(
    run: Path, *, bench: Path | None = None, trace: Path | None = None, evaluation: Path | None = None
) -> Path:
    """Write ``report.html`` of a finished run and return its path.

    bench, evaluation: results of ``gensoup bench --json`` and ``gensoup eval --json``; trace: of ``bench --trace``.
    Raises GenSoupError when the run is not finished, a file cannot be read or a result is of another run's bundle.
    """
    metrics = read_metrics(run)
    predictions = read_predictions(run / PREDICTIONS_FILE, metrics["labels"])
    limit_ms = metrics["limit_ms"]
    individuals, summary = metrics["individuals"], metrics["summary"]
    deployed = Deployed.read(run, bench, evaluation)
    environment = pages(Path(__file__).parent / "templates")
    environment.filters["decoded"] = decoded
    page = environment.get_template("report.html.j2").render(
        run=run.name,
        metrics=metrics,
        summary=summary,
        limit_ms=limit_ms,
        individuals=sorted(individuals, key=lambda one: (one["reason"] is not None, -(one["mcc"] or 0))),
        by_name={one["name"]: one for one in individuals},
        choices=categories(individuals),
        numbers=numbers(individuals),
        generations=len(generations(individuals)),
        figures=_figures(metrics, limit_ms, deployed.evaluation),
        classes=_classes(metrics),
        left_out=by_reason([*metrics["excluded"], *metrics["over_the_limit_when_fused"]]),
        samples=_samples(predictions, metrics["labels"], Path(metrics["settings"]["data"])),
        gate=deployed.gate,
        evaluation=deployed.evaluation,
        latency=None if trace is None else _latency(trace),
        clinical=(CLINICAL_RECALL, CLINICAL_SPECIFICITY),
    )
    write_atomic(run / REPORT_FILE, page)
    return run / REPORT_FILE


def _figures(metrics: Mapping[str, Any], limit_ms: float | None, deployed: Any) -> dict[str, Any]:
    """Every figure of the search and the scores; those that a run has nothing for are left out."""
    individuals, scores, summary = metrics["individuals"], metrics["scores"], metrics["summary"]
    latency = (metrics["latency_ms"] or {}).get("p99_ms")
    finals = {"macs": metrics["macs"], "latency_ms": latency}
    limits = {"macs": metrics["settings"]["max_macs"] * 1e6, "latency_ms": limit_ms}
    mcc = scores["search"]["mcc"]
    drawn = {
        "convergence": figures_search.convergence(individuals, mcc),
        "shares": figures_search.shares(individuals, categories(individuals)),
        "numbers": figures_search.numbers_over_time(individuals, numbers(individuals)),
        "confusion": figures_scores.confusion(scores["test"]["confusion_matrix"], metrics["labels"]),
        "reliability": figures_scores.reliability(summary["reliability"]),
        "gap": figures_scores.gap(scores, summary["overfitting"]["best_mcc"], deployed),
    }
    if summary["importance"]["genes"]:
        drawn["importance"] = figures_search.importance(summary["importance"]["genes"])
    for cost in COSTS:
        final, front = finals[cost], summary["pareto"][cost]
        if final is not None and front:
            drawn[cost] = figures_search.tradeoff(individuals, front, cost, limits[cost], (final, mcc))
    return {name: Markup(figure) for name, figure in drawn.items()}


def _classes(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a class: its ratios on ``test``, their intervals and whether it keeps the clinical line."""
    table, intervals = metrics["scores"]["test"]["per_class"], metrics["summary"]["per_class_intervals"]
    rows = []
    for place, label in enumerate(metrics["labels"]):
        row = {name: (table[name][place], intervals[name][place]) for name in intervals}
        held = row["recall"][0] >= CLINICAL_RECALL and row["specificity"][0] >= CLINICAL_SPECIFICITY
        support = table["support"][place]
        rows.append({"label": label, "support": int(support), "clinical": bool(support) and held, "ratios": row})
    return rows


def _latency(path: Path) -> dict[str, Markup]:
    measurement = Measurement.load(path)
    limit_ms = 1e3 / measurement.min_fps
    traces = measurement.repetitions
    latency: NDArray[np.float64] = np.concatenate([np.zeros(0), *(trace.latency_ms for trace in traces)])
    if not len(latency):
        return {}
    start = traces[0].scheduled[0]
    seconds: NDArray[np.float64] = np.concatenate([trace.scheduled - start for trace in traces])
    return {
        "timeline": Markup(figures_latency.latency_timeline(seconds, latency, limit_ms)),
        "histogram": Markup(figures_latency.latency_histogram(latency, limit_ms)),
    }


def _samples(predictions: Predictions, labels: list[str], data: Path) -> list[dict[str, Any]]:
    """Test images with their predictions: the hardest mistakes first, then a spread of what is right."""
    chosen = [*predictions.hardest(SHOWN_WRONG), *predictions.right(SHOWN_RIGHT)]
    samples = []
    for place in chosen:
        picture = _thumbnail(data / predictions.files[place])
        if picture is None:
            continue
        truth, predicted = int(predictions.truth[place]), int(predictions.predicted[place])
        samples.append(
            {
                "file": predictions.files[place],
                "truth": labels[truth],
                "predicted": labels[predicted],
                "probability": float(predictions.probabilities[place, predicted]),
                "true_probability": float(predictions.probabilities[place, truth]),
                "loss": float(predictions.losses[place]),
                "right": truth == predicted,
                "uri": picture,
            }
        )
    return samples


def _thumbnail(path: Path) -> str | None:
    """A small JPEG as a data URI; None when the folder has moved since: the rest stands without its pictures."""
    try:
        image = read_image(path)
    except DataError:
        return None
    scale = THUMBNAIL_HEIGHT / image.shape[0]
    width = min(4 * THUMBNAIL_HEIGHT, max(1, round(image.shape[1] * scale)))
    small = cv2.resize(image, (width, THUMBNAIL_HEIGHT), interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
