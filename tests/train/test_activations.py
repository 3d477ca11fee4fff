"""Outputs of layers as rows of samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gensoup.export.architectures import build
from gensoup.export.graph import standardise, to_planes
from gensoup.train.activations import Cells, common_grid, layer_activations, main_layers, stage_layers

FRAMES = np.random.default_rng(0).integers(0, 256, (70, 16, 16, 3), dtype=np.uint8)


class Shared(nn.Module):
    """One ReLU for two layers, and a linear layer with its channels last."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.relu, self.second = nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 2, stride=2)
        self.last = nn.Linear(5, 6)
        self.unused = nn.Linear(5, 6)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        planes = self.relu(self.second(self.relu(self.first(planes))))
        mixed: torch.Tensor = self.last(planes.permute(0, 2, 3, 1))
        return mixed.mean((1, 2))


def test_layers_come_in_the_order_they_run_with_channels_and_grid() -> None:
    model = Shared()
    assert main_layers(model, FRAMES[:1]) == {"first": (4, 16, 16), "second": (5, 8, 8), "last": (6, 8, 8)}
    assert list(main_layers(model, FRAMES[:1])) == ["first", "second", "last"]
    assert main_layers(model, FRAMES[:1], ["relu"]) == {"relu": (5, 8, 8)}
    with pytest.raises(ValueError, match="no layer 'unused'"):
        main_layers(model, FRAMES[:1], ["unused"])


def test_rows_are_the_cells_asked_for_whatever_batch_they_fall_in() -> None:
    model = Shared().eval()
    with torch.inference_mode():
        before_relu = model.first(standardise(to_planes(torch.from_numpy(FRAMES))))
        second = model.second(before_relu.relu())
        last = model.last(second.relu().permute(0, 2, 3, 1))
    rows = np.array([0, 5, 17, 32 * 64 - 1, 32 * 64, 50 * 64 + 9, 70 * 64 - 1])
    found = layer_activations(
        model, FRAMES, {"second": Cells((8, 8), rows), "last": Cells((8, 8), rows), "first": Cells((16, 16), rows)}
    )
    second_rows, last_rows = second.permute(0, 2, 3, 1).reshape(-1, 5), last.reshape(-1, 6)
    # Each layer's own outputs, not what the in-place ReLU behind it makes of them.
    np.testing.assert_allclose(found["second"], second_rows[rows], atol=1e-5)
    np.testing.assert_allclose(found["last"], last_rows[rows], atol=1e-5)
    np.testing.assert_allclose(found["first"], before_relu.permute(0, 2, 3, 1).reshape(-1, 4)[rows], atol=1e-5)
    assert found["second"].dtype == np.float32 and (found["second"] < 0).any()


def test_finer_outputs_are_averaged_over_the_grids_cells() -> None:
    model = Shared().eval()
    with torch.inference_mode():
        first = model.first(standardise(to_planes(torch.from_numpy(FRAMES[:3]))))
    found = layer_activations(model, FRAMES[:3], {"first": Cells((4, 4), np.arange(3 * 16))})["first"]
    expected = first.reshape(3, 4, 4, 4, 4, 4).mean((3, 5)).permute(0, 2, 3, 1).reshape(-1, 4)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_image_without_a_cell_is_fine() -> None:
    found = layer_activations(Shared(), FRAMES, {"first": Cells((16, 16), np.array([69 * 256]))})
    assert found["first"].shape == (1, 4)


def test_common_grid_is_the_coarsest() -> None:
    assert common_grid([(3, 8, 16), (5, 12, 4)]) == (8, 4)


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("shufflenet_v2_x0_5", ["conv1", "maxpool", "stage2", "stage3", "conv5"]),
        ("mobilenet_v3_small", ["features.0", "features.1", "features.3", "features.8", "features"]),
        ("regnet_x_400mf", [*("stem", *(f"trunk_output.block{n}" for n in (1, 2, 3))), "trunk_output"]),
        ("mnasnet1_0", ["layers.7", "layers.8", "layers.9", "layers.11", "layers"]),
    ],
)
def test_stages_are_the_last_outputs_at_each_resolution(name: str, stages: list[str]) -> None:
    found = stage_layers(build(name, 3), np.zeros((1, 64, 64, 3), np.uint8))
    assert list(found) == stages
    grids = [height for _, height, _ in found.values()]
    assert grids == sorted(grids, reverse=True) and len(set(grids)) == len(grids)
