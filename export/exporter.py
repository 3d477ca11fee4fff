"""From a finished run to a bundle: graph, golden frames, parity, and only then the file."""

from __future__ import annotations

import platform
import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

import gensoup
from gensoup.bench.roles import ROLES_FILE, read_roles
from gensoup.export.graph import to_onnx
from gensoup.export.parity import Parity, measure_parity, reference_probabilities
from gensoup.export.trained import TrainedModel
from gensoup.runtime.bundle import SUFFIX, Golden, Manifest, write_bundle
from gensoup.runtime.classifier import Classifier
from gensoup.runtime.console import StageProgress
from gensoup.runtime.engines import load_engine
from gensoup.runtime.errors import DataError, UsageError
from gensoup.runtime.images import read_image
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.sources.synthetic import LABELS, SyntheticEndoscope

PARITY_ROLES = ("search", "soup")
MAX_PARITY_FRAMES = 512
# Height and width: odd sizes, PAL's 576 lines, 1080p.
GOLDEN_SIZES = ((333, 517), (480, 641), (576, 720), (1080, 1920))


@dataclass(frozen=True)
class Exported:
    """The written bundle and the parity that allowed it."""

    path: Path
    sha256: str
    size_bytes: int
    parity: Parity


def export_run(run: Path, out: Path, data: Path | None = None, progress: StageProgress | None = None) -> Exported:
    """Export a finished run as a bundle.

    The graph is compared with PyTorch on the run's validation images, read and preprocessed anew from ``data``
    (None: the folder the run was trained on); the bundle is written only if they agree, and then opened once as a
    cart would. Raises ParityError, DataError, GenSoupError.
    """
    if out.suffix != SUFFIX:
        raise UsageError(f"--out {out}: a bundle's name ends in {SUFFIX}")
    report = progress or (lambda stage, done, total: None)
    trained, model = TrainedModel.load(run)
    report("graph", 0, 1)
    graph = to_onnx(model, trained.temperature, trained.preprocess.size)
    report("graph", 1, 1)
    engine = load_engine(graph)
    frames, targets = _validation_frames(run, data or Path(trained.data), trained, report)
    parity = measure_parity(model, trained.temperature, engine, frames, targets)
    parity.check()
    golden = golden_frames(model, trained.temperature, trained.preprocess)
    manifest = Manifest(
        labels=trained.labels,
        preprocess=trained.preprocess,
        architecture=trained.architecture,
        macs=trained.macs,
        parameters=trained.parameters,
        precisions={"fp32": {"member": "model.onnx", **asdict(parity)}},
        metrics=trained.metrics,
        provenance={**trained.provenance, "versions": versions()},
    )
    unproven = out.with_name(f".{out.stem}.unproven{SUFFIX}")
    try:
        sha256 = write_bundle(unproven, manifest, {"fp32": graph}, golden)
        Classifier.load(unproven)
        unproven.replace(out)
    finally:
        unproven.unlink(missing_ok=True)
    return Exported(out, sha256, out.stat().st_size, parity)


def golden_frames(model: nn.Module, temperature: float, preprocess: Preprocess) -> Golden:
    """Frames with known answers. They are drawn, not taken from the data: no patient's image leaves with a bundle."""
    cameras = tuple(
        SyntheticEndoscope(index, LABELS[index % len(LABELS)], height, width).frame(0.0)
        for index, (height, width) in enumerate(GOLDEN_SIZES)
    )
    frames = np.stack([preprocess(camera) for camera in cameras])
    return Golden(cameras, frames, reference_probabilities(model, temperature, frames))


def versions() -> dict[str, str]:
    """Versions of what made the bundle."""
    return {
        "gensoup": gensoup.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
    }


def _validation_frames(
    run: Path, data: Path, trained: TrainedModel, report: StageProgress
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Network inputs and class indices of at most MAX_PARITY_FRAMES validation images, spread over all of them."""
    roles = read_roles(run / ROLES_FILE)
    files = sorted(file for role in PARITY_ROLES for file in roles.get(role, ()))
    files = files[:: max(1, -(-len(files) // MAX_PARITY_FRAMES))]
    if not files or not all((data / file).is_file() for file in files):
        raise DataError(f"{data}: the run's validation images are not there; name the dataset folder with --data")
    index = {label: number for number, label in enumerate(trained.labels)}
    frames, targets = [], []
    for number, file in enumerate(files):
        frames.append(trained.preprocess(read_image(data / file)))
        targets.append(index[unicodedata.normalize("NFC", Path(file).parts[0])])
        report("parity", number + 1, len(files))
    return np.stack(frames), np.array(targets, np.int64)
