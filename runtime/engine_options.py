"""The options by which every command that opens a bundle takes an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EngineName = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="onnxruntime-cpu, openvino-cpu, onnxruntime-cuda, onnxruntime-tensorrt, tensorrt, tensorrt-rtx; auto: the "
        "fastest here, measured once, that gives the bundle's golden outputs.",
    ),
]
PrecisionName = Annotated[
    str | None,
    typer.Option("--precision", metavar="NAME", help="fp32, fp16 or int8, as the bundle holds; default: the fastest."),
]
EnginesDir = Annotated[
    Path | None,
    typer.Option("--engines-dir", metavar="DIR", help="TensorRT-RTX engines that were built ahead of time."),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="CPU threads of the engine; default: half of the cores."),
]
