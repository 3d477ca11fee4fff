"""Projection-weighted canonical correlation, of matrices and of networks."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import nn

from gensoup.export.architectures import initial_model
from gensoup.train import similarity
from gensoup.train.similarity import Comparison, compare_activations, pwcca


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def related(rows: int, first: int, second: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of channels that share half of their sources."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(rows, 4))
    x = np.hstack([shared, rng.normal(size=(rows, 4))]) @ rng.normal(size=(8, first)) + 0.05 * rng.normal(
        size=(rows, first)
    )
    y = np.hstack([shared, rng.normal(size=(rows, 4))]) @ rng.normal(size=(8, second)) + 0.05 * rng.normal(
        size=(rows, second)
    )
    return x + 3, y - 1


def reference(x: np.ndarray, y: np.ndarray) -> float:
    """The same by the generalised eigenproblem of the covariances (Hotelling 1936), weights from x."""
    x, y = x - x.mean(0), y - y.mean(0)
    cross = x.T @ y
    squares, directions = linalg.eigh(cross @ np.linalg.solve(y.T @ y, cross.T), x.T @ x)
    kept = np.argsort(squares)[::-1][: min(x.shape[1], y.shape[1])]
    variables = x @ directions[:, kept]
    variables /= np.linalg.norm(variables, axis=0)
    weights = np.abs(variables.T @ x).sum(1)
    return float(np.sqrt(squares[kept].clip(0)) @ weights / weights.sum())


@pytest.mark.parametrize(("first", "second"), [(6, 6), (5, 9), (8, 8)])
def test_it_equals_the_solution_of_the_eigenproblem(first: int, second: int) -> None:
    x, y = related(400, first, second)
    assert pwcca(x, y) == pytest.approx(reference(x, y), abs=1e-9)
    assert 0.4 < pwcca(x, y) < 0.98


def test_the_weights_come_from_the_side_of_smaller_rank() -> None:
    x, y = related(400, 5, 9)
    assert pwcca(y, x) == pytest.approx(reference(x, y), abs=1e-9)
    x, y = related(400, 7, 7)
    assert pwcca(y, x) == pytest.approx(reference(y, x), abs=1e-9) != pytest.approx(pwcca(x, y), abs=1e-4)


def test_the_weights_are_not_all_equal() -> None:
    """Two channels in common, one loud and one faint: the mean correlation alone cannot tell which is shared."""
    rng = np.random.default_rng(0)
    loud, faint, noise = rng.normal(size=(3, 1000, 1))
    x = np.hstack([10 * loud, 0.1 * faint])
    assert pwcca(x, np.hstack([loud, noise])) > 0.95
    assert pwcca(x, np.hstack([faint, noise])) < 0.2


def test_itself_is_one_and_so_is_any_invertible_map_of_it() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 12))
    for y in (x, x[:, ::-1], x * 1e4 - 7, x @ rng.normal(size=(12, 12)), x @ linalg.qr(rng.normal(size=(12, 12)))[0]):
        assert pwcca(x, y) == pytest.approx(1.0, abs=1e-9)


def test_invariances() -> None:
    rng = np.random.default_rng(2)
    x, y = related(500, 7, 7)
    value = pwcca(x, y)
    mixing = rng.normal(size=(7, 7))
    assert pwcca(x, y @ mixing + rng.normal(size=7)) == pytest.approx(value, abs=1e-9)
    assert pwcca(5 * x[:, rng.permutation(7)] - 2, y) == pytest.approx(value, abs=1e-9)
    order = rng.permutation(500)
    assert pwcca(x[order], y[order]) == pytest.approx(value, abs=1e-9)
    assert pwcca(x @ mixing, y) != pytest.approx(value, abs=1e-4)  # how loud each direction is does count


def test_independent_noise_is_far_lower_the_more_samples_there_are() -> None:
    rng = np.random.default_rng(3)
    few = pwcca(rng.normal(size=(320, 32)), rng.normal(size=(320, 32)))
    many = pwcca(rng.normal(size=(6400, 32)), rng.normal(size=(6400, 32)))
    assert many < 0.1 < few < 0.35


def test_dead_and_doubled_channels_add_nothing() -> None:
    x, y = related(400, 6, 6)
    padded = np.hstack([x, np.full((400, 2), 3.3), x[:, :1] + 2 * x[:, 1:2]]).astype(np.float32)
    dead = np.hstack([y, np.zeros((400, 3))])
    assert pwcca(x, dead) == pytest.approx(pwcca(x, y), abs=1e-9)
    assert pwcca(dead, padded) == pytest.approx(pwcca(y, x), abs=1e-5)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.zeros((9, 2)), np.zeros((8, 2)), "must be"),
        (np.zeros(9), np.zeros(9), "must be"),
        (np.eye(9)[:, :5], np.eye(9)[:, :5], "9 samples of 5 and 5 channels"),
        (np.full((20, 2), 0.1), np.eye(20)[:, :2], "x is constant"),
        (np.eye(20)[:, :2], np.full((20, 3), 1e7, np.float32), "y is constant"),
        (np.eye(20)[:, :2], np.full((20, 3), np.nan), "finite"),
    ],
)
def test_what_cannot_be_compared_is_said(x: np.ndarray, y: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        pwcca(x, y)


# Networks


def noise(count: int, size: int = 32) -> np.ndarray:
    """Smooth random images."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 256, (count, size // 4, size // 4, 3))
    return coarse.repeat(4, 1).repeat(4, 2).astype(np.uint8)


IMAGES = noise(128)


def small(seed: int, width: int = 8) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, 4),
    )


def by_layer(comparison: Comparison) -> dict[str, float | None]:
    return {one.layer_a: one.similarity for one in comparison.layers}


