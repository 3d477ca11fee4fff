"""The factors of astrocytes, found greedily epoch by epoch, and the control that the search alone has to beat.

Thesis, experiment 2. Each epoch nine networks start from the same weights and train one epoch each, with both factors
stepped by -0.25, 0 or +0.25 from where they stand, without bounds; the best goes on. The control spends as much: nine
plain trainings an epoch that differ in their seed alone, the best goes on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import GenSoupError, UsageError
from gensoup.runtime.files import write_atomic
from gensoup.train.astrocytes import AstrocyteFactors, AstrocyteSettings
from gensoup.train.genes import Recipe
from gensoup.train.learner import DivergedError, Examples, train
from gensoup.train.scoring import fitness_on
from gensoup.train.soup import reestimate_batch_norm

STEP = 0.25
# Standing still comes first: where no filter passed the threshold all nine are the same, and the first of equals wins.
STEPS = ((0, 0), *((strong, weak) for strong in (-1, 0, 1) for weak in (-1, 0, 1) if (strong, weak) != (0, 0)))
JOURNAL_FILE = "schedule.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Trial:
    """One epoch of one candidate. factors: None in the control. images: passes in training, statistics and scoring.

    mcc, nll: on ``search``; nll is None where the training failed, for the ``reason``.
    """

    epoch: int
    index: int
    factors: AstrocyteFactors | None
    images: int
    mcc: float = 0.0
    nll: float | None = None
    reason: str | None = None

    @property
    def rank(self) -> tuple[bool, float, float, int]:
        """Sorts the best first: Matthews' correlation, ties by likelihood, then in the order of trials."""
        return (self.nll is None, -self.mcc, self.nll or 0.0, self.index)


@dataclass(frozen=True)
class Schedule:
    """path: the trial that each epoch kept; trials: all of them, in order; weights: after the last epoch."""

    path: tuple[Trial, ...]
    trials: tuple[Trial, ...]
    weights: dict[str, Tensor]

    @property
    def images(self) -> int:
        """Passes through the network in all trials, kept or not."""
        return sum(trial.images for trial in self.trials)


def greedy_schedule(
    model: nn.Module,
    examples: Examples,
    search: Examples,
    recipe: Recipe,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    device: torch.device,
    folder: Path,
    astrocytes: AstrocyteSettings | None,
    progress: StageProgress,
) -> Schedule:
    """Train ``model`` in place for ``epochs`` epochs, each the best of nine by Matthews' correlation on ``search``.

    astrocytes: where the factors start, and their form; the nine share one seed an epoch, so that they differ in the
    factors alone. None: the control, nine seeds. folder: of the journal, new or one to go on with: what was cut off is
    trained again from the same random numbers, and the end is the same to the last bit; a finished one can be asked for
    more epochs. Raises UsageError when the journal is of another schedule, GenSoupError when it cannot be read or
    written or every trial of an epoch failed.
    """
    if epochs < 1:
        raise UsageError(f"epochs {epochs}: must be at least 1")
    model.to(device)
    identity = _identity(model, examples, search, recipe, batch_size, seed, astrocytes)
    journal = _Journal(folder, identity)
    start: dict[str, Tensor] = {name: value.clone() for name, value in model.state_dict().items()}
    factors = None if astrocytes is None else astrocytes.factors
    path: list[Trial] = []
    for epoch in range(epochs):
        for index, step in enumerate(STEPS):
            if (epoch, index) in journal.trials:
                continue
            settings, tried = astrocytes, None
            if astrocytes is not None and factors is not None:
                tried = AstrocyteFactors(factors.strong + step[0] * STEP, factors.weak + step[1] * STEP)
                settings = replace(astrocytes, factors=tried)
            model.load_state_dict(start)
            trial = _trial(
                Trial(epoch, index, tried, 0),
                model,
                examples,
                search,
                recipe,
                batch_size,
                trial_seed(seed, epoch, 0 if astrocytes is not None else index),
                device,
                settings,
            )
            journal.add(trial, model)
            progress("epochs", epoch * len(STEPS) + index + 1, epochs * len(STEPS))
        kept = journal.best(epoch)
        start = journal.weights(kept)
        path.append(kept)
        factors = kept.factors
        progress("epochs", (epoch + 1) * len(STEPS), epochs * len(STEPS))
    model.load_state_dict(start)
    trials = tuple(trial for key, trial in sorted(journal.trials.items()) if key[0] < epochs)
    return Schedule(tuple(path), trials, start)


def trial_seed(seed: int, epoch: int, index: int) -> int:
    """The seed of batches, augmentation and dropout of a trial."""
    return int(np.random.default_rng([seed, epoch, index]).integers(2**62))


