"""All that decides a run, in one value; written to ``config.yaml``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from gensoup.export.names import ARCHITECTURES
from gensoup.runtime.errors import GenSoupError, UsageError
from gensoup.runtime.files import write_atomic
from gensoup.runtime.preprocess import Preprocess
from gensoup.train.genes import DEFAULT_SCALES, NAMES, Scale
from gensoup.train.losses import LOSSES
from gensoup.train.optimizers import DEFAULT_OPTIMIZERS
from gensoup.train.run_folder import CONFIG_FILE
from gensoup.train.validation import check_known, validate

SCHEMA_VERSION = 3
HEAT = "heat"  # the phase of what is trained to see who goes on in generation 0
DEFAULT_REDRAW = {name: 0.05 for name in NAMES if name != "architecture"}


@dataclass(frozen=True)
class Settings:
    """Everything needed to repeat a run; a preset is a set of these values.

    Images. sizes: deploy sizes in pixels; each architecture gets the largest that it holds the limits at. roles:
    ``three`` takes one part of the images for ``search`` and ``soup``.

    Limits. max_macs: multiply-adds of one frame, in millions. min_fps, max_latency_ms: None where nothing is timed.
    precision: the one whose latency counts, as it will be deployed; others than fp32 need a device profile.
    init: ``pretrained`` takes ImageNet weights (``weights_dir``, else torchvision's download) and leaves out what has
    none; ``random`` never downloads and draws what ``weights_dir`` lacks.

    Genes. scales: of each number; equal bounds fix it. mixing: whether augmentation mixes images (CutMix, Mixup).

    Search. halving: heats of generation 0, after each of which only its better half trains on: with one after half of
    the epochs, with two after a quarter and a half; 0 for none. mode: generations of a genetic search, or nine steps of
    the astrocytes' factors an epoch. start: ``race`` gives every architecture a good recipe first; ``drawn`` draws all.
    population, population_step, population_min: individuals of generation 0, how many fewer each generation, and the
    least. epochs: of each individual. first_size, last_size: share of the deploy size in the first generation and in
    the last ``steady_generations``, in multiples of ``size_step``. inherit: weights are the best of parents and
    midpoint, the parents' weighted average, or nobody's. judge: what breaks ties and accepts a fusion. score_size:
    whether scored at the deploy size or as trained. crossover_rate; mutation_sigma: of a step of each number; redraw:
    chance of a uniform redraw by gene. schedule: of the learning rate over all generations. warm_up: share of an
    individual's steps. gradient_norm: what gradients are clipped to, 0 for never. astrocyte_counters: ``shuffled`` and
    ``off`` are an ablation's controls.

    Finish. branches: continuations of the best at deploy size, learning rate annealed to zero, from its weights or the
    initial ones; branch_average: keep an average over each one's steps too. soup: fuse what fits together.
    refit_epochs: of the fused network over train and search together, soup joining late, at ``refit_rate`` of the
    recipe's learning rate, 0 leaves it out; refit_average: take the average over its last steps.

    threads: CPU threads of the training; part of the run, since rounding depends on it.

    data and weights_dir are kept as absolute paths, so that a run can be resumed and reported from any folder.
    """

    data: str
    sizes: tuple[int, ...] = (128,)
    fit: str = "stretch"
    roles: str = "four"
    seed: int = 0
    architectures: tuple[str, ...] = ARCHITECTURES
    losses: tuple[str, ...] = tuple(LOSSES)
    optimizers: tuple[str, ...] = DEFAULT_OPTIMIZERS
    init: str = "pretrained"
    weights_dir: str | None = None
    max_macs: float = 600.0
    min_fps: float | None = None
    max_latency_ms: float | None = None
    precision: str = "fp32"
    scales: Mapping[str, Scale] = field(default_factory=dict)
    mixing: bool = True
    mode: str = "genetic"
    start: str = "race"
    generations: int = 4
    population: int = 12
    population_step: int = 3
    population_min: int = 4
    epochs: float = 1.0
    halving: int = 0
    first_size: float = 2 / 3
    last_size: float = 1.0
    steady_generations: int = 1
    size_step: int = 16
    inherit: str = "best"
    judge: str = "likelihood"
    score_size: str = "deploy"
    crossover_rate: float = 0.9
    mutation_sigma: float = 0.1
    redraw: Mapping[str, float] = field(default_factory=lambda: DEFAULT_REDRAW)
    schedule: str = "constant"
    warm_up: float = 0.1
    gradient_norm: float = 5.0
    astrocyte_form: str = "mean"
    astrocyte_counters: str = "own"
    branches: int = 2
    branch_epochs: float = 4.0
    branch_from: str = "ancestor"
    branch_average: bool = True
    soup: bool = True
    refit_epochs: float = 20.0
    refit_rate: float = 1.0
    refit_average: bool = True
    batch_size: int = 32
    threads: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", str(Path(self.data).resolve()))
        if self.weights_dir is not None:
            object.__setattr__(self, "weights_dir", str(Path(self.weights_dir).resolve()))
        object.__setattr__(self, "scales", {**DEFAULT_SCALES, **self.scales})
        validate(self)

    @property
    def limit_ms(self) -> float | None:
        """Most milliseconds a frame may take, the stricter of the two limits; None where nothing is timed."""
        limits = [1e3 / self.min_fps] if self.min_fps is not None else []
        limits += [self.max_latency_ms] if self.max_latency_ms is not None else []
        return min(limits, default=None)

    @property
    def rate_hz(self) -> float:
        """Frames a second at which networks are timed: the frame rate asked for, else as many as the limit fits."""
        return self.min_fps or (1.0 if self.limit_ms is None else 1e3 / self.limit_ms)

    def preprocess(self, size: int) -> Preprocess:
        """Preprocessing to ``size``."""
        return Preprocess(size, self.fit)  # type: ignore[arg-type]

    def part_of(self, phase: str, number: int) -> tuple[float, float]:
        """Which part of its generation's epochs an individual trains, from and to, as shares. number: of its generation
        or, of a heat, which: that doubles what was trained until then."""
        if phase == HEAT:
            return 0.5 ** (self.halving - number + 1) if number else 0.0, 0.5 ** (self.halving - number)
        return (0.5 if self.halving and number == 0 and phase == "search" else 0.0), 1.0

    def population_of(self, generation: int) -> int:
        """Individuals of a generation: shrinks by a fixed step down to the least (table 5.1)."""
        return max(min(self.population_min, self.population), self.population - generation * self.population_step)

    def beginners(self, architectures: int) -> int:
        """Individuals that a genetic search begins with: generation 0, in a race at least one of each architecture."""
        return max(self.population_of(0), architectures) if self.start == "race" else self.population_of(0)

    def size_of(self, generation: int, deploy_size: int) -> int:
        """Image size of a generation: grows from the first share of the deploy size to the last, in equal steps."""
        growing = self.generations - self.steady_generations
        done = 1.0 if generation >= growing else generation / growing
        share = self.first_size + (self.last_size - self.first_size) * done
        if share == 1:
            return deploy_size
        return min(deploy_size, max(32, round(deploy_size * share / self.size_step) * self.size_step))

    def image_sizes(self, deploy_sizes: Iterable[int]) -> list[int]:
        """Every image size of the run, ascending: these and those that grow to them."""
        deploy = set(deploy_sizes)
        growing = {self.size_of(generation, size) for generation in range(self.generations) for size in deploy}
        return sorted(growing | deploy)

    def save(self, run: Path, fingerprint: str) -> None:
        """Write ``config.yaml`` with the data's fingerprint."""
        values = {"schema_version": SCHEMA_VERSION, "data_fingerprint": fingerprint, **self.to_dict()}
        write_atomic(run / CONFIG_FILE, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        scales = {name: [scale.kind, scale.low, scale.high] for name, scale in self.scales.items()}
        return {**values, "scales": scales, "redraw": dict(self.redraw)}

    @classmethod
    def load(cls, run: Path) -> tuple[Settings, str]:
        """The settings and the data's fingerprint of a run folder. Raises GenSoupError when they cannot be read."""
        path = run / CONFIG_FILE
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
            version, fingerprint = int(values.pop("schema_version")), str(values.pop("data_fingerprint"))
            if version > SCHEMA_VERSION:
                raise GenSoupError(f"{path}: written by a newer GenSoup (schema {version}): update gensoup")
            if version < SCHEMA_VERSION:
                raise GenSoupError(f"{path}: written by an older GenSoup (schema {version}): start a new run")
            return cls(**plain_to_values(values)), fingerprint
        except UsageError as error:
            raise GenSoupError(f"{path}: cannot be read ({error})") from error
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise GenSoupError(f"{path}: cannot be read ({(str(error).splitlines() or ['?'])[0]})") from error

    def differences(self, other: Settings) -> list[str]:
        """What differs, as ``name: mine → other's``."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [f"{name}: {mine[name]} → {theirs[name]}" for name in mine if mine[name] != theirs[name]]


FIELDS = tuple(one.name for one in fields(Settings))


def plain_to_values(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values, as YAML gives them, as arguments of :class:`Settings`; a name alone stands for a list of one.

    Raises UsageError for a name that no setting has, with the nearest ones, and for a scale that is no scale.
    """
    check_known("", plain, FIELDS)
    values = dict(plain)
    for name in ("architectures", "losses", "optimizers", "sizes"):
        if name in values:
            value = values[name]
            values[name] = tuple(value) if isinstance(value, list | tuple) else (value,)
    for name in ("scales", "redraw"):
        if not isinstance(values.get(name, {}), Mapping):
            raise UsageError(f"{name}: must be a mapping from genes, got {values[name]}")
    if "scales" in values:
        values["scales"] = {name: _scale(name, value) for name, value in values["scales"].items()}
    return values


def _scale(name: str, value: Any) -> Scale:
    try:
        kind, low, high = value
        return Scale(str(kind), float(low), float(high))  # type: ignore[arg-type]
    except UsageError as error:
        raise UsageError(f"scales, {name}: {error}") from error
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"scales, {name}: must be [linear, log or log_or_zero, lowest, highest], got {value}"
        ) from error
