"""Fusing networks of one ancestry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gensoup.export.architectures import build
from gensoup.export.batch_norm import BATCH_NORM_BATCH, reestimate_batch_norm
from gensoup.export.graph import standardise, to_planes
from gensoup.train.soup import Ingredient, average, greedy_soup

CPU = torch.device("cpu")


def test_average_is_exact_and_integers_are_copied() -> None:
    one = {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(7)}
    two = {"w": torch.tensor([3.0, -2.0]), "n": torch.tensor(9)}
    mean = average([one, two], [0.25, 0.75])
    assert mean["w"].tolist() == [2.5, -1.0] and mean["w"].dtype == torch.float32
    assert int(mean["n"]) == 7
    mean["n"].fill_(0)
    mean["w"].fill_(0)
    assert int(one["n"]) == 7 and one["w"].tolist() == [1.0, 2.0]


def test_average_of_a_network_with_itself_is_itself() -> None:
    state = build("shufflenet_v2_x0_5", 3).state_dict()
    mean = average([state, state, state], [1 / 3] * 3)
    assert all(torch.equal(mean[name], value) for name, value in state.items())


def test_networks_of_two_architectures_are_refused() -> None:
    one, two = (build(name, 3).state_dict() for name in ("shufflenet_v2_x0_5", "squeezenet1_1"))
    with pytest.raises(ValueError, match="one architecture"):
        average([one, two], [0.5, 0.5])


def test_networks_of_one_architecture_and_other_shapes_are_refused() -> None:
    one, two = (build("squeezenet1_1", classes).state_dict() for classes in (3, 4))
    with pytest.raises(ValueError, match="one architecture"):
        average([one, two], [0.5, 0.5])


def test_shares_must_sum_to_one() -> None:
    state = {"w": torch.ones(1)}
    with pytest.raises(ValueError, match="sum to one"):
        average([state, state], [0.5, 0.6])


def test_batch_norm_statistics_become_those_of_the_data() -> None:
    images = np.random.default_rng(0).integers(0, 200, (3 * BATCH_NORM_BATCH, 8, 8, 3), dtype=np.uint8)
    model = nn.Sequential(nn.BatchNorm2d(3, momentum=0.3), nn.Dropout(0.9))
    with torch.no_grad():
        model[0].running_mean.fill_(50)
        model[0].running_var.fill_(50)
    model.train()
    model[0].eval()
    assert reestimate_batch_norm(model, images, CPU) == len(images)
    planes = standardise(to_planes(torch.from_numpy(images)))
    torch.testing.assert_close(model[0].running_mean, planes.mean((0, 2, 3)), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model[0].running_var, planes.var((0, 2, 3)), atol=0, rtol=2e-2)
    assert model.training and not model[0].training and model[0].momentum == 0.3


def test_a_network_without_batch_norm_is_left_alone() -> None:
    model = build("squeezenet1_1", 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert reestimate_batch_norm(model, np.zeros((4, 32, 32, 3), np.uint8), CPU) == 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def weight(value: float) -> dict[str, Tensor]:
    return {"w": torch.tensor([value], dtype=torch.float64)}


def loss_of(weights: Mapping[str, Tensor]) -> float:
    """Least at 1."""
    return float((weights["w"] - 1).abs())


def fuse(members: Sequence[Mapping[str, Tensor]]) -> tuple[Mapping[str, Tensor], float]:
    fused = average(members, [1 / len(members)] * len(members))
    return fused, loss_of(fused)


def ingredient(name: str, value: float, search: float | None = None) -> Ingredient:
    soup = loss_of(weight(value))
    return Ingredient(name, weight(value), soup if search is None else search, soup)


def test_greedy_soup_takes_what_helps_in_the_order_of_search() -> None:
    soup = greedy_soup([ingredient("far", 9.0), ingredient("low", 0.2), ingredient("high", 1.9)], fuse)
    # low is the best (.8 off), high brings the mean to 1.05, far would bring it to 3.7.
    assert soup.names == ("low", "high")
    assert [(step.name, step.accepted) for step in soup.steps] == [("low", True), ("high", True), ("far", False)]
    assert soup.loss == pytest.approx(0.05)
    assert float(soup.weights["w"]) == pytest.approx(1.05)
    assert [step.loss for step in soup.steps] == pytest.approx([0.8, 0.05, 2.7])


def test_the_order_is_searchs_not_soups() -> None:
    ingredients = [
        ingredient("a", 0.5, search=0.3),
        ingredient("b", 3.0, search=0.1),
        ingredient("c", -1.0, search=0.2),
    ]
    soup = greedy_soup(ingredients, fuse)
    assert [step.name for step in soup.steps] == ["b", "c", "a"]


def test_the_best_single_one_is_taken_when_no_soup_is_as_good() -> None:
    soup = greedy_soup([ingredient("first", 4.0, search=0.1), ingredient("best", 1.1, search=0.2)], fuse)
    assert soup.names == ("best",)
    assert soup.loss == pytest.approx(0.1)
    assert soup.steps[-1].name == "best alone" and soup.steps[-1].accepted
    assert float(soup.weights["w"]) == 1.1


def test_never_worse_on_soup_than_any_single_one() -> None:
    rng = np.random.default_rng(0)
    fused_some = 0
    for _ in range(200):
        values = rng.normal(1, 1, 5)
        ingredients = [ingredient(str(number), value, rng.random()) for number, value in enumerate(values)]
        soup = greedy_soup(ingredients, fuse)
        assert soup.loss <= min(one.soup_loss for one in ingredients)
        assert soup.loss == loss_of(soup.weights)
        assert {step.name for step in soup.steps} >= {one.name for one in ingredients}
        fused_some += len(soup.names) > 1
    assert fused_some > 20


def test_a_single_ingredient_is_the_soup() -> None:
    soup = greedy_soup([ingredient("only", 3.0)], fuse)
    assert soup.names == ("only",) and soup.loss == 2.0


def test_an_equal_loss_is_accepted_and_one_that_is_no_number_is_not() -> None:
    equal = greedy_soup([ingredient("a", 2.0), ingredient("b", 2.0)], fuse)
    assert equal.names == ("a", "b")
    broken = greedy_soup([ingredient("a", 2.0), Ingredient("nan", weight(float("nan")), 9.0, float("inf"))], fuse)
    assert broken.names == ("a",)
