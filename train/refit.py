"""The last training of the fused network, and the temperature of its probabilities."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from gensoup.export.architectures import build
from gensoup.export.batch_norm import reestimate_batch_norm
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import GenSoupError
from gensoup.train.breeding import torch_seed
from gensoup.train.failure import check_finite, reason_of, release_memory
from gensoup.train.genes import Recipe
from gensoup.train.individual import Trainer
from gensoup.train.learner import ANNEALED, Course, Schedule, steps_of, steps_of_a_pass, train
from gensoup.train.ledger import Place, Record
from gensoup.train.scoring import fit_temperature, predict_logits

CALIBRATED_AT = 0.7  # share of the refit's steps after which ``soup`` has given the temperature and is trained on too
BEFORE_SOUP_SUFFIX = "-before-soup"


@dataclass(frozen=True)
class Calibrated:
    """The final network with the temperature of its probabilities. role: of the images it was fitted on. logits: on
    ``search`` and ``soup``, each of the last network that had not trained on it."""

    model: nn.Module
    temperature: float
    role: str
    logits: Mapping[str, NDArray[np.float32]]


def refit_and_calibrate(trainer: Trainer, ancestor: Record, model: nn.Module, progress: StageProgress) -> Calibrated:
    """Refit the fused network where the settings say so, and fit the temperature on images not yet trained on.

    Those are ``search``; of a refit, which trains on them, ``soup``, before it is trained on too. Where both are the
    same images nothing is left to calibrate a refitted network by, and the temperature is that from before.
    """
    size = trainer.admission.candidate(ancestor.recipe["architecture"]).size
    apart = trainer.settings.roles == "four"
    model = model.to(trainer.device)

    def predict(role: str) -> NDArray[np.float32]:
        return predict_logits(model, trainer.data.at(role, size).images, trainer.device)

    logits = {"search": predict("search")}
    record = refit(trainer, ancestor, model, progress) if trainer.settings.refit_epochs > 0 else None
    refitted = record.name if record is not None and record.complete else None
    if apart and refitted is not None:
        model.load_state_dict(trainer.ledger.weights(refitted + BEFORE_SOUP_SUFFIX))
    logits["soup"] = predict("soup") if apart else logits["search"]
    if refitted is not None:
        model.load_state_dict(trainer.ledger.weights(refitted))
    role = "soup" if apart and record is not None else "search"
    temperature = fit_temperature(logits[role], trainer.data.at(role, size).targets)
    return Calibrated(model.cpu().eval(), temperature, role, logits)


def refit(trainer: Trainer, ancestor: Record, model: nn.Module, progress: StageProgress) -> Record:
    """Train the fused network on by the ancestor's recipe, on all images but the sealed test's.

    First on ``train`` and ``search``; after CALIBRATED_AT of the steps the weights, averaged over the last ones, are
    kept for the temperature, and ``soup`` joins. Nothing judges the refit but the sealed test; so it is annealed, where
    ``refit_average`` says so the average over its last steps is what counts, and one that fails is dropped: the fused
    network stays. The learning rate is the one with which the lineage began: what is found on inherited weights in a
    few steps is too low for many (short-horizon bias, Wu et al. 2018). Committed to the ledger like an individual.
    """
    place: Place = ("refit", ancestor.place[1] * 10_000 + ancestor.place[2], 0)
    genes = dict(ancestor.genes)
    if "learning_rate" in genes:  # where it is searched
        genes["learning_rate"] = _root(trainer, ancestor).genes["learning_rate"]
    recipe = trainer.alphabet.decode(genes)
    candidate = trainer.admission.candidate(recipe.architecture)
    record = trainer.ledger.get(place)
    if record is not None:
        return record
    started = time.monotonic()
    scaled = replace(recipe, learning_rate=recipe.learning_rate * trainer.settings.refit_rate)
    weights: dict[str, dict[str, Tensor]] = {}
    reason, passed_before = None, trainer.meter.spent
    try:
        weights = _refitted(trainer, scaled, torch_seed(trainer.settings.seed, place), model, progress)
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
    return record


def _refitted(
    trainer: Trainer, recipe: Recipe, seed: int, model: nn.Module, progress: StageProgress
) -> dict[str, dict[str, Tensor]]:
    """The weights after a refit, and those from before ``soup`` was trained on, by suffix."""
    settings, size = trainer.settings, trainer.admission.candidate(recipe.architecture).size
    first = trainer.data.at("refit", size)
    legs = [(first, settings.refit_epochs, ANNEALED)]
    if settings.roles == "four":
        every, head = trainer.data.at("all", size), CALIBRATED_AT * settings.refit_epochs
        # As many steps as if the rest went over the first images.
        per_pass, of_all = (steps_of_a_pass(one, settings.batch_size) for one in (first, every))
        tail = (settings.refit_epochs - head) * per_pass / of_all
        legs = [(first, head, Schedule(end=CALIBRATED_AT)), (every, tail, Schedule(start=CALIBRATED_AT, end=1.0))]
    network = build(recipe.architecture, trainer.data.classes).to(trainer.device)
    network.load_state_dict(model.state_dict())
    total = sum(steps_of(examples, epochs, settings.batch_size) for examples, epochs, _ in legs)
    done = 0

    def report(step: int, steps: int) -> None:
        nonlocal done
        done += 1
        progress("refit", done, total)

    after: list[dict[str, Tensor]] = []
    for number, (examples, epochs, schedule) in enumerate(legs):
        course = Course(
            epochs=epochs,
            batch_size=settings.batch_size,
            seed=seed + number,
            schedule=schedule,
            gradient_norm=settings.gradient_norm,
            mixing=settings.mixing,
            average=settings.refit_average,
        )
        lesson = train(network, examples, recipe, course, trainer.device, report)
        learnt = build(recipe.architecture, trainer.data.classes).to(trainer.device)
        learnt.load_state_dict(network.state_dict() if lesson.averaged is None else lesson.averaged)
        reestimate_batch_norm(learnt, examples.images, trainer.device)
        check_finite(learnt.state_dict())
        after.append(learnt.state_dict())
    return dict(zip(("", BEFORE_SOUP_SUFFIX), reversed(after), strict=False))


def _root(trainer: Trainer, record: Record) -> Record:
    """Where a lineage began: the better parent's better parent, back to the first that inherited no weights."""
    by_name = {one.name: one for one in trainer.ledger.records()}
    while record.inherited and record.parents[0] in by_name:
        record = by_name[record.parents[0]]
    return record
