"""The finish: branches of the best individual, one soup of them, a refit and the temperature of its probabilities."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from gensoup.bench.probe import LatencyEstimate
from gensoup.export.architectures import build
from gensoup.export.batch_norm import reestimate_batch_norm
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import GenSoupError
from gensoup.train.breeding import Plan, branch_genes, torch_seed
from gensoup.train.constraint import LimitError, RunProfile
from gensoup.train.failure import check_finite, reason_of, release_memory
from gensoup.train.genes import Recipe
from gensoup.train.individual import AVERAGE_SUFFIX, Trainer
from gensoup.train.learner import ANNEALED, Course, train
from gensoup.train.ledger import Record
from gensoup.train.scoring import fit_temperature, fitness_of, predict_logits
from gensoup.train.soup import Ingredient, Soup, Weights, average, greedy_soup


@dataclass(frozen=True)
class Finished:
    """The fused network on the CPU, its origin and its cost. dropped: what was over the limit once fused."""

    soup: Soup
    model: nn.Module
    ancestor: Record
    latency: LatencyEstimate | None
    dropped: list[dict[str, str]]


def finish(trainer: Trainer, ranked: list[Record], profile: RunProfile, progress: StageProgress) -> Finished:
    """Fuse the best ancestor's branches and time the result; over the limit, the next architecture's best is taken."""
    dropped: list[dict[str, str]] = []
    limit = trainer.settings.limit_ms
    for ancestor in _best_of_each_architecture(ranked):
        soup, model = fuse(trainer, ancestor, progress)
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


def fuse(trainer: Trainer, ancestor: Record, progress: StageProgress) -> tuple[Soup, nn.Module]:
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
    reporter = _step_reporter(progress, settings.branches)
    for index in range(settings.branches):
        # The generation's number tells apart branches of different ancestors.
        number = ancestor.place[1] * 10_000 + ancestor.place[2]
        plan = Plan(("branch", number, index), branch_genes(settings, ancestor, index), (ancestor,))
        record = trainer.branch(plan, reporter(index))
        progress("branches", index + 1, settings.branches)
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


@dataclass(frozen=True)
class Calibrated:
    """The final network with the temperature of its probabilities. role: of the images it was fitted on. logits: on
    ``search``, of the network that had not trained on it, and on ``soup``, of the final one."""

    model: nn.Module
    temperature: float
    role: str
    logits: Mapping[str, NDArray[np.float32]]


def refit_and_calibrate(trainer: Trainer, ancestor: Record, model: nn.Module) -> Calibrated:
    """Refit the fused network where the settings say so, and fit the temperature on images it has not trained on.

    Those are ``search``; after a refit, which trains on them, ``soup``. Where both are the same images nothing is left
    to calibrate a refitted network by, and the temperature is that from before.
    """
    size = trainer.admission.candidate(ancestor.recipe["architecture"]).size

    def predict(role: str) -> NDArray[np.float32]:
        return predict_logits(model, trainer.data.at(role, size).images, trainer.device)

    refitted = trainer.settings.refit_epochs > 0
    apart = trainer.settings.roles == "four"
    model = model.to(trainer.device)
    logits = {"search": predict("search")}
    if refitted:
        model = refit(trainer, ancestor, model)
    logits["soup"] = predict("soup") if apart else logits["search"]
    role = "soup" if refitted and apart else "search"
    temperature = fit_temperature(logits[role], trainer.data.at(role, size).targets)
    return Calibrated(model.cpu().eval(), temperature, role, logits)


def refit(trainer: Trainer, ancestor: Record, model: nn.Module) -> nn.Module:
    """Train the fused network on by the ancestor's recipe, on ``train`` and ``search`` together.

    Nothing judges it but the sealed test; so it is annealed, where ``refit_average`` says so the average over its last
    steps is what counts, and one that fails is dropped: the fused network stays as it was. ``soup`` stays out of it for
    the temperature, which fitted before a long refit is another network's. The learning rate is the one with which the
    lineage began: what is found on inherited weights in a few steps is too low for many (short-horizon bias, Wu et al.
    2018). Committed to the ledger like an individual.
    """
    place = ("refit", ancestor.place[1] * 10_000 + ancestor.place[2], 0)
    genes = dict(ancestor.genes)
    if "learning_rate" in genes:  # where it is searched
        genes["learning_rate"] = _root(trainer, ancestor).genes["learning_rate"]
    recipe = trainer.alphabet.decode(genes)
    candidate = trainer.admission.candidate(recipe.architecture)
    record = trainer.ledger.get(place)
    if record is None:
        started = time.monotonic()
        scaled = replace(recipe, learning_rate=recipe.learning_rate * trainer.settings.refit_rate)
        weights: dict[str, dict[str, Tensor]] = {}
        reason, passed_before = None, trainer.meter.spent
        try:
            weights[""] = _refitted(trainer, scaled, torch_seed(trainer.settings.seed, place), model)
        except GenSoupError:
            raise
        except Exception as error:
            reason = reason_of(error)
        if reason is not None:
            release_memory()
        record = Record(
            place=place,
            genes=genes,
            recipe=scaled.to_dict(),
            parents=(ancestor.name,),
            inherited="soup",
            size=candidate.size,
            macs=candidate.macs,
            images=trainer.meter.spent - passed_before,
            seconds=time.monotonic() - started,
            reason=reason,
        )
        trainer.ledger.add(record, weights)
    if record.complete:
        model.load_state_dict(trainer.ledger.weights(record.name))
    return model.eval()


def _refitted(trainer: Trainer, recipe: Recipe, seed: int, model: nn.Module) -> dict[str, Tensor]:
    """The weights after a refit."""
    settings, size = trainer.settings, trainer.admission.candidate(recipe.architecture).size
    course = Course(
        epochs=settings.refit_epochs,
        batch_size=settings.batch_size,
        seed=seed,
        schedule=ANNEALED,
        gradient_norm=settings.gradient_norm,
        mixing=settings.mixing,
        average=settings.refit_average,
    )
    examples = trainer.data.at("refit", size)
    network = build(recipe.architecture, trainer.data.classes).to(trainer.device)
    network.load_state_dict(model.state_dict())
    lesson = train(network, examples, recipe, course, trainer.device)
    if lesson.averaged is not None:
        network.load_state_dict(lesson.averaged)
    reestimate_batch_norm(network, examples.images, trainer.device)
    check_finite(network.state_dict())
    return network.state_dict()


def _root(trainer: Trainer, record: Record) -> Record:
    """Where a lineage began: the better parent's better parent, back to the first that inherited no weights."""
    by_name = {one.name: one for one in trainer.ledger.records()}
    while record.inherited and record.parents[0] in by_name:
        record = by_name[record.parents[0]]
    return record


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


def _step_reporter(progress: StageProgress, branches: int) -> Callable[[int], Callable[[int, int], None]]:
    """Progress within branches, a few times a second."""
    last_reported = 0.0

    def of_branch(index: int) -> Callable[[int, int], None]:
        def report(step: int, steps: int) -> None:
            nonlocal last_reported
            if time.monotonic() - last_reported > 0.2:
                last_reported = time.monotonic()
                progress("branches", index * steps + step, branches * steps)

        return report

    return of_branch
