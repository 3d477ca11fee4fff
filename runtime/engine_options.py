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


def check_threads(threads: int | None) -> int | None:
    """The same number. Raises UsageError for more than there are cores: threads that wait for each other's core make
    every frame later, and what is measured with them is not what the device can do."""
    if threads is None:
        return None
    from gensoup.runtime.device import usable_cores
    from gensoup.runtime.errors import UsageError

    if threads > (cores := usable_cores()):
        raise UsageError(f"--threads {threads}: must be at most {cores}, the number of cores that can be used here")
    return threads


_NUMBER, _HELP = "N", "CPU threads of the engine; default: half of the usable cores."
Threads = Annotated[int | None, typer.Option("--threads", metavar=_NUMBER, min=1, callback=check_threads, help=_HELP)]
# Of a device that may be another one, and counts its own cores.
ThreadsThere = Annotated[int | None, typer.Option("--threads", metavar=_NUMBER, min=1, help=_HELP)]