def _trial(
    trial: Trial,
    model: nn.Module,
    examples: Examples,
    search: Examples,
    recipe: Recipe,
    batch_size: int,
    seed: int,
    device: torch.device,
    astrocytes: AstrocyteSettings | None,
) -> Trial:
    """Train ``model`` one epoch and score it; a training that diverges fails this trial alone."""
    images = 0

    def count(step: int, steps: int) -> None:
        nonlocal images
        images = step * min(batch_size, len(examples))

    try:
        train(
            model,
            examples,
            recipe,
            epochs=1,
            batch_size=batch_size,
            seed=seed,
            device=device,
            astrocytes=astrocytes,
            on_step=count,
        )
    except DivergedError as error:
        return replace(trial, images=images, reason=str(error))
    images += reestimate_batch_norm(model, examples.images, device)
    fitness = fitness_on(model, search.images, search.targets, device)
    images += fitness.images
    if not np.isfinite(fitness.nll):
        return replace(trial, images=images, reason="its outputs are no numbers")
    return replace(trial, images=images, mcc=fitness.mcc, nll=fitness.nll)


class _Journal:
    """Finished trials, and the weights of each epoch's best so far; weights are written before the trial counts."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self._folder = folder
        self._path = folder / JOURNAL_FILE
        self._identity = identity
        self.trials: dict[tuple[int, int], Trial] = {}
        if not self._path.exists():
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise UsageError(f"{folder}: is not an empty folder; name a new one for the schedule")
            self._write()
            return
        try:
            values = json.loads(self._path.read_text(encoding="utf-8"))
            before, version = dict(values["identity"]), int(values["schema_version"])
            trials = [_from_dict(one) for one in values["trials"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise GenSoupError(f"{self._path}: cannot be read ({line}); name a new folder") from error
        if version > SCHEMA_VERSION:
            raise GenSoupError(f"{self._path}: written by a newer GenSoup (schema {version}): update gensoup")
        if different := sorted(name for name in identity if before.get(name) != identity[name]):
            raise UsageError(f"{folder}: holds a schedule with other {', '.join(different)}; name a new folder")
        self.trials = {(trial.epoch, trial.index): trial for trial in trials}

    def add(self, trial: Trial, model: nn.Module) -> None:
        """Commit a trial; its weights are kept while it is the best of its epoch."""
        before = [one for one in self.trials.values() if one.epoch == trial.epoch and one.nll is not None]
        better = trial.nll is not None and all(trial.rank < one.rank for one in before)
        if better:
            content = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
            write_atomic(self._weights_path(trial), save(content))
        self.trials[trial.epoch, trial.index] = trial
        self._write()
        if better:
            self._remove_all_but(trial)

    def best(self, epoch: int) -> Trial:
        """The best trial of an epoch. Raises GenSoupError when all of them failed."""
        trials = [trial for trial in self.trials.values() if trial.epoch == epoch]
        best = min(trials, key=lambda trial: trial.rank)
        if best.nll is None:
            raise GenSoupError(f"epoch {epoch + 1}: every trial failed, the first: {trials[0].reason}")
        return best

    def weights(self, trial: Trial) -> dict[str, Tensor]:
        path = self._weights_path(trial)
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise GenSoupError(f"{path}: cannot be read, start the schedule anew in another folder") from error

    def _weights_path(self, trial: Trial) -> Path:
        return self._folder / f"epoch-{trial.epoch:02d}-{trial.index}.safetensors"

    def _remove_all_but(self, trial: Trial) -> None:
        for index in range(len(STEPS)):
            if index != trial.index:
                self._weights_path(replace(trial, index=index)).unlink(missing_ok=True)

    def _write(self) -> None:
        values = {
            "schema_version": SCHEMA_VERSION,
            "identity": self._identity,
            "trials": [asdict(trial) for _, trial in sorted(self.trials.items())],
        }
        write_atomic(self._path, json.dumps(values, indent=1))


def _from_dict(values: dict[str, Any]) -> Trial:
    factors = values["factors"]
    return Trial(**{**values, "factors": None if factors is None else AstrocyteFactors(**factors)})


def _identity(
    model: nn.Module,
    examples: Examples,
    search: Examples,
    recipe: Recipe,
    batch_size: int,
    seed: int,
    astrocytes: AstrocyteSettings | None,
) -> dict[str, Any]:
    """What the outcome depends on, as plain values."""
    weights = hashlib.sha256()
    for name, value in model.state_dict().items():
        weights.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    images = hashlib.sha256()
    for role in (examples, search):
        images.update(np.ascontiguousarray(role.images).tobytes() + role.targets.tobytes())
    return {
        "initial weights": weights.hexdigest(),
        "images": images.hexdigest(),
        "recipe": recipe.to_dict(),
        "batch size": batch_size,
        "seed": seed,
        "astrocytes": None if astrocytes is None else asdict(astrocytes),
        "threads": torch.get_num_threads(),
    }
