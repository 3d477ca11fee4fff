"""What the product is compared with: random search, Optuna's TPE and a plain fine-tune."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
from quality_lessons import Trial, attempt, glance, retrain, statistics_cost, trained_on_all
from quality_workbench import Found, Workbench
from torch import nn

from gensoup.train.breeding import good_genes, rng_of
from gensoup.train.genes import CATEGORIES, Alphabet, Recipe


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
        trial = attempt(bench, genes, recipe, allowance / len(recipes), ("random", 0, index))
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
    scoring = np.mean([bench.pool.count("search") + statistics_cost(bench, name) for name in alphabet.architectures])
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
            asked.report(glance(bench, model, search, settings["report_images"]), step)
            if asked.should_prune():
                raise optuna.TrialPruned

        try:
            trial = attempt(bench, genes, recipe, length, ("tpe", 0, asked.number), report)
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
    model = trained_on_all(bench, recipe, ("plain", 0, 0))
    return Found(model, 1.0, {"recipe": recipe.to_dict()})


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


def _scoring_cost(bench: Workbench, recipe: Recipe) -> int:
    return bench.pool.count("search") + statistics_cost(bench, recipe.architecture)
