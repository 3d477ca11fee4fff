"""What is left of an exception, in runs whose optimizers really fail."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from torch import nn

from gensoup.export.run_files import METRICS_FILE, MODEL_FILE
from gensoup.export.trained import TrainedModel
from gensoup.train import individual, refit
from gensoup.train.database import DATABASE, STUDY
from gensoup.train.failure import DivergedError, check_finite, reason_of, release_memory
from gensoup.train.genes import Recipe, Scale
from gensoup.train.learner import Course, Examples, train
from gensoup.train.run import train_run
from gensoup.train.settings import Settings

BATCH, PRIOR_STEPS = 16, 3


class Failing(torch.optim.SGD):
    """Fails at its fourth step as ``kind`` says; of every one it is remembered whether its weights are still there."""

    kind = ""
    weights: list[weakref.ref[torch.Tensor]]
    alive: list[int]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        Failing.alive.append(sum(one() is not None for one in Failing.weights))
        Failing.weights += [weakref.ref(one) for group in self.param_groups for one in group["params"]]
        self.steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        loss = super().step(closure)
        if self.steps > PRIOR_STEPS:
            if self.kind == "memory":
                bytearray(1 << 60)  # Python's own MemoryError
            if self.kind == "tensor":
                torch.empty(1 << 58)  # PyTorch's, on the CPU a RuntimeError
        return loss


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, no_luck: None) -> type[Failing]:
    """The optimizer ``sgd`` is :class:`Failing`; the one of the good recipe works."""
    monkeypatch.setattr(torch.optim, "SGD", Failing)
    Failing.weights, Failing.alive = [], []
    return Failing


@pytest.fixture
def no_luck() -> Iterator[None]:
    """The garbage collector never runs by itself, so that nothing is freed by chance."""
    gc.disable()
    yield
    gc.enable()


def silent(stage: str, done: int, total: int) -> None:
    """Shows nothing."""


def failed(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in metrics["individuals"] if one["reason"] is not None]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, make_shapes: Callable[..., Path]) -> Path:
    return make_shapes(tmp_path_factory.mktemp("images") / "shapes", per_class=24)


@pytest.fixture
def quick(images: Path, make_settings: Callable[..., Settings]) -> Settings:
    """Two optimizers, so that some individuals fail; the first has the good recipe."""
    return make_settings(
        images,
        optimizers=("sgd", "adamw"),
        generations=1,
        population=5,
        epochs=2.0,
        batch_size=BATCH,
        seed=1,
        refit_epochs=0.0,
    )


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("memory", "out of memory (MemoryError"),
        ("tensor", "out of memory (RuntimeError: "),
    ],
)
def test_out_of_memory_fails_one_individual_counts_its_images_and_is_given_back(
    quick: Settings, failing: type[Failing], tmp_path: Path, kind: str, said: str
) -> None:
    failing.kind = kind
    metrics = train_run(quick, tmp_path / "run", progress=silent)
    out = failed(metrics)
    assert 0 < len(out) < len(metrics["individuals"])
    for one in out:
        assert one["recipe"]["optimizer"] == "sgd" and one["reason"].startswith(said), one["reason"]
        assert "\n" not in one["reason"]
        assert one["images"] == (PRIOR_STEPS + 1) * BATCH
    assert len(failing.alive) == len(out) and not any(failing.alive)  # nothing of those before was still there
    assert (tmp_path / "run" / MODEL_FILE).exists()
    trials = optuna.load_study(study_name=STUDY, storage=f"sqlite:///{tmp_path / 'run' / DATABASE}").trials
    assert [one.user_attrs["reason"] for one in trials if one.state.name == "FAIL"] == [one["reason"] for one in out]


def test_a_learning_rate_beyond_all_bounds_diverges_alone(quick: Settings, tmp_path: Path) -> None:
    wild = replace(quick, scales={"learning_rate": Scale("log", 1e-2, 1e12)}, optimizers=("adamw",))
    metrics = train_run(wild, tmp_path / "run", progress=silent)
    out = failed(metrics)
    assert 0 < len(out) < len(metrics["individuals"])
    assert all(one["reason"].startswith("DivergedError: ") and one["images"] > 0 for one in out)
    assert all(one["nll"] is None and one["mcc"] == 0 for one in out)
    assert not any({one["name"] for one in out} & set(other["parents"]) for other in metrics["individuals"])


def test_branches_that_fail_leave_the_ancestor(
    quick: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = individual.train

    def of_branches(model: Any, examples: Any, recipe: Any, course: Any, *rest: Any) -> Any:
        if course.average:  # branches alone keep an average
            recipe = replace(recipe, learning_rate=1e30)
        return plain(model, examples, recipe, course, *rest)

    monkeypatch.setattr(individual, "train", of_branches)
    metrics = train_run(replace(quick, optimizers=("adamw",), population=2), tmp_path / "run", progress=silent)
    assert [one["place"][0] for one in failed(metrics)] == ["branch"]
    assert metrics["soup"]["ingredients"] == [metrics["ancestor"]]


@pytest.mark.parametrize("kind", ["tensor", "rate"])
def test_a_refit_that_fails_leaves_the_fused_network(
    quick: Settings, failing: type[Failing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    settings = replace(quick, optimizers=("adamw",), population=2)
    train_run(settings, tmp_path / "plain", progress=silent)
    plain = refit.train

    def of_refit(model: Any, examples: Any, recipe: Any, *rest: Any) -> Any:
        failing.kind = kind
        spoilt = replace(recipe, learning_rate=1e30) if kind == "rate" else replace(recipe, optimizer="sgd")
        return plain(model, examples, spoilt, *rest)

    monkeypatch.setattr(refit, "train", of_refit)
    metrics = train_run(replace(settings, refit_epochs=2.0), tmp_path / "run", progress=silent)
    (out,) = failed(metrics)
    assert out["place"][0] == "refit" and out["images"] > 0
    assert out["reason"].startswith("out of memory" if kind == "tensor" else "DivergedError")
    one, other = (TrainedModel.load(tmp_path / name)[1].state_dict() for name in ("run", "plain"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    again = train_run(replace(settings, refit_epochs=2.0), tmp_path / "run", resume=True, progress=silent)
    assert again == json.loads((tmp_path / "run" / METRICS_FILE).read_text(encoding="utf-8"))


def test_what_a_failed_batch_holds_is_released(no_luck: None) -> None:
    """An exception of the thread that makes batches refers to itself, and to the network."""

    def fail() -> weakref.ref[nn.Module]:
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
        examples = Examples(np.zeros((8, 32, 32, 3), np.uint8), np.full(8, 7), classes=2)  # no class 7
        recipe = Recipe("none", 1e-3, 0.0, "cross_entropy", "sgd", 0.0)
        try:
            train(model, examples, recipe, Course(1.0, 4, 0), torch.device("cpu"))
        except Exception as error:
            assert "Class values" in reason_of(error)
        return weakref.ref(model)

    model = fail()
    assert model() is not None
    release_memory()
    assert model() is None


def test_reasons_are_one_line() -> None:
    assert reason_of(MemoryError()) == "out of memory (MemoryError)"
    assert reason_of(DivergedError("the loss became nan")) == "DivergedError: the loss became nan"
    assert reason_of(ValueError("a\nb")) == "ValueError: a"
    assert reason_of(KeyError()) == "KeyError"
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore advice")
    assert reason_of(full) == "out of memory (OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.)"


def test_weights_that_are_no_numbers_are_refused() -> None:
    good = {"w": torch.ones(3), "n": torch.tensor(2)}
    check_finite(good)
    with pytest.raises(DivergedError, match="'w'"):
        check_finite({**good, "w": torch.tensor([1.0, float("nan")])})
