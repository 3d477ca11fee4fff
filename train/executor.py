"""Who trains the individuals of a generation: this process, one after the other, or others that keep the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from gensoup.train.breeding import Plan
from gensoup.train.individual import Trainer
from gensoup.train.ledger import Record

OnStep = Callable[[int, int, int], None]  # index of a plan, its steps done, of how many


class Executor(Protocol):
    """Trains individuals that do not depend on each other, of one generation or branches of one ancestor.

    Each is a pure function of the run's seed, its place and its parents' weights, which are in the ledger; so they may
    be trained in any order and anywhere, and one that was lost is trained again. What is in the ledger already is taken
    from there.
    """

    def train(self, trainer: Trainer, plans: Sequence[Plan], on_step: OnStep | None = None) -> Iterator[Record]:
        """The record of each plan as each is finished and committed to the ledger. on_step: told of the steps of
        branches, where the executor knows of them."""
        ...


class Inline:
    """Trains in this process, one individual after the other."""

    def train(self, trainer: Trainer, plans: Sequence[Plan], on_step: OnStep | None = None) -> Iterator[Record]:
        """In the order of the plans."""
        for index, plan in enumerate(plans):
            if plan.place[0] != "branch":
                yield trainer.individual(plan)
                continue

            def report(step: int, steps: int, index: int = index) -> None:
                if on_step is not None:
                    on_step(index, step, steps)

            yield trainer.branch(plan, report)
