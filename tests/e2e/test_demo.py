"""The demo's stages, one after the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from rich.console import Console

from gensoup.bench.roles import ROLES_FILE, read_roles
from gensoup.demo import MIN_FPS, run_stages
from gensoup.runtime.classifier import Classifier


@pytest.mark.ordeal
@pytest.mark.slow
def test_every_stage_leaves_its_result(
    shapes: Path, make_settings: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gensoup.demo.VIDEO_SECONDS", 1.0)  # drawing the video is the longest part
    # A rate that even a stalling machine holds: which networks the limit admits is the constraint's own test.
    settings = make_settings(shapes, min_fps=10.0, generations=1, population=2, branch_epochs=0.5)
    out = tmp_path / "demo"
    console = Console(record=True, width=200, file=(tmp_path / "log.txt").open("w", encoding="utf-8"))
    summary = run_stages(settings, out, console)
    for name in ("train", "export", "eval", "run", "bench", "report"):
        assert name in console.export_text(clear=False)

    classifier = Classifier.load(out / "demo.gensoup", threads=1)
    evaluation = json.loads((out / "eval.json").read_text(encoding="utf-8"))
    assert evaluation["n"] == len(read_roles(out / ROLES_FILE)["test"])
    assert evaluation["mcc"] == pytest.approx(summary["metrics"]["scores"]["test"]["mcc"], abs=1e-6)

    predictions = [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(predictions) == summary["served"].results > 0
    assert {line["label"] for line in predictions} <= set(classifier.labels)
    video = cv2.VideoCapture(str(out / "annotated.avi"))
    assert video.isOpened() and video.get(cv2.CAP_PROP_FRAME_HEIGHT) == 1080
    video.release()

    verdict = json.loads((out / "bench.json").read_text(encoding="utf-8"))
    assert verdict["verdict"] in ("PASS", "FAIL", "INVALID")
    assert verdict["rate_hz"] == MIN_FPS and verdict["frames"] == 30 * MIN_FPS

    report = (out / "report.html").read_text(encoding="utf-8")
    for part in ("Real-time gate", verdict["verdict"], "deployed", "data:image/jpeg"):
        assert part in report
