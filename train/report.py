"""One HTML page a run, whole in itself: no script, no network."""

from __future__ import annotations

import base64
import csv
import json
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from gensoup.bench.paced import Trace
from gensoup.runtime.errors import DataError, GenSoupError
from gensoup.runtime.files import write_atomic
from gensoup.runtime.images import read_image
from gensoup.train import figures
from gensoup.train.run import PREDICTIONS_FILE, read_metrics

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
    Raises GenSoupError when the run is not finished or a file cannot be read.
    """
    metrics = read_metrics(run)
    limit = metrics["settings"]["min_fps"]
    limit_ms = None if limit is None else 1e3 / limit
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("report.html.j2").render(
        run=run.name,
        metrics=metrics,
        limit_ms=limit_ms,
        individuals=sorted(metrics["individuals"], key=lambda one: (one["reason"] is not None, -one["mcc"])),
        convergence=Markup(figures.convergence(metrics["individuals"])),
        tried=Markup(figures.tried(metrics["individuals"], limit_ms, metrics["settings"]["max_macs"])),
        confusion=Markup(figures.confusion(metrics["scores"]["test"]["confusion_matrix"], metrics["labels"])),
        samples=_samples(run, Path(metrics["settings"]["data"])),
        gate=None if bench is None else _json(bench),
        evaluation=None if evaluation is None else _json(evaluation),
        latency=None if trace is None else _latency(trace),
        clinical=(CLINICAL_RECALL, CLINICAL_SPECIFICITY),
    )
    write_atomic(run / REPORT_FILE, page)
    return run / REPORT_FILE


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GenSoupError(f"{path}: not a result in JSON ({error})") from error


def _latency(path: Path) -> dict[str, Markup]:
    trace = Trace.load(path)
    limit_ms = 1e3 / trace.rate_hz
    seconds: NDArray[np.float64] = trace.scheduled - trace.scheduled[0]
    return {
        "timeline": Markup(figures.latency_timeline(seconds, trace.latency_ms, limit_ms)),
        "histogram": Markup(figures.latency_histogram(trace.latency_ms, limit_ms)),
    }


def _samples(run: Path, data: Path) -> list[dict[str, Any]]:
    """Test images with their predictions: the surest mistakes first, then a spread of what is right."""
    try:
        with (run / PREDICTIONS_FILE).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise GenSoupError(f"{run / PREDICTIONS_FILE}: cannot be read ({error.strerror})") from error
    for row in rows:
        row["probability"] = row[f"p({row['predicted']})"]
    wrong = sorted(
        (row for row in rows if row["truth"] != row["predicted"]), key=lambda row: row["probability"], reverse=True
    )
    right = [row for row in rows if row["truth"] == row["predicted"]]
    chosen = [*wrong[:SHOWN_WRONG], *right[:: max(1, len(right) // SHOWN_RIGHT)][:SHOWN_RIGHT]]
    return [sample for sample in (_sample(row, data) for row in chosen) if sample is not None]


def _sample(row: dict[str, str], data: Path) -> dict[str, Any] | None:
    try:
        image = read_image(data / row["file"])
    except DataError:  # the folder has moved since; the rest of the report stands without its pictures
        return None
    scale = THUMBNAIL_HEIGHT / image.shape[0]
    small = cv2.resize(image, (max(1, round(image.shape[1] * scale)), THUMBNAIL_HEIGHT), interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    return {
        "file": row["file"],
        "truth": row["truth"],
        "predicted": row["predicted"],
        "probability": float(row["probability"]),
        "right": row["truth"] == row["predicted"],
        "uri": "data:image/jpeg;base64," + base64.b64encode(jpeg).decode(),
    }
