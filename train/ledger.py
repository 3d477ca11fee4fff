"""The run's memory: every individual with its genes and outcome in ``study.db`` (Optuna), its weights beside it.

Weights are written before the ledger's commit, so an individual in the ledger always has them; one that was cut off in
between is simply trained again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from safetensors.torch import load_file, save
from sqlalchemy.exc import SQLAlchemyError
from torch import Tensor

from gensoup.runtime.errors import GenSoupError
from gensoup.runtime.files import write_atomic

STUDY = "gensoup"
DATABASE = "study.db"
FOLDER = "individuals"

Place = tuple[str, int, int]  # phase ("search", "branch" or "refit"), generation, index


@dataclass(frozen=True)
class Record:
    """One individual and what became of it.

    parents: names of those it descends from, none in generation 0. inherited: whose weights it started from.
    size: image size it trained at; it is always scored at the deploy size. mcc: raw, on ``search``. reason: why it
    failed, None when it is complete. images: passes through the network in training and scoring.
    """

    place: Place
    genes: dict[str, float]
    recipe: dict[str, Any]
    parents: tuple[str, ...]
    inherited: str
    size: int
    macs: int
    images: int
    seconds: float
    latency_ms: float | None = None
    mcc: float = 0.0
    nll: float = math.inf
    temperature: float = 1.0
    reason: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For instance ``search-03-07``."""
        phase, generation, index = self.place
        return f"{phase}-{generation:02d}-{index:02d}"

    @property
    def complete(self) -> bool:
        """Whether it was trained and scored."""
        return self.reason is None

    def rank(self, judge: str = "likelihood") -> tuple[float, float, Place]:
        """Sorts the best first: Matthews' correlation, ties by likelihood where that is the judge, else by place."""
        return (-self.mcc, self.nll if judge == "likelihood" else 0.0, self.place)


class Ledger:
    """Reads and appends individuals of one run folder."""

    def __init__(self, run: Path) -> None:
        """Open or create the ledger. Raises GenSoupError when the run folder cannot be written or is no ledger."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.run = run
        self._folder = run / FOLDER
        self._path = run / DATABASE
        try:
            self._study = optuna.create_study(
                study_name=STUDY, storage=f"sqlite:///{self._path}", direction="maximize", load_if_exists=True
            )
            self._records = {record.place: record for record in map(_record, self._study.trials)}
        except (SQLAlchemyError, RuntimeError, KeyError) as error:
            raise GenSoupError(f"{self._path}: not a ledger that can be used ({str(error).splitlines()[0]})") from error

    def get(self, place: Place) -> Record | None:
        """The individual at a place, None where none has been finished."""
        return self._records.get(place)

    def records(self) -> list[Record]:
        """All individuals, in the order of their places."""
        return sorted(self._records.values(), key=lambda record: record.place)

    def add(self, record: Record, weights: dict[str, dict[str, Tensor]]) -> None:
        """Commit an individual. weights: suffix ("" for its own) → state dict, written first."""
        for suffix, state in weights.items():
            content = {key: value.detach().cpu().contiguous() for key, value in state.items()}
            write_atomic(self.weights_path(record.name + suffix), save(content))
        values = {key: value for key, value in vars(record).items() if key != "genes"}
        trial = create_trial(
            state=TrialState.COMPLETE if record.complete else TrialState.FAIL,
            value=record.mcc if record.complete else None,
            params=record.genes,
            # Astrocytes' factors, stepped freely, may lie outside of [0, 1].
            distributions={name: FloatDistribution(min(0, gene), max(1, gene)) for name, gene in record.genes.items()},
            user_attrs={**values, "nll": record.nll if math.isfinite(record.nll) else None},
        )
        try:
            self._study.add_trial(trial)
        except SQLAlchemyError as error:
            raise GenSoupError(f"{self._path}: cannot be written ({str(error).splitlines()[0]})") from error
        self._records[record.place] = record

    def weights(self, name: str) -> dict[str, Tensor]:
        """The weights of a finished individual. Raises GenSoupError when they are gone."""
        path = self.weights_path(name)
        try:
            return load_file(path)
        except Exception as error:  # safetensors raises FileNotFoundError, its own and, damaged, others
            raise GenSoupError(f"{path}: cannot be read, the run cannot be resumed; start it anew") from error

    def weights_path(self, name: str) -> Path:
        """Where an individual's weights are."""
        return self._folder / f"{name}.safetensors"

    def remove_weights(self, names: Iterable[str]) -> None:
        """Remove the weights of individuals that nothing can descend from any more; their records stay."""
        for name in names:
            self.weights_path(name).unlink(missing_ok=True)


def _record(trial: optuna.trial.FrozenTrial) -> Record:
    values = dict(trial.user_attrs)
    phase, generation, index = values["place"]
    values["place"] = (str(phase), int(generation), int(index))
    values["parents"] = tuple(values["parents"])
    values["nll"] = math.inf if values["nll"] is None else values["nll"]
    return Record(genes=dict(trial.params), **values)
