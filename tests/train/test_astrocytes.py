"""Astrocytes: which weights they scale, by how much and when, and that nothing is left of them."""

from __future__ import annotations

import copy
import math

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from gensoup.export.architectures import initial_model
from gensoup.export.graph import to_onnx
from gensoup.runtime.errors import UsageError
from gensoup.train.astrocytes import AstrocyteFactors, Astrocytes, AstrocyteSettings, Form, filter_activity
from gensoup.train.genes import Recipe
from gensoup.train.learner import Course, Examples, train

CPU = torch.device("cpu")
RECIPE = Recipe("shufflenet_v2_x0_5", 3e-3, 1e-4, "cross_entropy", "adamw", 0.3)
FACTORS = AstrocyteFactors(1.25, 0.75)
# Of a zero input a layer gives its bias alone: always on, always off, never, and on but under the threshold.
BIAS = [12.0, -12.0, 0.0, 0.5]
EXPECTED = [1.25, 0.75, 1.0, 1.0]
LAYERS = {
    "convolution": nn.Conv2d(4, 4, 3, padding=1),
    "grouped": nn.Conv2d(4, 4, 3, padding=1, groups=2),
    "depthwise": nn.Conv2d(4, 4, 3, padding=1, groups=4),
    "linear": nn.Linear(4, 4),
}


pytestmark = pytest.mark.usefixtures("one_thread")


def steady(name: str) -> tuple[nn.Module, Tensor]:
    """A layer whose outputs for the tensor beside it are BIAS everywhere."""
    layer = copy.deepcopy(LAYERS[name])
    torch.manual_seed(3)
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.copy_(torch.tensor(BIAS))
    return layer, torch.zeros(2, 4) if name == "linear" else torch.zeros(2, 4, 5, 5)


def one_of(filters: int, *, active: int) -> tuple[nn.Linear, Tensor]:
    """A linear layer of which the first ``active`` filters are always on and the others always at zero."""
    torch.manual_seed(4)
    layer = nn.Linear(3, filters)
    with torch.no_grad():
        layer.bias.zero_()
        layer.bias[:active] = 12.0
    return layer, torch.zeros(2, 3)


def changed(before: Tensor, after: Tensor) -> list[bool]:
    return [not torch.equal(one, two) for one, two in zip(before, after, strict=True)]


@pytest.mark.parametrize("form", ["mean", "thesis"])
@pytest.mark.parametrize("name", LAYERS)
def test_weights_beyond_the_threshold_change_by_exactly_the_factor_after_four_steps(name: str, form: Form) -> None:
    layer, zero = steady(name)
    if form == "thesis":  # a sum over two images
        with torch.no_grad():
            layer.bias /= 2
    before, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    once = before * torch.tensor(EXPECTED).view(-1, *[1] * (before.dim() - 1))
    twice = once * torch.tensor(EXPECTED).view(-1, *[1] * (before.dim() - 1))
    with Astrocytes(layer, FACTORS, form=form) as glia:
        for expected in [before] * 3 + [once] * 4 + [twice]:
            layer(zero)
            glia.step()
            assert torch.equal(layer.weight, expected)
    assert torch.equal(layer.bias, bias)
    assert layer.weight.grad is None and layer.weight.requires_grad


