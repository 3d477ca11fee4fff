"""What a bundle's graphs can be written as beside it: plain ONNX, OpenVINO's IR."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gensoup.export.parity import ParityError
from gensoup.runtime.bundle import MODEL_FILES, Golden, Manifest
from gensoup.runtime.engines.openvino import core
from gensoup.runtime.errors import MissingDependencyError, UsageError
from gensoup.runtime.files import write_error

TARGETS = ("onnx", "openvino")


def parse_targets(names: Iterable[str]) -> tuple[str, ...]:
    """The targets to write, each once. Raises UsageError for what is none, MissingDependencyError before any work."""
    asked = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    for name in asked:
        if name not in TARGETS:
            raise UsageError(f"--target: '{name}' is unknown, choose from {', '.join(TARGETS)}")
    if "openvino" in asked and importlib.util.find_spec("openvino") is None:
        raise MissingDependencyError("openvino", "openvino")
    return asked


@contextmanager
def staged(
    targets: Sequence[str], out: Path, models: Mapping[str, bytes], manifest: Manifest, golden: Golden
) -> Iterator[list[Path]]:
    """Write the targets' files into a temporary folder, prove them, yield the paths that they will have beside ``out``,
    and move them there once the block has ended without an exception.

    NAME.onnx, NAME.fp16.onnx, NAME.int8.onnx; NAME.xml with NAME.bin and so on. Raises ParityError, WriteError.
    """
    if not targets:
        yield []
        return
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.stem}.", suffix=".tmp", dir=out.parent) as folder:
            for precision, model in models.items():
                stem = out.stem + MODEL_FILES[precision].removeprefix("model").removesuffix(".onnx")
                if "onnx" in targets:
                    (Path(folder) / f"{stem}.onnx").write_bytes(model)
                if "openvino" in targets:
                    _write_ir(Path(folder) / f"{stem}.xml", model, golden, manifest.tolerance(precision))
            files = sorted(Path(folder).iterdir())
            yield [out.parent / file.name for file in files]
            for file in files:
                file.replace(out.parent / file.name)
    except OSError as error:
        raise write_error(out.parent, error) from error


def _write_ir(path: Path, model: bytes, golden: Golden, tolerance: float) -> None:
    """Write OpenVINO's IR as the graph is, weights not squeezed to fp16 behind the user's back, and prove it, read anew
    by OpenVINO's own interface, on the golden frames."""
    import openvino

    openvino.save_model(core().read_model(model), path, compress_to_fp16=False)
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core().compile_model(core().read_model(path), "CPU", settings)
    for number, (frame, expected) in enumerate(zip(golden.frames, golden.probabilities, strict=True)):
        got = compiled([frame[None]])["probabilities"][0]
        apart = float(np.abs(got - expected).max())
        if not apart <= tolerance:
            raise ParityError(
                f"{path.name}: OpenVINO gives other probabilities than the reference on golden frame {number} (apart "
                f"by {apart:.2g}, tolerance {tolerance:.2g})"
            )
