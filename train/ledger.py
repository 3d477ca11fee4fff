"""The run's memory: every individual with its genes and outcome in an Optuna study, its weights in files.

Weights are written before the ledger's commit, so an individual in the ledger always has them; one that was cut off in
between is simply trained again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from safetensors.torch import load, save
from torch import Tensor

from gensoup.runtime.errors import GenSoupError
from gensoup.runtime.files import write_atomic
from gensoup.train.database import Database, DatabaseErrors, SqliteFile

SECONDS = "seconds"
FOLDER = "individuals"

Place = tuple[str, int, int]  # phase ("heat", "search", "branch" or "refit"), generation, index


def name_of(place: Place) -> str:
    """For instance ``search-03-07``."""
    phase, generation, index = place
    return f"{phase}-{generation:02d}-{index:02d}"


@dataclass(frozen=True)
class Record:
    """One individual and what became of it.

    parents: names of those it descends from, none in generation 0. inherited: whose weights it started from.
    size: image size it trained at; it is always scored at the deploy size. mcc: raw, on ``search``. reason: why it
    failed, None when it is complete. images: passes through a network that it cost, scoring and statistics too.
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
        return name_of(self.place)

    @property
    def complete(self) -> bool:
        """Whether it was trained and scored."""
        return self.reason is None

    @property
    def scored(self) -> bool:
        """Whether its ``mcc`` says something: not of one that failed, nor of a refit, which saw ``search``."""
        return self.complete and self.place[0] != "refit"

    def rank(self, judge: str = "likelihood") -> tuple[float, float, Place]:
        """Sorts the best first: Matthews' correlation, ties by likelihood where that is the judge, else by place."""
        return (-self.mcc, self.nll if judge == "likelihood" else 0.0, self.place)


class Ledger:
    """Reads and appends individuals of one run folder."""

    def __init__(
        self,
        run: Path,
        about: Mapping[str, Any] | None = None,
        since: float | None = None,
        database: Database | None = None,
    ) -> None:
        """Open or create the ledger. about: what a new one says of its run to who looks into it (plain values). since:
        ``time.monotonic()`` from which on this process' time counts as the run's; None: from now on. database: where
        it is; None: in the run folder.

        Raises GenSoupError when the file is no ledger, damaged or a newer GenSoup's, WriteError when it cannot be made.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.run = run
        self._folder = run / FOLDER
        self._database = database or SqliteFile(run)
        self._added: list[Place] = []
        self._since = time.monotonic() if since is None else since
        self._study = self._database.opened(about or {})
        try:
            self._seconds_before = float(self._study.user_attrs.get(SECONDS, 0.0))
            self._records = {record.place: record for record in map(_record, self._study.trials)}
        except (*DatabaseErrors, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise self._database.unusable(error) from error

    def get(self, place: Place) -> Record | None:
        """The individual at a place, None where none has been finished."""
        return self._records.get(place)

    def records(self) -> list[Record]:
        """All individuals, in the order of their places."""
        return sorted(self._records.values(), key=lambda record: record.place)

    @property
    def images_added(self) -> int:
        """Images of the individuals that this process has added."""
        return sum(self._records[place].images for place in self._added)

    @property
    def seconds(self) -> float:
        """What the run has taken: this process' time and that of all before it; of one that was killed, up to the last
        individual that it added."""
        return self._seconds_before + time.monotonic() - self._since

    def add(self, record: Record, weights: dict[str, dict[str, Tensor]]) -> None:
        """Commit an individual. weights: suffix ("" for its own) → state dict, written first."""
        self.store(record, {suffix: packed(state) for suffix, state in weights.items()})
        self.commit(record)

    def store(self, record: Record, weights: Mapping[str, NDArray[np.uint8]]) -> None:
        """Write the weights of an individual that is yet to be committed, by suffix, as :func:`packed` gives them."""
        for suffix, content in weights.items():
            write_atomic(self.weights_path(record.name + suffix), content.tobytes())

    def commit(self, record: Record) -> None:
        """Commit an individual whose weights are there."""
        # Optuna's optimum and its plots leave out what is pruned or failed.
        unscored = TrialState.PRUNED if record.complete else TrialState.FAIL
        values = {"name": record.name, **{key: value for key, value in vars(record).items() if key != "genes"}}
        trial = create_trial(
            state=TrialState.COMPLETE if record.scored else unscored,
            value=record.mcc if record.scored else None,
            params=record.genes,
            # Astrocytes' factors, stepped freely, may lie outside of [0, 1].
            distributions={name: FloatDistribution(min(0, gene), max(1, gene)) for name, gene in record.genes.items()},
            user_attrs={**values, "nll": record.nll if math.isfinite(record.nll) else None},
        )
        try:
            self._study.add_trial(trial)
            self._study.set_user_attr(SECONDS, self.seconds)
        except DatabaseErrors as error:
            raise self._database.unwritable(error) from error
        self._records[record.place] = record
        self._added.append(record.place)

    def weights(self, name: str) -> dict[str, Tensor]:
        """The weights of a finished individual. Raises GenSoupError when they are gone."""
        return unpacked(self.packed_weights(name), self.weights_path(name))

    def packed_weights(self, name: str) -> NDArray[np.uint8]:
        """The same as the bytes of their file."""
        path = self.weights_path(name)
        try:
            return np.fromfile(path, np.uint8)
        except OSError as error:
            raise _lost(path) from error

    def weights_path(self, name: str) -> Path:
        """Where an individual's weights are."""
        return self._folder / f"{name}.safetensors"

    def remove_weights(self, names: Iterable[str]) -> None:
        """Remove the weights of individuals that nothing can descend from any more; their records stay."""
        for name in names:
            self.weights_path(name).unlink(missing_ok=True)


def packed(state: Mapping[str, Tensor]) -> NDArray[np.uint8]:
    """A state dict as the bytes of a safetensors file."""
    return np.frombuffer(save({key: value.detach().cpu().contiguous() for key, value in state.items()}), np.uint8)


def unpacked(content: NDArray[np.uint8], path: Path | str) -> dict[str, Tensor]:
    """The state dict in the bytes of a safetensors file. path: that file's. Raises GenSoupError when it is damaged."""
    try:
        return load(content.tobytes())
    except Exception as error:  # safetensors raises its own and, damaged, others
        raise _lost(path) from error


def _lost(path: Path | str) -> GenSoupError:
    return GenSoupError(f"{path}: cannot be read, the run cannot be resumed; start it anew")


def _record(trial: optuna.trial.FrozenTrial) -> Record:
    values = {key: value for key, value in trial.user_attrs.items() if key != "name"}
    phase, generation, index = values["place"]
    values["place"] = (str(phase), int(generation), int(index))
    values["parents"] = tuple(values["parents"])
    values["nll"] = math.inf if values["nll"] is None else values["nll"]
    return Record(genes=dict(trial.params), **values)
