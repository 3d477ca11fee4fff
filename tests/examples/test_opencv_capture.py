"""The OpenCV capture loop, run as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "opencv_capture.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE), *map(str, arguments), "--headless"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_it_shows_what_the_frames_are(tiny_bundle: Path, video_file: Path) -> None:
    done = run(tiny_bundle, video_file)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("12 frames, ")
    labels = [line.split()[0] for line in lines[:-1] if not line.startswith("no current result")]
    assert list(dict.fromkeys(labels)) == ["blue", "green", "red"]


def test_a_bundle_that_is_none_is_one_line(tmp_path: Path, video_file: Path) -> None:
    done = run(tmp_path / "no.gensoup", video_file)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'no.gensoup'}: ") and done.stderr.count("\n") == 1


def test_a_source_that_is_none_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    done = run(tiny_bundle, tmp_path / "no.avi")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == f"{tmp_path / 'no.avi'}: cannot be opened"
