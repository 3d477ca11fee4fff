"""The inner loop of training."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gensoup.export.architectures import initial_model
from gensoup.train import learner
from gensoup.train.failure import DivergedError
from gensoup.train.genes import Recipe
from gensoup.train.images import Selection
from gensoup.train.learner import ANNEALED, CONSTANT, Course, Examples, Schedule, train
from gensoup.train.losses import LOSSES
from gensoup.train.optimizers import OPTIMIZERS
from gensoup.train.residence import Residence
from gensoup.train.scoring import fitness_on

CPU = torch.device("cpu")
RECIPE = Recipe("shufflenet_v2_x0_5", 3e-3, 1e-4, "cross_entropy", "adamw", 0.0)


pytestmark = pytest.mark.usefixtures("one_thread")


def fresh() -> nn.Module:
    return initial_model(RECIPE.architecture, 3, seed=0, pretrained=None)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, two[name]) for name, value in one.items())


def test_it_learns_an_easy_set(examples: Examples) -> None:
    model = initial_model("squeezenet1_1", 3, seed=0, pretrained=None)
    recipe = replace(RECIPE, learning_rate=1e-3)
    train(model, examples, recipe, Course(epochs=9, batch_size=16, seed=1, schedule=ANNEALED), CPU)
    fitness = fitness_on(model, examples.images, examples.targets, CPU)
    assert fitness.mcc > 0.8
    assert fitness.nll < 0.5 < np.log(3)


@pytest.mark.parametrize("recipe", [RECIPE, replace(RECIPE, augmentation=1.0, loss="label_smoothing", optimizer="sgd")])
def test_the_same_seed_gives_the_same_bits_and_another_others(examples: Examples, recipe: Recipe) -> None:
    trained = []
    for seed in (5, 5, 6):
        model = fresh()
        np.random.default_rng().random(3)
        torch.rand(seed)  # whatever the generators were left in before
        train(model, examples, recipe, Course(epochs=0.6, batch_size=16, seed=seed), CPU)
        trained.append(weights(model))
    assert same(trained[0], trained[1])
    assert not same(trained[0], trained[2])


def test_dropout_depends_on_the_seed_too(examples: Examples) -> None:
    trained = []
    for _ in range(2):
        torch.manual_seed(int(torch.randint(1000, (1,))))
        model = initial_model("squeezenet1_1", 3, seed=0, pretrained=None)
        train(model, examples, replace(RECIPE, learning_rate=1e-4), Course(epochs=0.3, batch_size=16, seed=2), CPU)
        trained.append(weights(model))
    assert same(*trained)


def test_a_run_away_learning_rate_is_diverged_and_says_when(examples: Examples) -> None:
    wild = replace(RECIPE, learning_rate=1e12, optimizer="sgd")
    with pytest.raises(DivergedError, match=r"the loss became \S+ at step \d+ of \d+"):
        train(fresh(), examples, wild, Course(epochs=4, batch_size=16, seed=1), CPU)


def test_losses_looked_at_seldom_train_alike_and_name_the_same_step(examples: Examples) -> None:
    course = Course(epochs=1, batch_size=16, seed=5)
    trained = []
    for every in (1, 3, 100):
        model = fresh()
        train(model, examples, RECIPE, course, CPU, look_every=every)
        trained.append(weights(model))
    assert same(trained[0], trained[1]) and same(trained[0], trained[2])
    wild, told = replace(RECIPE, learning_rate=1e12, optimizer="sgd"), []
    for every in (1, 3, 100):
        with pytest.raises(DivergedError) as error:
            train(fresh(), examples, wild, Course(epochs=1, batch_size=16, seed=1), CPU, look_every=every)
        told.append(str(error.value))
    assert len(set(told)) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("loss", list(LOSSES))
def test_a_gpu_is_waited_for_when_losses_are_looked_at_and_never_else(
    examples: Examples, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    monkeypatch.setattr(learner._Losses, "look", lambda self: None)
    device = torch.device("cuda")
    resident = Residence(device).moved(Selection(np.asarray(examples.images), np.arange(len(examples))), 1 << 40)
    recipe, course = replace(RECIPE, augmentation=1.0, loss=loss), Course(1, 16, 1, average=True)
    for mode, images in (("default", resident), ("error", resident), ("error", examples.images)):
        model = fresh().to(device)
        torch.cuda.set_sync_debug_mode(mode)  # "error" raises where the host waits for the device
        try:
            train(model, replace(examples, images=images), recipe, course, device)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_a_forward_pass_in_bfloat16_learns_and_leaves_float32(examples: Examples) -> None:
    model = initial_model("squeezenet1_1", 3, seed=0, pretrained=None)
    recipe, course = replace(RECIPE, learning_rate=1e-3), Course(epochs=6, batch_size=16, seed=1, schedule=ANNEALED)
    train(model, examples, recipe, course, CPU, precision=torch.bfloat16)
    assert all(value.dtype != torch.bfloat16 for value in model.state_dict().values())
    exact = initial_model("squeezenet1_1", 3, seed=0, pretrained=None)
    train(exact, examples, recipe, course, CPU)
    assert not same(weights(model), weights(exact))
    assert fitness_on(model, examples.images, examples.targets, CPU).mcc > 0.6
    assert learner.mixed_precision(CPU) is None  # there it only costs


def test_counts_images_and_reports_steps(examples: Examples) -> None:
    calls: list[tuple[int, int]] = []
    lesson = train(
        fresh(),
        examples,
        RECIPE,
        Course(epochs=1.5, batch_size=50, seed=1),
        CPU,
        on_step=lambda *call: calls.append(call),
    )
    # 120 images make two whole batches of 50 an epoch.
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert lesson.images == 150
    assert lesson.averaged is None


def test_a_batch_larger_than_the_set_is_the_set(examples: Examples) -> None:
    few = Examples(examples.images[:6], examples.targets[:6], 3)
    assert train(fresh(), few, RECIPE, Course(epochs=2, batch_size=64, seed=1), CPU).images == 12


def test_the_average_is_of_the_last_steps_and_differs_from_the_last(examples: Examples) -> None:
    model = fresh()
    lesson = train(model, examples, RECIPE, Course(epochs=2, batch_size=16, seed=1, average=True), CPU)
    last = weights(model)
    assert lesson.averaged is not None and lesson.averaged.keys() == last.keys()
    initial = weights(fresh())
    assert not same(dict(lesson.averaged), last)

    def apart(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
        return sum(float((two[name] - value).double().square().sum()) for name, value in one.items() if "fc" in name)

    averaged = dict(lesson.averaged)
    assert apart(averaged, last) < apart(initial, last)
    assert all(torch.equal(value, last[name]) for name, value in averaged.items() if not value.is_floating_point())
    plain = fresh()
    train(plain, examples, RECIPE, Course(epochs=2, batch_size=16, seed=1), CPU)
    assert same(weights(plain), last)  # averaging changes nothing in the training itself


def test_average_equals_its_recurrence() -> None:
    model = nn.Linear(1, 1, bias=False)
    values = [1.0, 2.0, 4.0, 3.0]
    with torch.no_grad():
        model.weight.fill_(values[0])
    averager = learner._Averager(model, 40)
    expected = values[0]
    for value in values[1:]:
        with torch.no_grad():
            model.weight.fill_(value)
        averager.update()
        expected = 0.75 * expected + 0.25 * value
    assert float(averager.weights["weight"]) == pytest.approx(expected)


def test_schedule_warms_up_then_stays_or_anneals_to_zero() -> None:
    constant = [CONSTANT.rate(step, 100) for step in range(100)]
    assert constant[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert constant[10:] == [1.0] * 90
    cosine = [ANNEALED.rate(step, 100) for step in range(100)]
    assert cosine[:10] == constant[:10]
    assert cosine[10] == 1.0 and cosine[55] == pytest.approx(0.5) and 0 < cosine[99] < 1e-3
    assert cosine[10:] == sorted(cosine[10:], reverse=True)
    assert ANNEALED.rate(0, 1) == 1.0


def test_parts_of_a_cosine_over_generations_join_into_one() -> None:
    parts = [Schedule(number / 4, (number + 1) / 4, 0.0).rate(step, 10) for number in range(4) for step in range(10)]
    assert parts == pytest.approx([Schedule(0.0, 1.0, 0.0).rate(step, 40) for step in range(40)])
    assert parts[0] == 1.0


def test_an_optimizer_that_repeats_its_step_learns_and_every_pass_counts(examples: Examples) -> None:
    few = Examples(examples.images[::4], examples.targets[::4], 3)
    recipe = replace(RECIPE, optimizer="lbfgs", learning_rate=0.1)
    model = initial_model("squeezenet1_1", 3, seed=0, pretrained=None)
    before = fitness_on(model, few.images, few.targets, CPU).nll
    lesson = train(model, few, recipe, Course(epochs=2, batch_size=30, seed=1, gradient_norm=0.0), CPU)
    assert lesson.images > 2 * 30 * 5 and lesson.images % 30 == 0
    assert fitness_on(model, few.images, few.targets, CPU).nll < before


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer_changes_the_weights(examples: Examples, name: str) -> None:
    recipe = replace(RECIPE, optimizer=name, learning_rate=OPTIMIZERS[name].learning_rate * 0.1)
    model = fresh()
    train(model, examples, recipe, Course(epochs=0.3, batch_size=16, seed=1), CPU)
    changed = [name for name, value in fresh().named_parameters() if not torch.equal(value, model.get_parameter(name))]
    assert len(changed) > 100


def test_every_image_is_seen_once_an_epoch_in_another_order(examples: Examples) -> None:
    seen: list[np.ndarray] = []
    numbered = Examples(np.zeros((12, 4, 4, 3), np.uint8), np.arange(12) % 3, 3)
    numbered.images[:, 0, 0, 0] = np.arange(12)
    for planes, _ in learner._batches(numbered, RECIPE, Course(2, 4, 0), 6, 4, CPU):
        blue = planes[:, 2, 0, 0] * (0.225 * 255) + 0.406 * 255
        seen.append(blue.round().int().numpy())
    epochs = [np.concatenate(seen[:3]), np.concatenate(seen[3:])]
    assert all(sorted(epoch.tolist()) == list(range(12)) for epoch in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()


def test_batches_are_the_same_whoever_makes_them(examples: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {}
    for cores in (1, 64):  # none is free, so the training's own thread makes them; some are
        monkeypatch.setattr(learner, "usable_cores", lambda cores=cores: cores)
        batches = learner._batches(examples, RECIPE, Course(2, 4, 0), 5, 4, CPU)
        first = next(batches)
        beside = any(thread.name.startswith("augment") for thread in threading.enumerate())
        made[beside] = [first, *batches]
    assert made.keys() == {False, True}
    for ours, theirs in zip(made[False], made[True], strict=True):
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_gradients_are_clipped(examples: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    clip: Callable[..., Tensor] = nn.utils.clip_grad_norm_

    def spy(parameters: list[nn.Parameter], limit: float) -> Tensor:
        parameters = list(parameters)
        before = clip(parameters, limit)
        norms.append(float(torch.stack([one.grad.norm() for one in parameters if one.grad is not None]).norm()))
        return before

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", spy)
    wild = replace(RECIPE, loss="logit_normalisation")
    train(fresh(), examples, wild, Course(epochs=0.5, batch_size=16, seed=1), CPU)
    assert norms and max(norms) <= 5.0 * 1.001