def test_a_network_and_itself_are_one_in_every_layer_that_has_samples_enough() -> None:
    model = initial_model("shufflenet_v2_x0_5", 3, seed=0, pretrained=None)
    comparison = compare_activations(model, copy.deepcopy(model), IMAGES)
    assert comparison.paired
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert sorted(by_layer(comparison)) == sorted(layers)
    assert comparison.layers[0].layer_a == "conv1.0" and comparison.layers[-1].layer_a == "fc"
    compared = [one for one in comparison.layers if one.similarity is not None]
    assert len(compared) > 20
    for one in compared:
        assert one.similarity == pytest.approx(1.0, abs=1e-9)
        assert one.chance is not None and one.chance < 0.5
        assert one.rows >= 10 * max(one.channels)
    left_out = {one.layer_a: one.reason for one in comparison.layers if one.similarity is None}
    assert left_out["conv5.0"] == "128 samples, 10,240 needed: give more images"


def test_another_seed_is_less_alike_and_the_result_repeats() -> None:
    one, other = small(0), small(1)
    first, second = (compare_activations(one, other, IMAGES, seed=3) for _ in range(2))
    assert first == second != compare_activations(one, other, IMAGES, seed=4)
    for name, value in by_layer(first).items():
        assert value is not None and value < 0.999, name
    assert first.mean == pytest.approx(np.mean([one.similarity for one in first.layers if one.similarity is not None]))


def test_values_are_those_of_the_outputs_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """All cells taken: the comparison must equal PWCCA of the layers' outputs, written out by hand."""
    from gensoup.export.graph import standardise, to_planes

    monkeypatch.setattr(similarity, "LEAST_ROWS", 10**9)
    one, other = small(0), small(1)
    outputs = []
    for model in (one, other):
        with torch.inference_mode():
            outputs.append(model[0](standardise(to_planes(torch.from_numpy(IMAGES)))).permute(0, 2, 3, 1).flatten(0, 2))
    found = by_layer(compare_activations(one, other, IMAGES))
    assert found["0"] == pytest.approx(pwcca(outputs[0].numpy(), outputs[1].numpy()), abs=1e-6)


def test_two_widths_of_one_family_are_compared_layer_by_layer() -> None:
    comparison = compare_activations(small(0), small(0, width=12), IMAGES)
    assert comparison.paired
    assert [one.channels for one in comparison.layers] == [(8, 12), (16, 24), (4, 4)]


def test_different_architectures_are_compared_by_stages() -> None:
    one = initial_model("squeezenet1_1", 3, seed=0, pretrained=None)
    other = initial_model("shufflenet_v2_x0_5", 3, seed=0, pretrained=None)
    calls: list[tuple[int, int]] = []
    comparison = compare_activations(one, other, noise(300, 64), on_layer=lambda *call: calls.append(call))
    assert not comparison.paired
    columns = list(dict.fromkeys(pair.layer_b for pair in comparison.layers))
    rows = list(dict.fromkeys(pair.layer_a for pair in comparison.layers))
    assert columns == ["conv1", "maxpool", "stage2", "stage3", "conv5"]
    assert len(comparison.layers) == len(rows) * len(columns) and len(rows) >= 3
    assert calls[-1] == (len(comparison.layers),) * 2
    values = {(pair.layer_a, pair.layer_b): pair.similarity for pair in comparison.layers}
    first, last = values[rows[0], "conv1"], values[rows[0], "stage3"]
    assert first is not None and last is not None and first > last  # early layers see alike
    assert all(pair.reason for pair in comparison.layers if pair.layer_b == "conv5")  # 1,024 channels


def test_networks_of_two_input_sizes_see_the_same_cells() -> None:
    model = small(0)
    comparison = compare_activations(model, model, noise(128, 32), images_b=noise(128, 32).repeat(2, 1).repeat(2, 2))
    values = by_layer(comparison)
    assert values["0"] is not None and 0.8 < values["0"] < 1  # the finer grid is averaged over areas
    shifted = np.roll(noise(128, 32), 16, axis=1)
    apart = by_layer(compare_activations(model, model, noise(128, 32), images_b=shifted))
    assert apart["0"] is not None and apart["0"] < 0.6


def test_portions_of_memory_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = small(0), small(1)
    whole = compare_activations(one, other, IMAGES)
    monkeypatch.setattr(similarity, "BYTES_AT_ONCE", 1)
    assert compare_activations(one, other, IMAGES) == whole


def test_dead_and_exploded_layers_are_left_out_with_the_reason() -> None:
    one, other = small(0), small(1)
    with torch.no_grad():
        other[0].weight.zero_()
    comparison = compare_activations(one, other, IMAGES)
    # The second layer still sees its padding: what differs between positions there is real.
    assert [pair.reason for pair in comparison.layers] == ["activations are constant", None, "activations are constant"]
    assert comparison.mean == comparison.layers[1].similarity
    with torch.no_grad():
        other[0].weight.fill_(torch.nan)
    exploded = compare_activations(one, other, IMAGES)
    assert [pair.reason for pair in exploded.layers] == ["activations are not finite"] * 3
    assert exploded.mean is None


def test_named_layers_and_mistakes() -> None:
    one, other = small(0), small(1)
    assert [pair.layer_a for pair in compare_activations(one, other, IMAGES, ["2", "1"]).layers] == ["2", "1"]
    with pytest.raises(ValueError, match=r"no layer '22' .* the nearest are 2"):
        compare_activations(one, other, IMAGES, ["22"])
    with pytest.raises(ValueError, match="128 and 127 images"):
        compare_activations(one, other, IMAGES, images_b=IMAGES[1:])
    assert not any(module._forward_hooks for module in one.modules())
