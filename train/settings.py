"""All that decides a run, in one value; written to ``config.yaml``."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from gensoup.export.architectures import ARCHITECTURES, check_names
from gensoup.runtime.errors import GenSoupError, UsageError
from gensoup.runtime.files import write_atomic
from gensoup.runtime.preprocess import Fit, Preprocess

Init = Literal["pretrained", "random"]
CONFIG_FILE = "config.yaml"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Settings:
    """Everything needed to repeat a run.

    size: the deploy size in pixels; images grow to it from two thirds over the generations.
    max_macs: multiply-adds of one frame (600 M: the thesis' mobile regime). min_fps: None means nothing is timed.
    init: ``pretrained`` takes ImageNet weights (``weights_dir``, else torchvision's download) and leaves out what has
        none; ``random`` never downloads and draws what ``weights_dir`` lacks.
    population, population_step, population_min: individuals of generation 0, how many fewer each generation, and the
        least. epochs: of each individual in a generation.
    branches, branch_epochs: continuations of the best ancestor at deploy size, learning rate annealed to zero.
    threads: CPU threads of the training; part of the run, since rounding depends on it.
    """

    data: str
    size: int = 128
    fit: Fit = "stretch"
    seed: int = 0
    architectures: tuple[str, ...] = ARCHITECTURES
    init: Init = "pretrained"
    weights_dir: str | None = None
    max_macs: float = 600e6
    min_fps: float | None = None
    generations: int = 6
    population: int = 12
    population_step: int = 2
    population_min: int = 4
    epochs: float = 1.0
    branches: int = 3
    branch_epochs: float = 10.0
    batch_size: int = 32
    threads: int = 1

    def __post_init__(self) -> None:
        check_names(self.architectures)
        if not self.architectures:
            raise UsageError("--architectures: name at least one")
        for name, options in (("init", get_args(Init)), ("fit", get_args(Fit))):
            if getattr(self, name) not in options:
                raise UsageError(f"--{name} {getattr(self, name)}: must be one of {', '.join(options)}")
        if not (32 <= self.size <= 1024 and self.size % 16 == 0):
            raise UsageError(f"--size {self.size}: must be a multiple of 16 from 32 to 1024")
        for name, least in (
            ("seed", 0),
            ("generations", 1),
            ("population", 2),
            ("population_step", 0),
            ("population_min", 2),
            ("branches", 1),
            ("batch_size", 2),
            ("threads", 1),
        ):
            if getattr(self, name) < least:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least {least}")
        for name in ("max_macs", "epochs", "branch_epochs", "min_fps"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"--{name.replace('_', '-')} {value}: must be a number above zero")
        if self.min_fps is not None and not 1 <= self.min_fps <= 1000:
            raise UsageError(f"--min-fps {self.min_fps:g}: must lie between 1 and 1000")

    @property
    def preprocess(self) -> Preprocess:
        """Preprocessing at the deploy size."""
        return Preprocess(self.size, self.fit)

    def population_of(self, generation: int) -> int:
        """Individuals of a generation: shrinks by a fixed step down to the least (table 5.1)."""
        return max(min(self.population_min, self.population), self.population - generation * self.population_step)

    def size_of(self, generation: int) -> int:
        """Image size of a generation: from two thirds of the deploy size up to it, in multiples of 16."""
        if self.generations == 1:
            return self.size
        start = max(32, round(self.size * 2 / 3 / 16) * 16)
        grown = start + (self.size - start) * generation / (self.generations - 1)
        return min(self.size, round(grown / 16) * 16)

    def save(self, run: Path, fingerprint: str) -> None:
        """Write ``config.yaml`` with the data's fingerprint."""
        values = {"schema_version": SCHEMA_VERSION, "data_fingerprint": fingerprint, **self.to_dict()}
        write_atomic(run / CONFIG_FILE, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "architectures": list(self.architectures)}

    @classmethod
    def load(cls, run: Path) -> tuple[Settings, str]:
        """The settings and the data's fingerprint of a run folder. Raises GenSoupError when they cannot be read."""
        path = run / CONFIG_FILE
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
            version, fingerprint = int(values.pop("schema_version")), str(values.pop("data_fingerprint"))
            if version > SCHEMA_VERSION:
                raise GenSoupError(f"{path}: written by a newer GenSoup (schema {version}): update gensoup")
            return cls(**{**values, "architectures": tuple(values["architectures"])}), fingerprint
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise GenSoupError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error

    def differences(self, other: Settings) -> list[str]:
        """What differs, as ``name: mine → other's``."""
        names = [field.name for field in fields(self)]
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in names]
        return [f"{name}: {mine} → {theirs}" for name, mine, theirs in pairs if mine != theirs]


def default_threads() -> int:
    """CPU threads that training takes by default: half of the cores, for batches are made beside it."""
    return max(1, (os.cpu_count() or 1) // 2)
