"""Engines leave nothing behind in a user's folders, and so have nothing to send."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CLASSIFY = """
import sys
from gensoup.runtime import Classifier
from gensoup.runtime.engines.onnxruntime import OnnxRuntimeEngine
import onnxruntime, numpy
classifier = Classifier.load(sys.argv[1], sys.argv[2], threads=1)
print(classifier(numpy.zeros((40, 40, 3), numpy.uint8)).label)
"""
# As the engine comes: without this the test would prove nothing.
UNSILENCED = "import sys, onnxruntime; onnxruntime.InferenceSession(open(sys.argv[1], 'rb').read())"


def files_left_by(script: str, *arguments: str, home: Path) -> list[str]:
    """What a process with a fresh home folder leaves there. Continuous integration silences telemetry: not here."""
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


@pytest.mark.parametrize("engine", ["onnxruntime-cpu", "openvino-cpu"])
def test_engines_leave_no_files(tiny_bundle: Path, tmp_path: Path, engine: str) -> None:
    if engine == "openvino-cpu":
        pytest.importorskip("openvino", reason="needs the extra [openvino]")
    assert files_left_by(CLASSIFY, str(tiny_bundle), engine, home=tmp_path / "home") == []


def test_they_would_otherwise(tiny_model: bytes, tmp_path: Path) -> None:
    import onnxruntime

    if tuple(int(part) for part in onnxruntime.__version__.split(".")[:2]) < (1, 29) or sys.platform != "linux":
        pytest.skip("this onnxruntime keeps nothing")
    (tmp_path / "model.onnx").write_bytes(tiny_model)
    left = files_left_by(UNSILENCED, str(tmp_path / "model.onnx"), home=tmp_path / "home")
    if not left:
        pytest.skip("this build of onnxruntime keeps nothing, here at least")
    assert any("onnxruntime" in name for name in left)
