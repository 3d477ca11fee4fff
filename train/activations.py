"""What the layers of a network give for images, as samples in rows and channels in columns."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from gensoup.export.graph import standardise, to_planes

BATCH = 32


@dataclass(frozen=True, eq=False)
class Cells:
    """Which samples are taken. grid: height and width in cells that a layer's output is averaged to.

    rows: sorted int64 [R], image · height · width + cell, cells counted row by row.
    """

    grid: tuple[int, int]
    rows: NDArray[np.int64]


def main_layers(
    model: nn.Module, image: NDArray[np.uint8], names: Sequence[str] | None = None
) -> dict[str, tuple[int, int, int]]:
    """Channels, height and width of the outputs of every convolution and linear layer that takes part, in the order in
    which they run; or of the modules ``names``. image: uint8 BGR [1, H, W, 3].

    Raises ValueError, with the nearest names, when one of ``names`` is no module that runs.
    """
    shapes = _shapes(model, image)
    if names is None:
        kinds = dict(model.named_modules())
        return {name: shape for name, shape in shapes.items() if isinstance(kinds[name], nn.Conv2d | nn.Linear)}
    for name in names:
        if name not in shapes:
            near = ", ".join(difflib.get_close_matches(name, shapes, 3, cutoff=0)) or "none"
            raise ValueError(f"no layer '{name}' that gives channels; the nearest are {near}")
    return {name: shapes[name] for name in names}


def stage_layers(model: nn.Module, image: NDArray[np.uint8]) -> dict[str, tuple[int, int, int]]:
    """The stages of any convolutional network, one a resolution: the last output there, with its shape as above.

    Among modules of one resolution the outermost are taken, for the first block of the next stage begins there too.
    Resolution 1 × 1 (squeeze and excitation, pooled features) is none, unless there is no other.
    """
    shapes = _shapes(model, image, maps=True)
    by_grid: dict[tuple[int, int], list[str]] = {}
    for name, (_, height, width) in shapes.items():
        by_grid.setdefault((height, width), []).append(name)
    if len(by_grid) > 1:
        by_grid.pop((1, 1), None)
    chosen = []
    for inside in by_grid.values():
        outermost = min(name.count(".") for name in inside)
        chosen.append([name for name in inside if name.count(".") == outermost][-1])
    return {name: shapes[name] for name in shapes if name in chosen}


def common_grid(shapes: Iterable[tuple[int, int, int]]) -> tuple[int, int]:
    """The coarsest height and width of several outputs."""
    heights, widths = zip(*((height, width) for _, height, width in shapes), strict=True)
    return min(heights), min(widths)


def layer_activations(
    model: nn.Module, images: NDArray[np.uint8], wanted: Mapping[str, Cells]
) -> dict[str, NDArray[np.float32]]:
    """Outputs float32 [R, C] of the named modules at the cells wanted, on the model's device, in eval mode.

    images: uint8 BGR [N, H, W, 3]. Where a module runs several times in a pass, its last output counts.
    """
    modules = dict(model.named_modules())
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in wanted}
    last: dict[str, NDArray[np.float32]] = {}
    start = 0

    def take(name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        planes, cells = _planes(module, output), wanted[name]
        if tuple(planes.shape[2:]) != cells.grid:
            planes = functional.adaptive_avg_pool2d(planes, cells.grid)
        per_image = cells.grid[0] * cells.grid[1]
        first, end = np.searchsorted(cells.rows, [start * per_image, (start + len(planes)) * per_image])
        rows = torch.from_numpy(cells.rows[first:end] - start * per_image).to(planes.device)
        last[name] = planes.permute(0, 2, 3, 1).reshape(-1, planes.shape[1])[rows].float().cpu().numpy()

    handles = [modules[name].register_forward_hook(partial(take, name)) for name in wanted]
    try:
        for start in range(0, len(images), BATCH):
            _pass(model, images[start : start + BATCH])
            for name, rows in last.items():
                parts[name].append(rows)
    finally:
        for handle in handles:
            handle.remove()
    return {name: np.concatenate(rows) for name, rows in parts.items()}


def _shapes(model: nn.Module, image: NDArray[np.uint8], maps: bool = False) -> dict[str, tuple[int, int, int]]:
    """The shape of every module's last output, in the order in which they end. maps: of [1, C, H, W] alone."""
    shapes: dict[str, tuple[int, int, int]] = {}

    def note(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and (output.dim() == 4 or (2 <= output.dim() <= 4 and not maps)):
            _, channels, height, width = _planes(module, output).shape
            shapes.pop(name, None)
            shapes[name] = (channels, height, width)

    handles = [module.register_forward_hook(partial(note, name)) for name, module in model.named_modules() if name]
    try:
        _pass(model, image)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def _pass(model: nn.Module, images: NDArray[np.uint8]) -> None:
    parameter = next(model.parameters())
    with torch.inference_mode():
        model.eval()(standardise(to_planes(torch.from_numpy(np.ascontiguousarray(images)).to(parameter.device))))


def _planes(module: nn.Module, output: Tensor) -> Tensor:
    """Any output as [N, C, H, W]: channels stand last behind a linear layer and in sequences, else second."""
    if output.dim() == 4:
        return output.movedim(-1, 1) if isinstance(module, nn.Linear) else output
    if output.dim() == 3:
        return output.movedim(-1, 1).unsqueeze(-1)
    return output[:, :, None, None]
