"""Who trains the individuals of a generation: this process, one after the other, or others that keep the protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from gensoup.train.breeding import Plan
from gensoup.train.individual import Trainer
from gensoup.train.ledger import Record


class Executor(Protocol):
    """Trains individuals that do not depend on each other.

    Each is a pure function of the run's seed, its place and its parents' weights, which are in the ledger; so they may
    be trained in any order and anywhere, and one that was lost is trained again. What is in the ledger already is taken
    from there.
    """

    def train(self, trainer: Trainer, plans: Sequence[Plan]) -> Iterator[Record]:
        """The record of each plan, in any order, as each is finished and committed to the ledger."""
        ...


class Inline:
    """Trains in this process, one individual after the other."""

    def train(self, trainer: Trainer, plans: Sequence[Plan]) -> Iterator[Record]:
        """In the order of the plans."""
        for plan in plans:
            yield trainer.individual(plan)
