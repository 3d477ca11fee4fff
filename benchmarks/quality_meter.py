"""Counting what a method costs: images passed through a network, whoever passes them."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from gensoup.export.architectures import build
from gensoup.runtime.errors import GenSoupError

TOLERANCE = 0.02


class ImageMeter:
    """While entered, counts the images that pass through any network of the given architectures.

    It listens to the networks themselves, so training, scoring, batch-norm estimation and repeated evaluations of one
    step all count, whatever a method says of itself.
    """

    def __init__(self, architectures: Iterable[str], budget: int) -> None:
        self.budget = budget
        self.spent = 0
        self._networks = tuple({type(build(name, 2)) for name in architectures})
        self._handle: RemovableHandle | None = None

    @property
    def left(self) -> int:
        """Images of the budget not yet spent; negative beyond it."""
        return self.budget - self.spent

    def __enter__(self) -> ImageMeter:
        self._handle = register_module_forward_pre_hook(self._count)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def check(self, method: str) -> None:
        """Raise GenSoupError where more than the budget and its tolerance was spent."""
        if self.spent > self.budget * (1 + TOLERANCE):
            raise GenSoupError(
                f"{method}: passed {self.spent} images, the budget is {self.budget}; raise --images or give the "
                "method fewer individuals"
            )

    def _count(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, self._networks):
            self.spent += len(inputs[0])
