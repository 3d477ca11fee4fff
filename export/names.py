"""The search's architectures by name and the sizes they take. PyTorch is imported for other names alone."""

from __future__ import annotations

import difflib
from functools import cache

from gensoup.runtime.errors import UsageError

LEAST_SIZE, LARGEST_SIZE = 32, 1024  # pixels
WHOLE_SIZE = f"a whole number between {LEAST_SIZE} and {LARGEST_SIZE}"

# The thesis' two alphabets (ch. 3 and ch. 5) together.
ARCHITECTURES = (
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
    "squeezenet1_1",
    "mnasnet1_0",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "efficientnet_v2_s",
    "convnext_tiny",
)


@cache
def known_architectures() -> tuple[str, ...]:
    """Names of all torchvision classifiers."""
    import torchvision

    return tuple(torchvision.models.list_models(module=torchvision.models))


def check_names(names: tuple[str, ...]) -> None:
    """Raise UsageError, with the nearest names, when a name is no torchvision classifier."""
    for name in names:
        if name not in ARCHITECTURES and name not in known_architectures():
            near = ", ".join(difflib.get_close_matches(name, known_architectures(), 3))
            hint = f"did you mean {near}?" if near else f"the search's own are {', '.join(ARCHITECTURES)}"
            raise UsageError(f"--architectures: '{name}' is unknown; {hint}")


def check_size(size: int) -> None:
    """Raise UsageError for an image size that some of them shrink to nothing, or that no device serves."""
    if not LEAST_SIZE <= size <= LARGEST_SIZE:
        raise UsageError(f"--size {size}: must be {WHOLE_SIZE}")
