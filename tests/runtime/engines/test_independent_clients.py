"""Any ONNX client can use a bundle's graph without GenSoup: raw camera bytes in, the golden probabilities out.

The graphs are real exports; the clients are OpenVINO's own API, OpenCV's dnn module and onnxruntime-node.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

import gensoup
from gensoup.runtime.bundle import Bundle, read_bundle, write_bundle
from gensoup.runtime.manifest import Manifest
from gensoup.runtime.preprocess import Preprocess

EXAMPLE = Path(gensoup.__file__).resolve().parent.parent / "examples" / "node"
OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A real architecture with random weights, exported; its golden frames are the synthetic endoscope's."""
    import torch

    from gensoup.export.architectures import build
    from gensoup.export.exporter import golden_frames
    from gensoup.export.graph import to_onnx

    torch.manual_seed(0)
    model, preprocess = build("squeezenet1_1", 3).eval(), Preprocess(64)
    manifest = Manifest(
        labels=("normal", "polyp", "ulcer"),
        preprocess=preprocess,
        architecture="squeezenet1_1",
        macs=1,
        parameters=1,
        precisions={"fp32": {"member": "model.onnx", "tolerance": 1e-4}},
    )
    path = tmp_path_factory.mktemp("clients") / "real.gensoup"
    golden = golden_frames(model, 1.0, preprocess)
    assert np.ptp(golden.probabilities, axis=0).max() > 0.01  # else any client would pass
    write_bundle(path, manifest, {"fp32": to_onnx(model, 1.0, 64)}, golden)
    return read_bundle(path)


def test_openvinos_own_api_gives_the_golden_outputs(bundle: Bundle) -> None:
    openvino = pytest.importorskip("openvino", reason="needs the extra [openvino]")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(bundle.model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for frame, expected in zip(bundle.golden.frames, bundle.golden.probabilities, strict=True):
        (got,) = compiled({"frame": frame[None]})["probabilities"]
        assert np.abs(got - expected).max() <= bundle.manifest.tolerance()


@pytest.mark.skipif(int(cv2.__version__.partition(".")[0]) < 5, reason="OpenCV 4 takes no uint8 tensors as they are")
@pytest.mark.parametrize("engine", ["ENGINE_NEW", "ENGINE_CLASSIC"])
def test_opencv_gives_the_golden_outputs(bundle: Bundle, engine: str) -> None:
    network = cv2.dnn.readNetFromONNX(np.frombuffer(bundle.model, np.uint8), getattr(cv2.dnn, engine))
    for frame, expected in zip(bundle.golden.frames, bundle.golden.probabilities, strict=True):
        network.setInput(np.ascontiguousarray(frame[None]), "frame")
        (got,) = network.forward("probabilities")
        assert np.abs(got - expected).max() <= bundle.manifest.tolerance()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs node and npm")
def test_node_gives_the_golden_outputs(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "node"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules"))
    # Without this the package's own script would fetch CUDA's libraries from elsewhere.
    environment = {**os.environ, "ONNXRUNTIME_NODE_INSTALL": "skip"}
    npm = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"]
    installed = subprocess.run(npm, cwd=folder, env=environment, capture_output=True, text=True)
    if installed.returncode != 0:
        if any(word in installed.stderr for word in OFFLINE):
            pytest.skip("onnxruntime-node cannot be installed: no registry can be reached")
        pytest.fail(installed.stderr)
    (folder / "model.onnx").write_bytes(bundle.model)
    for frame, expected in zip(bundle.golden.frames, bundle.golden.probabilities, strict=True):
        (folder / "frame.bgr").write_bytes(frame.tobytes())
        command = ["node", "classify.js", "model.onnx", "frame.bgr", *bundle.manifest.labels]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert np.abs(np.array(answer["probabilities"]) - expected).max() <= bundle.manifest.tolerance()
        assert answer["label"] == bundle.manifest.labels[int(expected.argmax())]
    refused = subprocess.run(
        ["node", "classify.js", "model.onnx", "package.json"], cwd=folder, capture_output=True, text=True
    )
    assert refused.returncode == 64 and "bytes" in refused.stderr and len(refused.stderr.splitlines()) == 1
