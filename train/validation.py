"""What each setting may be; one clear line, with the option's name, for what it may not."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, get_args

from gensoup.export.names import WHOLE_SIZE, check_names, check_size
from gensoup.runtime.errors import UsageError
from gensoup.runtime.preprocess import Fit
from gensoup.train.genes import NAMES, NUMBERS
from gensoup.train.losses import LOSSES
from gensoup.train.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from gensoup.train.settings import Settings

# What each word option may say.
CHOICES: dict[str, tuple[str, ...]] = {
    "fit": get_args(Fit),
    "precision": ("fp32", "fp16", "int8"),
    "init": ("pretrained", "random"),
    "roles": ("four", "three"),
    "mode": ("genetic", "astrocyte-schedule"),
    "start": ("race", "drawn"),
    "inherit": ("best", "average", "none"),
    "judge": ("likelihood", "mcc"),
    "score_size": ("deploy", "training"),
    "schedule": ("constant", "cosine"),
    "branch_from": ("ancestor", "initial"),
    "astrocyte_form": ("mean", "thesis"),
    "astrocyte_counters": ("own", "shuffled", "off"),
}
# The least that each number may be, and whether that itself is allowed.
LEAST: dict[str, tuple[float, bool]] = {
    "seed": (0, True),
    "max_macs": (0, False),
    "min_fps": (1, True),
    "max_latency_ms": (0, False),
    "generations": (1, True),
    "population": (2, True),
    "population_step": (0, True),
    "population_min": (2, True),
    "epochs": (0, False),
    "halving": (0, True),
    "first_size": (0, False),
    "last_size": (0, False),
    "steady_generations": (1, True),
    "size_step": (1, True),
    "crossover_rate": (0, True),
    "mutation_sigma": (0, True),
    "warm_up": (0, True),
    "gradient_norm": (0, True),
    "branches": (0, True),
    "branch_epochs": (0, False),
    "refit_epochs": (0, True),
    "refit_rate": (0, False),
    "batch_size": (2, True),
    "threads": (1, True),
}
# Of those above, the ones that must be whole.
WHOLE = (
    *("seed", "generations", "population", "population_step", "population_min", "steady_generations", "size_step"),
    *("branches", "batch_size", "threads", "halving"),
)
AT_MOST = {"crossover_rate": 1, "warm_up": 1, "last_size": 1, "first_size": 1, "min_fps": 1000, "halving": 4}
PLAUSIBLE_MACS = (0.1, 1e6)  # millions: below, no network of torchvision's at 32 px; above, none at 1024 px
LISTS = ("architectures", "losses", "optimizers", "sizes")
FLAGS = ("mixing", "branch_average", "refit_average", "soup")


def validate(settings: Settings) -> None:
    """Raise UsageError for the first setting that makes no sense."""
    for name in LISTS:
        _check_list(name, getattr(settings, name), int if name == "sizes" else str)
    check_names(settings.architectures)
    check_known("--losses", settings.losses, LOSSES)
    check_known("--optimizers", settings.optimizers, OPTIMIZERS)
    check_known("scales", settings.scales, NUMBERS)
    check_known("redraw", settings.redraw, NAMES)
    for name, options in CHOICES.items():
        if getattr(settings, name) not in options:
            raise UsageError(f"{option(name)} {getattr(settings, name)}: must be one of {', '.join(options)}")
    for size in settings.sizes:
        check_size(size)
    for name, (least, allowed) in LEAST.items():
        _check_least(name, getattr(settings, name), least, allowed)
    for name, most in AT_MOST.items():
        if (getattr(settings, name) or 0) > most:
            raise UsageError(f"{option(name)} {getattr(settings, name)}: must be at most {most}")
    low, high = PLAUSIBLE_MACS
    if not low <= settings.max_macs <= high:
        raise UsageError(
            f"--max-macs {settings.max_macs:g}: is in millions of multiply-adds, between {low:g} and {high:g}; the "
            "default, 600, admits mobile networks"
        )
    for name in FLAGS:
        if not isinstance(getattr(settings, name), bool):
            raise UsageError(f"{option(name)} {getattr(settings, name)}: must be true or false")
    for name in ("learning_rate", "weight_decay", "augmentation"):
        scale, highest = settings.scales[name], 1.0 if name == "augmentation" else math.inf
        if scale.low < 0 or scale.high > highest:
            bounds = "from 0 to 1" if name == "augmentation" else "from 0 on"
            raise UsageError(f"scales, {name}: bounds must lie {bounds}, got {scale.low:g} and {scale.high:g}")
    for name, rate in settings.redraw.items():
        if not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise UsageError(f"redraw, {name} {rate}: must lie between 0 and 1")


def _check_list(name: str, values: Any, kind: type) -> None:
    """Raise UsageError for what is no list of names or numbers, an empty one and one that holds something twice."""
    if not values:
        raise UsageError(f"{option(name)}: name at least one")
    for number, value in enumerate(values):
        if not isinstance(value, kind) or isinstance(value, bool):
            wanted = "a name" if kind is str else WHOLE_SIZE
            raise UsageError(f"{option(name)} {value}: must be {wanted}, or a list of several")
        if value in values[:number]:
            raise UsageError(f"{option(name)}: {value} is named twice; name each once")


def option(name: str) -> str:
    """A setting's name as its command line option."""
    return "--size" if name == "sizes" else f"--{name.replace('_', '-')}"


def check_known(where: str, names: Collection[str], known: Collection[str]) -> None:
    """Raise UsageError, with the nearest ones, for a name that is not known. where: the option, or empty."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), list(known), 3)
            hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(known)}"
            raise UsageError(f"{where + ': ' if where else ''}'{name}' is unknown; {hint}")


def _check_least(name: str, value: Any, least: float, allowed: bool) -> None:
    if value is None and name in ("min_fps", "max_latency_ms"):
        return
    whole = name in WHOLE
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < least or (value == least and not allowed):
        bound = f"{'a whole number, ' * whole}at least {least:g}" if allowed else f"a number above {least:g}"
        raise UsageError(f"{option(name)} {value}: must be {bound}")