def test_weights_change_inside_a_training_loop_not_a_copy_of_them() -> None:
    """The published code rebinds its loop's variable, and no weight ever changes."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2))
    with torch.no_grad():
        plain[0].bias[:3] = 9.0
    watched = copy.deepcopy(plain)
    for model, factors in ((plain, None), (watched, FACTORS)):
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
        glia = Astrocytes(model, factors) if factors is not None else None
        torch.manual_seed(1)
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.rand(4, 3, 8, 8)).logsumexp(1).mean().backward()
            optimizer.step()
            if glia is not None:
                glia.step()
    torch.testing.assert_close(watched[0].weight[:3], plain[0].weight[:3] * 1.25)
    assert torch.equal(watched[0].weight[3:], plain[0].weight[3:])


def test_a_counter_at_the_threshold_is_not_beyond_it() -> None:
    for active_steps, factor in ((2, 1.0), (3, 1.25)):
        layer, zero = one_of(2, active=0)
        before = layer.weight.detach().clone()
        with Astrocytes(layer, FACTORS) as glia:
            for step in range(4):
                with torch.no_grad():
                    layer.bias[0] = 12.0 if step < active_steps else 0.0
                layer(zero)
                glia.step()
        assert torch.equal(layer.weight, before * torch.tensor([[factor], [1.0]]))


def test_counters_start_again_after_a_round() -> None:
    layer, zero = one_of(1, active=1)
    before = layer.weight.detach().clone()
    with Astrocytes(layer, FACTORS) as glia:
        for step in range(8):
            with torch.no_grad():  # on in steps 3, 4, 5 and 6: two a round, four in a row
                layer.bias[0] = 12.0 if step in (2, 3, 4, 5) else 0.0
            layer(zero)
            glia.step()
    assert torch.equal(layer.weight, before)


def test_activity_is_the_stated_equation() -> None:
    rng = np.random.default_rng(0)
    output = rng.normal(0, 0.7, (5, 3, 4, 6)).astype(np.float32)
    rows = rng.normal(0, 0.7, (5, 3)).astype(np.float32)
    sequence = rng.normal(0, 0.7, (5, 7, 3)).astype(np.float32)
    cases: list[tuple[np.ndarray, Form, int, np.ndarray]] = [
        (output, "mean", 1, np.tanh(output.mean((0, 2, 3)))),
        (output, "thesis", 1, np.tanh(output.sum(0)).max((1, 2))),
        (rows, "mean", -1, np.tanh(rows.mean(0))),
        (rows, "thesis", -1, np.tanh(rows.sum(0))),
        (sequence, "mean", -1, np.tanh(sequence.mean((0, 1)))),
        (sequence, "thesis", -1, np.tanh(sequence.sum(0)).max(0)),
    ]
    for values, form, axis, expected in cases:
        got = filter_activity(torch.from_numpy(values), form, axis)
        np.testing.assert_allclose(got.numpy(), expected, atol=1e-6)
    half = filter_activity(torch.from_numpy(output).half().contiguous(memory_format=torch.channels_last), "mean", 1)
    assert half.dtype == torch.float32 and not half.requires_grad


def test_the_thesis_form_saturates_and_ours_does_not(examples: Examples) -> None:
    noise = torch.randn(32, 64, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.3
    assert filter_activity(noise, "thesis", 1).min() > 0.99
    assert filter_activity(noise, "mean", 1).abs().max() < 0.1
    shares = {}
    for form in ("mean", "thesis"):
        model = initial_model(RECIPE.architecture, 3, seed=0, pretrained=None)
        settings = AstrocyteSettings(AstrocyteFactors(1.0, 1.0), form)
        lesson = train(model, examples, RECIPE, Course(epochs=1, batch_size=16, seed=1, astrocytes=settings), CPU)
        assert lesson.astrocytes is not None and lesson.astrocytes.rounds == 1
        shares[form] = lesson.astrocytes.potentiated / lesson.astrocytes.filters
    assert shares["thesis"] > 0.4
    assert shares["mean"] < 0.1


@pytest.mark.parametrize("shuffled", [False, True])
def test_factors_of_one_train_to_the_same_bits_as_none(examples: Examples, shuffled: bool) -> None:
    trained = []
    for factors in (None, AstrocyteFactors(1.0, 1.0), AstrocyteFactors(1.5, 0.5)):
        model = initial_model(RECIPE.architecture, 3, seed=0, pretrained=None)
        settings = None if factors is None else AstrocyteSettings(factors, "thesis", shuffled=shuffled)
        train(model, examples, RECIPE, Course(epochs=1, batch_size=12, seed=1, astrocytes=settings, average=True), CPU)
        trained.append(model.state_dict())
    plain, neutral, scaled = trained
    assert all(torch.equal(value, neutral[name]) for name, value in plain.items())
    assert not all(torch.equal(value, scaled[name]) for name, value in plain.items())


def test_the_same_seed_gives_the_same_bits_with_astrocytes(examples: Examples) -> None:
    trained = []
    for seed in (1, 1):
        model = initial_model("squeezenet1_1", 3, seed=0, pretrained=None)
        settings = AstrocyteSettings(FACTORS, "thesis", shuffled=True)
        train(model, examples, RECIPE, Course(epochs=0.7, batch_size=12, seed=seed, astrocytes=settings), CPU)
        trained.append(model.state_dict())
    assert all(torch.equal(value, trained[1][name]) for name, value in trained[0].items())


def test_only_training_passes_that_record_gradients_count() -> None:
    layer, zero = one_of(4, active=4)
    before = layer.weight.detach().clone()
    with Astrocytes(layer, FACTORS) as glia:
        for _ in range(8):
            layer.eval()(zero)
            with torch.no_grad():
                layer.train()(zero)
            glia.step()
        assert torch.equal(layer.weight, before)
        assert glia.counts().potentiated == 0
        for _ in range(4):
            layer(zero)
            glia.step()
    assert torch.equal(layer.weight, before * 1.25)


def test_several_passes_in_a_step_count_as_their_mean() -> None:
    layer, zero = one_of(1, active=1)
    before = layer.weight.detach().clone()
    with Astrocytes(layer, FACTORS) as glia:
        for step in range(4):
            for _ in range(5):
                if step < 2:  # ten passes, but two steps
                    layer(zero)
            glia.step()
    assert torch.equal(layer.weight, before)


def test_frozen_layers_stay() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    with torch.no_grad():
        for layer in model:
            layer.bias.fill_(12.0)
    model[0].weight.requires_grad_(False)
    before = [layer.weight.detach().clone() for layer in model]
    with Astrocytes(model, FACTORS) as glia:
        for _ in range(4):
            model(torch.zeros(2, 3))
            glia.step()
    assert changed(before[0], model[0].weight) == [False, False]
    assert changed(before[1], model[1].weight) != [False, False]


def test_shuffled_scales_as_many_filters_but_others_and_by_the_seed_alone() -> None:
    scaled = {}
    for shuffled, seed in ((False, 0), (True, 1), (True, 1), (True, 2)):
        layer, zero = one_of(64, active=16)
        before = layer.weight.detach().clone()
        torch.rand(seed + 1)  # the global generator plays no part
        with Astrocytes(layer, FACTORS, shuffled=shuffled, seed=seed) as glia:
            for _ in range(4):
                layer(zero)
                glia.step()
        assert glia.counts().potentiated == 16
        filters = changed(before, layer.weight)
        assert sum(filters) == 16
        if (shuffled, seed) in scaled:
            assert scaled[shuffled, seed] == filters
        scaled[shuffled, seed] = filters
    assert scaled[False, 0] == [True] * 16 + [False] * 48
    assert len({tuple(filters) for filters in scaled.values()}) == 3


def test_the_guard_bounds_what_a_filter_goes_through_and_without_it_weights_overflow() -> None:
    def after(rounds: int, guard: float | None) -> tuple[Tensor, int]:
        layer, zero = steady("linear")
        before = layer.weight.detach().clone()
        with Astrocytes(layer, AstrocyteFactors(1.5, 0.5), guard=guard) as glia:
            for _ in range(4 * rounds):
                layer(zero)
                glia.step()
        return layer.weight.detach() / before, glia.counts().held

    ratio, held = after(rounds=50, guard=8.0)
    torch.testing.assert_close(ratio[0], torch.full((4,), 1.5**5))  # 1.5⁶ = 11.4 would lie beyond 8
    torch.testing.assert_close(ratio[1], torch.full((4,), 0.5**3))
    assert held == (50 - 5) + (50 - 3)
    ratio, held = after(rounds=230, guard=None)
    assert held == 0 and torch.isinf(ratio[0]).all() and (ratio[1] == 0).all()


def test_counts_say_what_was_done() -> None:
    layer, zero = steady("depthwise")
    with Astrocytes(layer, FACTORS) as glia:
        for _ in range(9):
            layer(zero)
            glia.step()
    counts = glia.counts()
    assert (counts.rounds, counts.filters) == (2, 4)
    assert (counts.potentiated, counts.attenuated, counts.held) == (2, 2, 0)


def test_a_model_without_such_layers_is_left_alone() -> None:
    with Astrocytes(nn.ReLU(), FACTORS) as glia:
        glia.step()
    assert glia.counts().filters == 0


def test_nothing_is_left_in_the_model_or_its_exported_graph() -> None:
    model = initial_model("squeezenet1_1", 3, seed=0, pretrained=None)
    untouched = copy.deepcopy(model)
    attributes = {path: set(vars(module)) for path, module in model.named_modules()}
    torch.manual_seed(0)
    frames = torch.rand(2, 3, 32, 32)
    with Astrocytes(model, FACTORS, form="thesis") as glia:
        assert list(model.state_dict()) == list(untouched.state_dict())
        for _ in range(4):
            model.train()(frames)
            glia.step()
    assert glia.counts().potentiated > 0
    glia.close()
    assert list(model.state_dict()) == list(untouched.state_dict())
    for path, module in model.named_modules():
        assert not module._forward_hooks and not module._forward_pre_hooks and not module._backward_hooks
        assert set(vars(module)) == attributes[path]
    model.load_state_dict(untouched.state_dict())
    graphs = [onnx.load_from_string(to_onnx(one.eval(), 1.0, 32)).graph for one in (model, untouched)]
    nodes = [[(node.op_type, list(node.input), list(node.output)) for node in graph.node] for graph in graphs]
    assert nodes[0] == nodes[1]
    assert [one.SerializeToString() for one in graphs[0].initializer] == [
        one.SerializeToString() for one in graphs[1].initializer
    ]


def test_hooks_go_when_a_training_fails(examples: Examples) -> None:
    model = initial_model("squeezenet1_1", 3, seed=0, pretrained=None)
    with pytest.raises(ValueError, match="stop here"):

        def stop(step: int, steps: int) -> None:
            raise ValueError("stop here")

        settings = AstrocyteSettings(FACTORS)
        train(model, examples, RECIPE, Course(epochs=1, batch_size=16, seed=1, astrocytes=settings), CPU, on_step=stop)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: AstrocyteFactors(math.nan, 1.0), "strong is nan"),
        (lambda: AstrocyteFactors(1.0, math.inf), "weak is inf"),
        (lambda: AstrocyteSettings(FACTORS, "median"), "mean, thesis"),
        (lambda: AstrocyteSettings(FACTORS, iterations=0), "iterations is 0"),
        (lambda: AstrocyteSettings(FACTORS, threshold=4.0), "threshold is 4.0"),
        (lambda: AstrocyteSettings(FACTORS, guard=0.5), "guard is 0.5"),
        (lambda: Astrocytes(nn.Linear(1, 1), FACTORS, threshold=-1.0), "threshold is -1.0"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(make: object, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()  # type: ignore[operator]
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_factors_have_no_bounds_but_must_be_numbers() -> None:
    assert AstrocyteFactors(-0.25, 3.5).strong == -0.25
    assert AstrocyteFactors(1.0, 1.0).neutral and not AstrocyteFactors(1.0, 0.99).neutral
