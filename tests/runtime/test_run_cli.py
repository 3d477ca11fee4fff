from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from gensoup.runtime.errors import BundleError, UsageError
from gensoup.runtime.run_cli import run_command

app = typer.Typer()
app.command("run")(run_command)


def test_run_writes_results_and_a_summary(tiny_bundle: Path, video_file: Path, tmp_path: Path) -> None:
    lines, video = tmp_path / "out.jsonl", tmp_path / "out.mp4"
    arguments = [str(tiny_bundle), "--source", str(video_file), "--mode", "throughput", "--threads", "1"]
    done = CliRunner().invoke(app, [*arguments, "--json", str(lines), "--video", str(video)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "12 frames, 0 dropped, 12 results (12 OK)" in done.output
    assert [json.loads(line)["frame"] for line in lines.read_text().splitlines()] == list(range(12))
    assert video.stat().st_size > 0


def test_saliency_is_drawn_into_the_video(looking_bundle: Path, tmp_path: Path) -> None:
    image = np.full((120, 160, 3), 20, np.uint8)
    image[60:, :80] = (20, 20, 230)
    cv2.imwrite(str(tmp_path / "image.png"), image)
    colors = {}
    for option in ("--saliency", "--mode=throughput"):
        video = tmp_path / f"{option}.avi"
        arguments = [str(looking_bundle), "--source", str(tmp_path / "image.png"), "--video", str(video), option]
        done = CliRunner().invoke(app, [*arguments, "--threads", "1"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        read, frame = cv2.VideoCapture(str(video)).read()
        assert read
        colors[option] = frame[75, 40].astype(int), frame[30, 120].astype(int)
    heat, plain = colors["--saliency"], colors["--mode=throughput"]
    assert heat[0][1] > plain[0][1] + 60  # red turns yellow where the map is bright
    assert np.abs(heat[1] - plain[1]).max() < 30


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        (["--source", "synthetic", "--mode", "throughput", "--pace", "30"], UsageError, "--pace"),
        (["--source", "synthetic", "--mode", "fast"], UsageError, "--mode 'fast'"),
        (["--source", "synthetic", "--saliency"], UsageError, "--video FILE"),
        (["--source", "synthetic", "--saliency", "--video", "out.mp4"], UsageError, "export the run again"),
        (["--source", "synthetic:2p"], UsageError, "synthetic:2p"),
    ],
)
def test_mistakes_are_named(tiny_bundle: Path, arguments: list[str], error: type[Exception], named: str) -> None:
    done = CliRunner().invoke(app, [str(tiny_bundle), *arguments])
    assert isinstance(done.exception, error)
    assert named in str(done.exception)


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(tmp_path / "no.gensoup"), "--source", "synthetic:480p"])
    assert isinstance(done.exception, BundleError)
    assert "no.gensoup" in str(done.exception)


def test_the_command_imports_nothing_heavy() -> None:
    script = "import sys, gensoup.runtime.run_cli; print(sorted({'numpy', 'cv2', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
