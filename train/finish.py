"""The finish: branches of the best individual and one soup of them that is within the limit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from gensoup.bench.device_profile import LatencyEstimate
from gensoup.export.architectures import build
from gensoup.runtime.console import StageProgress
from gensoup.train.breeding import Plan, branch_genes
from gensoup.train.constraint import LimitError
from gensoup.train.executor import Executor, OnStep
from gensoup.train.individual import AVERAGE_SUFFIX, Trainer
from gensoup.train.ledger import Record
from gensoup.train.run_profile import RunProfile
from gensoup.train.scoring import fitness_of, predict_logits
from gensoup.train.soup import Ingredient, Soup, Weights, average, greedy_soup


@dataclass(frozen=True)
class Finished:
    """The fused network on the CPU, its origin and its cost. dropped: what was over the limit once fused."""

    soup: Soup
    model: nn.Module
    ancestor: Record
    latency: LatencyEstimate | None
    dropped: list[dict[str, str]]


def finish(
    trainer: Trainer, executor: Executor, ranked: list[Record], profile: RunProfile, progress: StageProgress
) -> Finished:
    """Fuse the best ancestor's branches and time the result; over the limit, the next architecture's best is taken."""
    dropped: list[dict[str, str]] = []
    limit = trainer.settings.limit_ms
    for ancestor in _best_of_each_architecture(ranked):
        soup, model = fuse(trainer, executor, ancestor, progress)
        if limit is None:
            return Finished(soup, model, ancestor, None, dropped)
        name = ancestor.recipe["architecture"]
        latency = profile.fused(name, trainer.admission.candidate(name).size, model)
        if latency is not None and latency.p99_ms <= limit:
            return Finished(soup, model, ancestor, latency, dropped)
        shown = "not in the device profile" if latency is None else f"fused p99 {latency.p99_ms:.1f} ms"
        dropped.append({"architecture": name, "reason": f"{shown}, limit {limit:.2f} ms"})
    reasons = "; ".join(f"{entry['architecture']}: {entry['reason']}" for entry in dropped)
    raise LimitError(f"no fused network holds {limit:.2f} ms a frame ({reasons})")


def fuse(trainer: Trainer, executor: Executor, ancestor: Record, progress: StageProgress) -> tuple[Soup, nn.Module]:
    """Branches of ``ancestor`` at deploy size and the greedy soup of them, their averages and the ancestor; without
    branches, of its relatives in the last generation. Where no soup is wanted, the best of them on ``search`` alone.

    Returns the soup and the network that holds it, in eval mode, on the CPU.
    """
    settings, ledger = trainer.settings, trainer.ledger
    size = trainer.admission.candidate(ancestor.recipe["architecture"]).size
    model = build(ancestor.recipe["architecture"], trainer.data.classes).to(trainer.device)

    def ingredient(name: str) -> Ingredient:
        weights = ledger.weights(name)
        model.load_state_dict(weights)
        return Ingredient(name, weights, *_losses(trainer, model, size))

    def fused(members: Sequence[Weights]) -> tuple[Weights, float]:
        model.load_state_dict(average(members, [1 / len(members)] * len(members)))
        trainer.repair(model, size)
        state = {key: value.detach().clone() for key, value in model.state_dict().items()}
        return state, _losses(trainer, model, size)[1]

    # What started afresh, at another size, is no relative of what its genes came from.
    names = [ancestor.name] if settings.branch_from == "ancestor" or not settings.branches else []
    # The generation's number tells apart branches of different ancestors.
    number = ancestor.place[1] * 10_000 + ancestor.place[2]
    plans = [
        Plan(("branch", number, index), branch_genes(settings, ancestor, index), (ancestor,))
        for index in range(settings.branches)
    ]
    branches = []
    for record in executor.train(trainer, plans, _step_reporter(progress, settings.branches)):
        branches.append(record)
        progress("branches", len(branches), settings.branches)
    for record in sorted(branches, key=lambda one: one.place):
        if record.complete:
            names += [record.name] + [record.name + AVERAGE_SUFFIX] * settings.branch_average
    if not settings.branches and settings.soup:
        names += [one.name for one in _last_relatives(trainer, ancestor) if one.name != ancestor.name]
    ingredients = [ingredient(name) for name in names or [ancestor.name]]
    if not settings.soup:
        ingredients = [min(ingredients, key=lambda one: (one.search_loss, one.name))]
    soup = greedy_soup(ingredients, fused)
    model.load_state_dict(soup.weights)
    return soup, model.cpu().eval()


def _best_of_each_architecture(ranked: list[Record]) -> list[Record]:
    best: dict[str, Record] = {}
    for record in ranked:
        best.setdefault(record.recipe["architecture"], record)
    return list(best.values())


def _last_relatives(trainer: Trainer, ancestor: Record) -> list[Record]:
    last = trainer.settings.generations - 1
    return [
        one
        for one in trainer.ledger.records()
        if one.complete
        and one.place[:2] == ("search", last)
        and one.recipe["architecture"] == ancestor.recipe["architecture"]
    ]


def _losses(trainer: Trainer, model: nn.Module, size: int) -> tuple[float, float]:
    """What orders (on ``search``) and what accepts (on ``soup``): likelihood losses, both at the temperature of
    ``search``, as it is deployed; or Matthews' correlations, negated."""
    search = trainer.fitness(model, size)
    soup = search
    if trainer.settings.roles == "four":
        examples = trainer.data.at("soup", size)
        logits = predict_logits(model, examples.images, trainer.device)
        soup = fitness_of(logits, examples.targets, search.temperature)
    return (search.nll, soup.nll) if trainer.settings.judge == "likelihood" else (-search.mcc, -soup.mcc)


def _step_reporter(progress: StageProgress, branches: int) -> OnStep:
    """Progress within branches, a few times a second."""
    last_reported = 0.0

    def report(index: int, step: int, steps: int) -> None:
        nonlocal last_reported
        if time.monotonic() - last_reported > 0.2:
            last_reported = time.monotonic()
            progress("branches", index * steps + step, branches * steps)

    return report
