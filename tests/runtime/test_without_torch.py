"""``gensoup.runtime`` and ``gensoup.bench`` work where the training stack is not installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import gensoup

CHECKOUT = Path(gensoup.__file__).resolve().parent.parent

# What uv and pip say when there is no network.
OFFLINE = ("dns error", "connect error", "newconnectionerror", "error sending request", "network was disabled")

IMPORT_EVERYTHING = """
import importlib, importlib.abc, pkgutil, sys

BLOCKED = {"torch", "torchvision", "fvcore", "onnx", "onnxscript", "scipy", "sklearn", "PIL", "optuna", "matplotlib"}

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
        return None

sys.meta_path.insert(0, Blocker())
try:
    import torch
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the blocker does not block")

imported = []
for root in ("gensoup.runtime", "gensoup.bench"):
    package = importlib.import_module(root)
    def failed(name):
        raise
    for module in pkgutil.walk_packages(package.__path__, root + ".", failed):
        importlib.import_module(module.name)
        imported.append(module.name)
assert not BLOCKED & {name.partition(".")[0] for name in sys.modules}
print("\\n".join(imported))
"""

USE_IT = """
import importlib.util, json, sys
from pathlib import Path

absent = [name for name in ("torch", "torchvision", "fvcore", "onnx", "scipy", "PIL") if importlib.util.find_spec(name)]
assert not absent, f"this environment has {absent}"

import gensoup
import numpy as np
from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.evaluate import evaluate
from gensoup.runtime import Classifier

classifier = Classifier.load(sys.argv[1], threads=1)
red = np.zeros((240, 320, 3), np.uint8)
red[..., 2] = 200
scores = evaluate(classifier, LabelledFolder.open(sys.argv[2])).scores
print(json.dumps({"at": gensoup.__file__, "label": classifier(red).label, "scores": scores.to_dict()}))
"""


def modules_of(folder: str) -> set[str]:
    """The modules on disk, so that the walk cannot miss one in silence."""
    root = CHECKOUT / folder
    names = set()
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if parts:
            names.add(".".join(("gensoup", folder, *parts)))
    return names


def test_every_module_imports_without_the_training_stack() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_EVERYTHING], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == modules_of("runtime") | modules_of("bench")


def save_pictures(folder: Path) -> Path:
    """Two pictures a class of plain colours."""
    for color, label in enumerate(("blue", "green", "red")):
        (folder / label).mkdir(parents=True)
        for index in range(2):
            frame = np.random.default_rng(index).integers(0, 40, (48, 64, 3), dtype=np.uint8)
            frame[..., color] += 180
            (folder / label / f"{index}.png").write_bytes(cv2.imencode(".png", frame)[1].tobytes())
    return folder


def make_environment(folder: Path) -> Path:
    """A new virtual environment with this checkout and its ``cpu`` extra alone; returns its Python.

    Built from a copy of the sources alone: a build must not write into the checkout, nor see what earlier ones left.
    """
    source = folder / "source"
    for part in ("gensoup", "runtime", "bench", "export", "train"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / part, source / part, symlinks=True, ignore=ignore)
    for part in ("pyproject.toml", "README.md"):
        if (CHECKOUT / part).exists():
            shutil.copy(CHECKOUT / part, source)
    (source / "README.md").touch()
    python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    has_uv = shutil.which("uv") is not None and subprocess.run(["uv", "--version"], capture_output=True).returncode == 0
    if has_uv:
        make = ["uv", "venv", "--python", sys.executable, str(folder / "venv")]
        install = ["uv", "pip", "install", "--python", str(python), f"{source}[cpu]"]
    else:
        make = [sys.executable, "-m", "venv", str(folder / "venv")]
        install = [str(python), "-m", "pip", "install", f"{source}[cpu]"]
    subprocess.run(make, check=True, capture_output=True)
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode != 0:
        if any(word in done.stderr.lower() for word in OFFLINE):
            pytest.skip("packages cannot be installed: no package index can be reached")
        pytest.fail(done.stderr)
    return python


@pytest.mark.slow
def test_a_fresh_environment_classifies_and_evaluates(tiny_bundle: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path)
    pictures = save_pictures(tmp_path / "pictures")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(python), "-c", USE_IT, str(tiny_bundle), str(pictures)],
        capture_output=True,
        text=True,
        cwd=tmp_path / "pictures",
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert str(tmp_path / "venv") in answer["at"]
    assert answer["label"] == "red"
    assert answer["scores"]["accuracy"] == 1
    assert answer["scores"]["confusion_matrix"] == [[2, 0, 0], [0, 2, 0], [0, 0, 2]]
