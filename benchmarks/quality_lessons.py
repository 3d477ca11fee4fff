"""Trainings of a single recipe from the initial weights: a trial that is scored, and the last one on all images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from quality_trainer import LBFGS_REPEATS, epochs_of, has_batch_norm
from quality_workbench import DEVICE, Found, Workbench
from torch import nn

from gensoup.export.architectures import initial_model
from gensoup.export.batch_norm import BATCH_NORM_IMAGES, reestimate_batch_norm
from gensoup.runtime.errors import GenSoupError
from gensoup.train.breeding import torch_seed
from gensoup.train.failure import DivergedError
from gensoup.train.genes import Recipe
from gensoup.train.learner import ANNEALED, Course, Examples, train
from gensoup.train.ledger import Place
from gensoup.train.optimizers import OPTIMIZERS
from gensoup.train.scoring import Fitness, fitness_on

COLLAPSED = 0.5  # of a trial's correlation, on images being trained on: no recipe that works is so bad
CHECK_STATISTICS = 128  # clean images that batch-norm statistics are estimated on amid a training


@dataclass(frozen=True)
class Trial:
    """A recipe that was trained from the initial weights and scored."""

    genes: Mapping[str, float]
    recipe: Recipe
    fitness: Fitness

    def rank(self) -> tuple[float, float]:
        """Sorts the best first: Matthews' correlation, ties by likelihood."""
        return (-self.fitness.mcc, self.fitness.nll)


def attempt(
    bench: Workbench,
    genes: Mapping[str, float],
    recipe: Recipe,
    images: float,
    place: Place,
    report: Callable[[nn.Module, int], None] | None = None,
) -> Trial | None:
    """Train a recipe on ``train`` from the initial weights, learning rate annealed; None where it diverges."""
    examples = bench.pool.load("train", bench.size)
    search = bench.pool.load("search", bench.size)
    model = _initial(bench, recipe)
    course = _course(bench, images, recipe, examples, place)
    try:
        train(model, examples, recipe, course, DEVICE, report and (lambda step, _: report(model, step)))
    except DivergedError:
        return None
    reestimate_batch_norm(model, examples.images, DEVICE)
    fitness = fitness_on(model, search.images, search.targets, DEVICE)
    return Trial(genes, recipe, fitness) if np.isfinite(fitness.nll) else None


def trained_on_all(bench: Workbench, recipe: Recipe, place: Place, least: float | None = None) -> nn.Module:
    """The whole rest of the budget in one training. least: Matthews' correlation to have a quarter of the way."""
    examples = bench.pool.load("all", bench.size)
    search = bench.pool.load("search", bench.size)
    statistics = statistics_cost(bench, recipe.architecture, "all")
    watching = 0
    if least is not None:
        watching = len(search) + min(CHECK_STATISTICS, statistics_cost(bench, recipe.architecture))
    model = _initial(bench, recipe)
    course = _course(bench, bench.meter.left - statistics - watching, recipe, examples, place)

    def watch(step: int, steps: int) -> None:
        if least is not None and step == max(1, steps // 4):
            value = glance(bench, model, search, CHECK_STATISTICS)
            if value < least:
                raise DivergedError(f"Matthews' correlation of {value:.3f} a quarter of the way")

    train(model, examples, recipe, course, DEVICE, watch)
    reestimate_batch_norm(model, examples.images, DEVICE)
    return model


def retrain(bench: Workbench, trials: list[Trial]) -> Found:
    """Train the best trial's recipe from the initial weights on all images but the test's, for the rest of the budget.

    The temperature is the trial's, fitted on images it had not seen. A recipe that bore a short training may not bear a
    long one: where it diverges, or a quarter of the way knows the images it trains on half as well as the trial knew
    unseen ones, it gives way to the next.
    """
    for index, trial in enumerate(sorted(trials, key=Trial.rank)):
        searched = bench.meter.spent
        with contextlib.suppress(DivergedError):
            model = trained_on_all(bench, trial.recipe, ("retrain", 0, index), COLLAPSED * trial.fitness.mcc)
            notes = {"searched": searched, "recipe": trial.recipe.to_dict(), "val_mcc": trial.fitness.mcc}
            return Found(model, trial.fitness.temperature, {**notes, "diverged": index})
    raise GenSoupError("no recipe could be trained; raise --images")


def glance(bench: Workbench, model: nn.Module, search: Examples, images: int) -> float:
    """Matthews' correlation amid a training, which goes on unchanged: only running statistics are touched."""
    clean = bench.pool.load("train", bench.size).images
    spread = np.linspace(0, len(clean) - 1, min(images, len(clean))).round().astype(int)  # they come sorted by class
    reestimate_batch_norm(model, clean[spread], DEVICE)
    value = fitness_on(model, search.images, search.targets, DEVICE).mcc
    model.train()
    return value


def statistics_cost(bench: Workbench, architecture: str, role: str = "train") -> int:
    """Images of one estimate of batch-norm statistics; 0 where there are none."""
    return min(BATCH_NORM_IMAGES, bench.pool.count(role)) if has_batch_norm(architecture) else 0


def _course(bench: Workbench, images: float, recipe: Recipe, examples: Examples, place: Place) -> Course:
    repeats = LBFGS_REPEATS if OPTIMIZERS[recipe.optimizer].repeats else 1
    batch_size = int(bench.base["batch_size"])
    return Course(
        epochs=epochs_of(images / repeats, len(examples), batch_size),
        batch_size=batch_size,
        seed=torch_seed(bench.seed, place),
        schedule=ANNEALED,
    )


def _initial(bench: Workbench, recipe: Recipe) -> nn.Module:
    candidate = bench.admission.candidate(recipe.architecture)
    return initial_model(recipe.architecture, bench.pool.classes, bench.seed, candidate.pretrained)
