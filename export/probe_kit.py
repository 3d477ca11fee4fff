"""``gensoup export --probe-kit``: untrained graphs for a device to be measured with, before anything is trained.

Random weights take a device as long as trained ones, if they are of sensible size: batch norm is estimated on drawn
frames, else values shrink or grow from layer to layer until a CPU computes with denormal numbers. All of int8's layers
are quantised: a trained network may keep some in fp32, and then takes longer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gensoup.bench.probe_kit import KIT_FILE, KitGraph, ProbeKit
from gensoup.export.architectures import count_cost, initial_model
from gensoup.export.batch_norm import reestimate_batch_norm
from gensoup.export.exporter import versions
from gensoup.export.graph import to_onnx
from gensoup.export.half import to_fp16
from gensoup.export.int8 import calibrate
from gensoup.export.layers import built
from gensoup.export.names import check_names, check_size
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import DataError, UsageError
from gensoup.runtime.files import write_atomic
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.sources.synthetic import LABELS, SyntheticEndoscope

CLASSES = 5
SEED = 0
DRAWN_FRAMES = 16
_FRAME_HEIGHT, _FRAME_WIDTH = 360, 480


@dataclass(frozen=True)
class _Wanted:
    architecture: str
    size: int
    precision: str

    @property
    def file(self) -> str:
        return f"{self.architecture}-{self.size}-{self.precision}.onnx"


def write_probe_kit(
    path: Path,
    architectures: Sequence[str],
    sizes: Sequence[int],
    precisions: Sequence[str],
    progress: StageProgress | None = None,
) -> ProbeKit:
    """Write a kit of every architecture at every size in every precision, or go on with one that was begun.

    What is there already, whole and by the same versions, is kept, also what is not asked for now. Every file is
    written atomically, ``kit.json`` after each graph. Raises UsageError for names, sizes and folders that cannot be.
    """
    check_names(tuple(architectures))
    preprocess = {size: _preprocess(size) for size in sizes}
    report = progress or (lambda stage, done, total: None)
    wanted = [_Wanted(*one) for one in _product(architectures, sizes, precisions)]
    finished = _finished(path)
    missing = [one for one in wanted if (one.architecture, one.size, one.precision) not in finished]
    report("probe kit", len(wanted) - len(missing), len(wanted))
    source: tuple[str, int] | None = None
    for one in missing:
        if source != (one.architecture, one.size):
            source = (one.architecture, one.size)
            frames = _drawn(preprocess[one.size])
            graph = _untrained(one.architecture, one.size, frames)
            macs, parameters = count_cost(one.architecture, CLASSES, one.size)
        content = _in_precision(graph, one.precision, frames)
        write_atomic(path / one.file, content)
        finished[one.architecture, one.size, one.precision] = KitGraph(
            file=one.file,
            sha256=hashlib.sha256(content).hexdigest(),
            architecture=one.architecture,
            size=one.size,
            precision=one.precision,
            macs=macs,
            parameters=parameters,
            preprocess=preprocess[one.size],
            built=built(content),
        )
        _kit(path, finished, complete=False).save()
        report("probe kit", sum(w.file in {g.file for g in finished.values()} for w in wanted), len(wanted))
    kit = _kit(path, finished, complete=True)
    kit.save()
    return kit


def _product(
    architectures: Sequence[str], sizes: Sequence[int], precisions: Sequence[str]
) -> list[tuple[str, int, str]]:
    pairs = [(name, size) for name in dict.fromkeys(architectures) for size in dict.fromkeys(sizes)]
    return [(name, size, precision) for name, size in pairs for precision in dict.fromkeys(precisions)]


def _preprocess(size: int) -> Preprocess:
    check_size(size)
    return Preprocess(size)


def _finished(path: Path) -> dict[tuple[str, int, str], KitGraph]:
    """The graphs of a kit that was begun here, whole and by these versions. Raises UsageError for a foreign folder."""
    if not (path / KIT_FILE).exists():
        if path.exists() and (not path.is_dir() or any(not one.name.startswith(".") for one in path.iterdir())):
            raise UsageError(f"--probe-kit {path}: is not an empty folder and no probe kit; name a new one")
        return {}
    kit = ProbeKit.begun(path)
    if kit.made_by != versions() or kit.classes != CLASSES:
        return {}
    found = {}
    for graph in kit.graphs:
        try:
            kit.read(graph)
        except DataError:
            continue
        found[graph.architecture, graph.size, graph.precision] = graph
    return found


def _kit(path: Path, graphs: dict[tuple[str, int, str], KitGraph], *, complete: bool) -> ProbeKit:
    return ProbeKit(path, CLASSES, tuple(graphs[key] for key in sorted(graphs)), complete, versions())


def _untrained(architecture: str, size: int, frames: NDArray[np.uint8]) -> bytes:
    model = initial_model(architecture, CLASSES, SEED, None)
    reestimate_batch_norm(model, frames, torch.device("cpu"))
    return to_onnx(model.eval(), 1.0, size)


def _in_precision(graph: bytes, precision: str, frames: NDArray[np.uint8]) -> bytes:
    if precision == "fp16":
        return to_fp16(graph)
    if precision == "int8":
        calibrated = calibrate(graph, frames)
        return calibrated.quantised([layer.node for layer in calibrated.layers])
    return graph


def _drawn(preprocess: Preprocess) -> NDArray[np.uint8]:
    return np.stack([preprocess(scene) for scene in _scenes()])


@cache
def _scenes() -> tuple[NDArray[np.uint8], ...]:
    """One frame of each of DRAWN_FRAMES drawn scenes."""
    return tuple(
        SyntheticEndoscope(number, LABELS[number % len(LABELS)], _FRAME_HEIGHT, _FRAME_WIDTH).frame(0.0)
        for number in range(DRAWN_FRAMES)
    )
