"""What a bundle's graphs can be written as beside it: plain ONNX, OpenVINO's IR."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gensoup.export.parity import ParityError
from gensoup.export.request import target_path
from gensoup.runtime.bundle import Golden
from gensoup.runtime.engines.openvino import core
from gensoup.runtime.files import write_error
from gensoup.runtime.manifest import Manifest


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
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.stem}.", suffix=".tmp", dir=out.parent) as folder:
            for precision, model in models.items():
                place = partial(target_path, Path(folder) / out.name, precision)
                if "onnx" in targets:
                    place(".onnx").write_bytes(model)
                if "openvino" in targets:
                    _write_ir(place(".xml"), model, golden, manifest.tolerance(precision))
            files = sorted(Path(folder).iterdir())
            yield [out.parent / file.name for file in files]
            for file in files:
                file.replace(out.parent / file.name)
    except OSError as error:
        raise write_error(out, error) from error


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
