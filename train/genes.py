"""Named genes, each in [0, 1], and what they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from gensoup.train.losses import LOSSES
from gensoup.train.optimizers import OPTIMIZERS

Genes = Mapping[str, float]

CATEGORIES = ("architecture", "loss", "optimizer")
NUMBERS = ("learning_rate", "weight_decay", "augmentation")
NAMES = (*CATEGORIES, *NUMBERS)

# The gene scales the optimizer's default learning rate, logarithmically.
LEARNING_RATE_SCALE = (1e-2, 3.0)
# Below the threshold weight decay is exactly 0, above it logarithmic between the bounds.
NO_WEIGHT_DECAY_BELOW = 0.1
WEIGHT_DECAY = (1e-6, 1e-1)


@dataclass(frozen=True)
class Recipe:
    """Decoded genes: how one individual trains. augmentation: strength in [0, 1]."""

    architecture: str
    learning_rate: float
    weight_decay: float
    loss: str
    optimizer: str
    augmentation: float

    def to_dict(self) -> dict[str, str | float]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Alphabet:
    """What the category genes choose from; ``architectures`` holds only those within the limits."""

    architectures: tuple[str, ...]
    losses: tuple[str, ...] = tuple(LOSSES)
    optimizers: tuple[str, ...] = tuple(OPTIMIZERS)

    def decode(self, genes: Genes) -> Recipe:
        """What ``genes`` stand for. Raises ValueError for a missing gene or one outside of [0, 1]."""
        for name in NAMES:
            if not 0 <= genes.get(name, -1) <= 1:
                raise ValueError(f"gene '{name}' must lie in [0, 1], got {genes.get(name)}")
        optimizer = _choice(self.optimizers, genes["optimizer"])
        return Recipe(
            architecture=_choice(self.architectures, genes["architecture"]),
            learning_rate=OPTIMIZERS[optimizer].learning_rate * _log(genes["learning_rate"], LEARNING_RATE_SCALE),
            weight_decay=_weight_decay(genes["weight_decay"]),
            loss=_choice(self.losses, genes["loss"]),
            optimizer=optimizer,
            augmentation=genes["augmentation"],
        )

    def encode_choice(self, name: str, value: str) -> float:
        """The middle of the interval of a category gene that decodes to ``value``."""
        options = {"architecture": self.architectures, "loss": self.losses, "optimizer": self.optimizers}[name]
        return (options.index(value) + 0.5) / len(options)


def _choice(options: tuple[str, ...], gene: float) -> str:
    return options[min(int(gene * len(options)), len(options) - 1)]


def _log(gene: float, bounds: tuple[float, float]) -> float:
    low, high = bounds
    return float(low * (high / low) ** gene)


def _weight_decay(gene: float) -> float:
    if gene < NO_WEIGHT_DECAY_BELOW:
        return 0.0
    return _log((gene - NO_WEIGHT_DECAY_BELOW) / (1 - NO_WEIGHT_DECAY_BELOW), WEIGHT_DECAY)
