"""Which genes told good individuals from the rest: PED-ANOVA, held against chance."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial
from scipy.stats import rankdata

TOP_SHARE = 0.25
# PED-ANOVA asks for five individuals in its top share (Optuna's documentation of it).
FEWEST = 20
SHUFFLES = 100
CHANCE_QUANTILE = 0.95


def categories(individuals: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the genes that stand for a choice, in the recipe's order."""
    recipe = individuals[0]["recipe"] if individuals else {}
    return [name for name in recipe if isinstance(recipe[name], str)]


def numbers(individuals: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the genes that stand for a number, in their order."""
    choices = categories(individuals)
    return [name for name in (individuals[0]["genes"] if individuals else {}) if name not in choices]


def decoded(one: Mapping[str, Any], name: str) -> float:
    """What a numeric gene of an individual stands for; the gene itself where its recipe does not say."""
    value = one["recipe"].get(name)
    return float(value if isinstance(value, (int, float)) else one["genes"][name])


def importance(individuals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How far each gene's values among the best quarter of the search differ from those of all.

    Returns ``individuals``: how many went in; ``reason``: why nothing could be said, else None; ``genes``: the most
    important first, each with ``name``, ``value`` (Pearson divergence between the two distributions, 0: alike),
    ``chance`` (the 95% quantile of the same number after shuffling who was good) and ``p`` (the share of shuffles, and
    the truth among them, that reach ``value``).
    Good means ahead of others of the same generation, since later ones inherit trained weights; shuffling stays within
    generations too. Source: Watanabe et al., PED-ANOVA, IJCAI 2023, as implemented in Optuna. Deterministic.
    """
    scored = [one for one in individuals if one["place"][0] == "search" and one["reason"] is None]
    outcome: dict[str, Any] = {"individuals": len(scored), "reason": None, "genes": []}
    if len(scored) < FEWEST:
        return outcome | {"reason": f"{len(scored)} complete individuals are too few to tell; {FEWEST} are needed"}
    generation = np.array([one["place"][1] for one in scored])
    places = [np.flatnonzero(generation == number) for number in np.unique(generation)]
    standing = _standing(np.array([one["mcc"] for one in scored], float), places)
    if np.ptp(standing) == 0:
        return outcome | {"reason": "all individuals of a generation reached the same MCC"}
    distributions = _distributions(scored)
    if not distributions:
        return outcome | {"reason": "all individuals have the same genes"}
    study = _study(scored, distributions)
    found = _divergences(study, standing)
    generator = np.random.default_rng(0)
    shuffled: dict[str, list[float]] = {name: [] for name in distributions}
    for _ in range(SHUFFLES):
        for name, value in _divergences(study, _shuffled(standing, places, generator)).items():
            shuffled[name].append(value)
    genes = [
        {
            "name": name,
            "value": value,
            "chance": float(np.quantile(shuffled[name], CHANCE_QUANTILE)),
            "p": (1 + sum(other >= value for other in shuffled[name])) / (1 + SHUFFLES),
        }
        for name, value in sorted(found.items(), key=lambda item: (-item[1], item[0]))
    ]
    return outcome | {"genes": genes}


def _standing(mcc: NDArray[np.float64], places: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """The share of the own generation that an individual is ahead of, ties counting half; one alone stands at .5."""
    standing = np.empty(len(mcc))
    for mine in places:
        standing[mine] = (rankdata(mcc[mine]) - 0.5) / len(mine)
    return standing


def _shuffled(
    values: NDArray[np.float64], places: list[NDArray[np.int64]], generator: np.random.Generator
) -> NDArray[np.float64]:
    mixed = values.copy()
    for mine in places:
        mixed[mine] = generator.permutation(values[mine])
    return mixed


def _value(one: Mapping[str, Any], name: str) -> Any:
    """A choice by its name, for the gene's number says nothing of distance; a number by its gene."""
    choice = one["recipe"].get(name)
    return choice if isinstance(choice, str) else one["genes"][name]


def _distributions(scored: Sequence[Mapping[str, Any]]) -> dict[str, BaseDistribution]:
    """Of the genes that vary."""
    found: dict[str, BaseDistribution] = {}
    for name in categories(scored):
        options = sorted({one["recipe"][name] for one in scored})
        if len(options) > 1:
            found[name] = CategoricalDistribution(options)
    for name in numbers(scored):
        values = [one["genes"][name] for one in scored]
        if min(values) < max(values):
            found[name] = FloatDistribution(min(0.0, *values), max(1.0, *values))
    return found


def _study(scored: Sequence[Mapping[str, Any]], distributions: dict[str, BaseDistribution]) -> optuna.Study:
    """The individuals as trials, in their order."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    for one in scored:
        params = {name: _value(one, name) for name in distributions}
        study.add_trial(create_trial(params=params, distributions=distributions, value=0.0))
    return study


def _divergences(study: optuna.Study, standing: NDArray[np.float64]) -> dict[str, float]:
    """By gene; standing: how good each trial is, by its number."""
    evaluator = PedAnovaImportanceEvaluator(target_quantile=TOP_SHARE)
    with warnings.catch_warnings():  # ``normalize`` is new, and a target is taken to be the lower the better: it is
        warnings.simplefilter("ignore")
        found = get_param_importances(
            study, evaluator=evaluator, target=lambda trial: -float(standing[trial.number]), normalize=False
        )
    return dict(found)
