"""The methods under comparison; each takes a workbench and gives back one network with its temperature."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from quality_meter import ImageMeter
from quality_pool import Pool
from quality_trainer import LBFGS_REPEATS, BudgetedTrainer, Shares, epochs_of, has_batch_norm
from torch import nn

from gensoup.export.architectures import initial_model
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import GenSoupError
from gensoup.train.breeding import good_genes, rng_of, torch_seed
from gensoup.train.constraint import Admission, RunProfile
from gensoup.train.finish import fuse, refit
from gensoup.train.genes import CATEGORIES, Alphabet, Recipe
from gensoup.train.learner import ANNEALED, Course, DivergedError, Examples, train
from gensoup.train.ledger import Ledger
from gensoup.train.optimizers import OPTIMIZERS
from gensoup.train.presets import compose
from gensoup.train.scoring import Fitness, fit_temperature, fitness_on, predict_logits
from gensoup.train.search import evolve
from gensoup.train.settings import Settings
from gensoup.train.soup import BATCH_NORM_IMAGES, reestimate_batch_norm


@dataclass(frozen=True)
class Workbench:
    """All that a method gets for one run. base: settings every method shares; run: an empty folder."""

    pool: Pool
    admission: Admission
    base: Mapping[str, Any]
    meter: ImageMeter
    run: Path
    progress: StageProgress

    @property
    def seed(self) -> int:
        """Of the run."""
        return int(self.base["seed"])

    @property
    def size(self) -> int:
        """The deploy size."""
        return int(self.base["sizes"][0])

    def settings(self, preset: str, changed: Mapping[str, Any]) -> Settings:
        """A preset with what is changed in it, over the images and networks of the comparison."""
        return compose("", preset, None, {**changed, **self.base})


@dataclass(frozen=True)
class Found:
    """A method's result: a network for frames of the deploy size, its temperature, and what to note of its making."""

    model: nn.Module
    temperature: float
    notes: Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """A recipe that was trained from the initial weights and scored."""

    genes: Mapping[str, float]
    recipe: Recipe
    fitness: Fitness

    def rank(self) -> tuple[float, float]:
        """Sorts the best first: Matthews' correlation, ties by likelihood."""
        return (-self.fitness.mcc, self.fitness.nll)


def run_method(bench: Workbench, settings: Mapping[str, Any]) -> Found:
    """Run the method whose ``settings`` name its ``kind``."""
    kinds: dict[str, Callable[[Workbench, Mapping[str, Any]], Found]] = {
        "genetic": genetic,
        "random": random_search,
        "tpe": tpe,
        "plain": plain,
    }
    return kinds[settings["kind"]](bench, settings)


def genetic(bench: Workbench, settings: Mapping[str, Any]) -> Found:
    """A preset of the product: search, then its own finish, or the best recipe trained again from the start.

    settings: ``preset``, ``changed`` (over the preset), ``search`` and ``refit`` (shares of the budget), ``merged``
    (one validation part), ``retrain``.
    """
    pool = bench.pool.merged() if settings["merged"] else bench.pool
    chosen = bench.settings(settings["preset"], settings["changed"])
    shares = Shares(settings["search"], settings["refit"])
    trainer = BudgetedTrainer(chosen, bench.admission, pool, Ledger(bench.run), bench.meter, shares)
    ranked = evolve(trainer, bench.progress)
    best = ranked[0]
    searched, failed = bench.meter.spent, sum(not one.complete for one in trainer.ledger.records())
    notes: dict[str, Any] = {"individuals": len(trainer.ledger.records()), "failed": failed, "searched": searched}
    if settings["retrain"]:
        trials = [
            Trial(one.genes, trainer.alphabet.decode(one.genes), Fitness(one.mcc, one.nll, one.temperature, 0))
            for one in ranked
        ]
        found = retrain(bench, trials)
        return replace(found, notes={**notes, **found.notes})
    soup, model = fuse(trainer, best, bench.progress)
    examples = trainer.data.at("search", bench.size)
    temperature = fit_temperature(predict_logits(model, examples.images, trainer.device), examples.targets)
    notes.update(soup=list(soup.names), recipe=trainer.alphabet.decode(best.genes).to_dict(), val_mcc=best.mcc)
    if settings["refit"]:
        trainer.plan_refit(best.recipe["architecture"])
        notes["refit_epochs"] = round(trainer.settings.refit_epochs, 3)
        model = refit(trainer, best, model)
    return Found(model, temperature, notes)


