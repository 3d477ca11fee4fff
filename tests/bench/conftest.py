"""Probe kits of graphs that run in no time. Made-up measurements of the gate lie beside the tests that use them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gensoup.bench.probe_kit import KitGraph, ProbeKit
from gensoup.runtime.preprocess import Preprocess

sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture
def make_kit(tmp_path: Path) -> Callable[[Mapping[str, bytes]], ProbeKit]:
    """Makes a kit of graphs at 32 px: name → ONNX bytes."""

    def make(models: Mapping[str, bytes]) -> ProbeKit:
        folder = tmp_path / "kit"
        folder.mkdir()
        graphs = []
        for name, content in models.items():
            file = f"{name}-32-fp32.onnx"
            (folder / file).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            graphs.append(KitGraph(file, digest, name, 32, "fp32", 9, 3, Preprocess(32), {"fp32": 1}))
        kit = ProbeKit(folder, 3, tuple(graphs), complete=True, made_by={"torch": "2"})
        kit.save()
        return kit

    return make
