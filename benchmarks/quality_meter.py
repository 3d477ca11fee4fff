"""What a method may spend: images passed through a network, whoever passes them."""

from __future__ import annotations

from collections.abc import Iterable

from gensoup.runtime.errors import GenSoupError
from gensoup.train import meter

TOLERANCE = 0.02


class ImageMeter(meter.ImageMeter):
    """The product's meter with a budget."""

    def __init__(self, architectures: Iterable[str], budget: int) -> None:
        super().__init__(architectures)
        self.budget = budget

    @property
    def left(self) -> int:
        """Images of the budget not yet spent; negative beyond it."""
        return self.budget - self.spent

    def check(self, method: str) -> None:
        """Raise GenSoupError where more than the budget and its tolerance was spent."""
        if self.spent > self.budget * (1 + TOLERANCE):
            raise GenSoupError(
                f"{method}: passed {self.spent} images, the budget is {self.budget}; raise --images or give the "
                "method fewer individuals"
            )