def random_search(bench: Workbench, settings: Mapping[str, Any]) -> Found:
    """Recipes drawn uniformly over the genes, all trained equally long; the best is trained again on all the images.

    settings: ``trials``; ``search``: share of the budget that trials take; ``known_first``: the first is the good
    recipe on the pretrained network.
    """
    alphabet = _alphabet(bench)
    rng = rng_of(bench.seed, "random", 0)
    drawn = [{name: float(rng.random()) for name in alphabet.names} for _ in range(settings["trials"])]
    if settings["known_first"]:
        drawn[0] = _known(bench, alphabet)
    recipes = [alphabet.decode(genes) for genes in drawn]
    allowance = bench.meter.budget * settings["search"] - sum(_scoring_cost(bench, one) for one in recipes)
    trials = []
    for index, (genes, recipe) in enumerate(zip(drawn, recipes, strict=True)):
        bench.progress("trials", index, len(recipes))
        trial = _attempt(bench, genes, recipe, allowance / len(recipes), ("random", 0, index))
        trials += [trial] if trial else []
    found = retrain(bench, trials)
    return replace(found, notes={"trials": len(recipes), "failed": len(recipes) - len(trials), **found.notes})


def tpe(bench: Workbench, settings: Mapping[str, Any]) -> Found:
    """Optuna's multivariate TPE with a median pruner over the same genes; the best is trained again on all the images.

    Every trial may train as many images as random search of ``trials`` recipes could on average; what pruning saves
    goes into further trials, until ``search`` of the budget is spent. settings: ``trials``, ``search``,
    ``known_first`` as there; ``startup``: trials drawn before the estimator is asked; ``report_at``: share of a
    trial's steps after which it is compared; ``report_images``: clean images that its statistics are estimated on then.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    alphabet = _alphabet(bench)
    sampler = optuna.samplers.TPESampler(
        seed=bench.seed, n_startup_trials=settings["startup"], multivariate=True, group=False
    )
    pruner = optuna.pruners.MedianPruner(n_startup_trials=settings["startup"], n_warmup_steps=0)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    if settings["known_first"]:
        study.enqueue_trial(_parameters(alphabet, _known(bench, alphabet)))
    end = bench.meter.budget * settings["search"]
    scoring = np.mean([bench.pool.count("search") + _statistics(bench, name) for name in alphabet.architectures])
    length = end / settings["trials"] - scoring
    steps = max(1, int(length // bench.base["batch_size"]))
    search = bench.pool.load("search", bench.size)
    peek = max(1, round(settings["report_at"] * steps))
    trials: list[Trial] = []
    pruned = 0
    while bench.meter.spent + length + scoring <= end or not study.trials:
        asked = study.ask()
        genes = {
            name: alphabet.encode_choice(name, asked.suggest_categorical(name, _options(alphabet, name)))
            if name in CATEGORIES
            else asked.suggest_float(name, 0.0, 1.0)
            for name in alphabet.names
        }
        recipe = alphabet.decode(genes)

        def report(model: nn.Module, step: int, asked: optuna.Trial = asked) -> None:
            if step != peek or step == steps:
                return
            asked.report(_glance(bench, model, search, settings["report_images"]), step)
            if asked.should_prune():
                raise optuna.TrialPruned

        try:
            trial = _attempt(bench, genes, recipe, length, ("tpe", 0, asked.number), report)
        except optuna.TrialPruned:
            pruned += 1
            study.tell(asked, state=optuna.trial.TrialState.PRUNED)
            continue
        # What diverges is as good as a guess; a failed trial would teach the estimator nothing.
        study.tell(asked, 0.0 if trial is None else trial.fitness.mcc)
        trials += [trial] if trial else []
        bench.progress("trials", min(bench.meter.spent, int(end)), int(end))
    found = retrain(bench, trials)
    return replace(found, notes={"trials": len(study.trials), "pruned": pruned, **found.notes})


def plain(bench: Workbench, settings: Mapping[str, Any]) -> Found:
    """One training of a pretrained network by a fixed recipe on all images but the test's, the whole budget long.

    Nothing is held back, so there is nothing to fit a temperature on: it is 1. settings: ``architecture``, ``recipe``.
    """
    recipe = Recipe(settings["architecture"], **settings["recipe"])
    model = _trained_on_all(bench, recipe, ("plain", 0, 0))
    return Found(model, 1.0, {"recipe": recipe.to_dict()})


def retrain(bench: Workbench, trials: list[Trial]) -> Found:
    """Train the best trial's recipe from the initial weights on all images but the test's, for the rest of the budget.

    The temperature is the trial's, fitted on images it had not seen. A recipe that diverges gives way to the next.
    """
    for index, trial in enumerate(sorted(trials, key=Trial.rank)):
        searched = bench.meter.spent
        with contextlib.suppress(DivergedError):
            model = _trained_on_all(bench, trial.recipe, ("retrain", 0, index))
            notes = {"searched": searched, "recipe": trial.recipe.to_dict(), "val_mcc": trial.fitness.mcc}
            return Found(model, trial.fitness.temperature, {**notes, "diverged": index})
    raise GenSoupError("no recipe could be trained; raise --images")


def _trained_on_all(bench: Workbench, recipe: Recipe, place: tuple[str, int, int]) -> nn.Module:
    examples = bench.pool.load("refit", bench.size)
    statistics = min(BATCH_NORM_IMAGES, len(examples)) if has_batch_norm(recipe.architecture) else 0
    model = _initial(bench, recipe)
    train(model, examples, recipe, _course(bench, bench.meter.left - statistics, recipe, examples, place), DEVICE)
    reestimate_batch_norm(model, examples.images, DEVICE)
    return model


def _attempt(
    bench: Workbench,
    genes: Mapping[str, float],
    recipe: Recipe,
    images: float,
    place: tuple[str, int, int],
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


def _glance(bench: Workbench, model: nn.Module, search: Examples, images: int) -> float:
    """Matthews' correlation amid a training, which goes on unchanged: only running statistics are touched."""
    clean = bench.pool.load("train", bench.size).images
    reestimate_batch_norm(model, clean[:: max(1, len(clean) // images)][:images], DEVICE)
    value = fitness_on(model, search.images, search.targets, DEVICE).mcc
    model.train()
    return value


def _course(bench: Workbench, images: float, recipe: Recipe, examples: Examples, place: tuple[str, int, int]) -> Course:
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


def _alphabet(bench: Workbench) -> Alphabet:
    ours = bench.settings("gen-soup", {})
    names = tuple(candidate.name for candidate in bench.admission.candidates)
    return Alphabet(names, ours.losses, ours.optimizers, ours.scales)


def _known(bench: Workbench, alphabet: Alphabet) -> dict[str, float]:
    """Genes of the good fixed recipe on the first network that has ImageNet weights, what anyone would try first."""
    names = [one.name for one in bench.admission.candidates if one.pretrained is not None] or alphabet.architectures
    return {**good_genes(alphabet), "architecture": alphabet.encode_choice("architecture", names[0])}


def _parameters(alphabet: Alphabet, genes: Mapping[str, float]) -> dict[str, Any]:
    """Genes as the parameters of an Optuna trial: categories by name."""
    words = alphabet.decode(genes).to_dict()
    return {name: words[name] if name in CATEGORIES else genes[name] for name in alphabet.names}


def _options(alphabet: Alphabet, name: str) -> tuple[str, ...]:
    return {"architecture": alphabet.architectures, "loss": alphabet.losses, "optimizer": alphabet.optimizers}[name]


def _statistics(bench: Workbench, architecture: str) -> int:
    return min(BATCH_NORM_IMAGES, bench.pool.count("train")) if has_batch_norm(architecture) else 0


def _scoring_cost(bench: Workbench, recipe: Recipe) -> int:
    return bench.pool.count("search") + _statistics(bench, recipe.architecture)


def admission_of(settings: Settings, classes: int, run: Path, progress: StageProgress) -> Admission:
    """The networks of a comparison with their initial weights; nothing is timed."""
    from gensoup.train.constraint import admit

    return admit(settings, classes, RunProfile(run, settings, None), progress)


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
