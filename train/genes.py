"""Named genes, each in [0, 1], and what they stand for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

from gensoup.runtime.errors import UsageError
from gensoup.train.losses import LOSSES
from gensoup.train.optimizers import DEFAULT_OPTIMIZERS, OPTIMIZERS

Genes = Mapping[str, float]
ScaleKind = Literal["linear", "log", "log_or_zero"]

CATEGORIES = ("architecture", "loss", "optimizer")
NUMBERS = ("learning_rate", "weight_decay", "augmentation", "strong", "weak")
NAMES = (*CATEGORIES, *NUMBERS)

# Of a scale that knows zero: genes below this are exactly 0, above it logarithmic between the bounds.
ZERO_BELOW = 0.1


@dataclass(frozen=True)
class Scale:
    """How a number is read from its gene: linear or logarithmic from ``low`` to ``high``; equal bounds fix it.

    ``log_or_zero`` gives the lowest tenth of the genes to exactly 0. Raises UsageError for bounds that make no sense.
    """

    kind: ScaleKind
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.kind not in get_args(ScaleKind):
            raise UsageError(f"scale '{self.kind}': must be one of {', '.join(get_args(ScaleKind))}")
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise UsageError(f"bounds {self.low} and {self.high}: must be finite numbers")
        if self.low > self.high:
            raise UsageError(f"bounds the wrong way round: {self.low:g} is above {self.high:g}")
        if self.kind != "linear" and self.low <= 0:
            raise UsageError(f"a logarithmic scale must begin above 0, got {self.low:g}")

    @property
    def fixed(self) -> bool:
        """Whether there is nothing to search: equal bounds."""
        return self.low == self.high

    def decode(self, gene: float) -> float:
        """The number that a gene stands for. A linear scale goes on beyond its bounds for genes outside of [0, 1]."""
        if self.fixed:
            return float(self.low)
        if self.kind == "linear":
            return float(self.low + (self.high - self.low) * gene)
        if self.kind == "log_or_zero":
            if gene < ZERO_BELOW:
                return 0.0
            gene = (gene - ZERO_BELOW) / (1 - ZERO_BELOW)
        return float(self.low * (self.high / self.low) ** gene)

    def encode(self, value: float) -> float:
        """The gene in [0, 1] that stands for ``value``, or for what is nearest to it."""
        if self.fixed or value <= self.low:
            return ZERO_BELOW if self.kind == "log_or_zero" and value > 0 else 0.0
        if self.kind == "linear":
            return min(1.0, (value - self.low) / (self.high - self.low))
        gene = min(1.0, math.log(value / self.low) / math.log(self.high / self.low))
        return ZERO_BELOW + (1 - ZERO_BELOW) * gene if self.kind == "log_or_zero" else gene


# The learning rate gene scales the optimizer's default; astrocytes are off at factors of 1.
DEFAULT_SCALES: dict[str, Scale] = {
    "learning_rate": Scale("log", 1e-2, 3.0),
    "weight_decay": Scale("log_or_zero", 1e-6, 1e-1),
    "augmentation": Scale("linear", 0.0, 1.0),
    "strong": Scale("linear", 1.0, 1.0),
    "weak": Scale("linear", 1.0, 1.0),
}
ASTROCYTE_SCALE = Scale("linear", 0.5, 1.5)


@dataclass(frozen=True)
class Recipe:
    """Decoded genes: how one individual trains.

    augmentation: strength in [0, 1]. strong, weak: the astrocytes' factors, both 1 where there are none.
    """

    architecture: str
    learning_rate: float
    weight_decay: float
    loss: str
    optimizer: str
    augmentation: float
    strong: float = 1.0
    weak: float = 1.0

    def to_dict(self) -> dict[str, str | float]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Alphabet:
    """What the genes choose from; ``architectures`` holds only those within the limits."""

    architectures: tuple[str, ...]
    losses: tuple[str, ...] = tuple(LOSSES)
    optimizers: tuple[str, ...] = DEFAULT_OPTIMIZERS
    scales: Mapping[str, Scale] = field(default_factory=lambda: DEFAULT_SCALES)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The number genes that are searched: those whose bounds differ."""
        return tuple(name for name in NUMBERS if not self.scales[name].fixed)

    @property
    def names(self) -> tuple[str, ...]:
        """All genes of an individual."""
        return (*CATEGORIES, *self.numbers)

    def decode(self, genes: Genes) -> Recipe:
        """What ``genes`` stand for. Raises ValueError for a missing gene or one outside of [0, 1].

        The astrocytes' factors may lie beyond their bounds, for a schedule steps them freely.
        """
        for name in self.names:
            free = name in ("strong", "weak") and math.isfinite(genes.get(name, math.nan))
            if not free and not 0 <= genes.get(name, -1) <= 1:
                raise ValueError(f"gene '{name}' must lie in [0, 1], got {genes.get(name)}")
        optimizer = _choice(self.optimizers, genes["optimizer"])
        number = {name: self.scales[name].decode(genes.get(name, 0.0)) for name in NUMBERS}
        return Recipe(
            architecture=_choice(self.architectures, genes["architecture"]),
            learning_rate=OPTIMIZERS[optimizer].learning_rate * number.pop("learning_rate"),
            loss=_choice(self.losses, genes["loss"]),
            optimizer=optimizer,
            **number,
        )

    def encode_choice(self, name: str, value: str) -> float:
        """The middle of the interval of a category gene that decodes to ``value``."""
        options = {"architecture": self.architectures, "loss": self.losses, "optimizer": self.optimizers}[name]
        return (options.index(value) + 0.5) / len(options)


def _choice(options: tuple[str, ...], gene: float) -> str:
    return options[min(int(gene * len(options)), len(options) - 1)]
