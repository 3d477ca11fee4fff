"""Heats before generation 0: everyone trains a part of its time, and only the better half goes on (by option)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from gensoup.runtime.errors import GenSoupError
from gensoup.train.breeding import Plan
from gensoup.train.executor import Executor
from gensoup.train.individual import Trainer
from gensoup.train.settings import HEAT, Settings


def after_heats(trainer: Trainer, executor: Executor, plans: Sequence[Plan], on_done: Callable[[], None]) -> list[Plan]:
    """Who of generation 0 is left after all heats, each to go on from the weights it has come to.

    Successive halving (Jamieson and Talwalkar 2016), and no one is trained twice. A heat is in the ledger like an
    individual. Raises GenSoupError when no one is left.
    """
    left, settings = list(plans), trainer.settings
    for number in range(settings.halving):
        entered = [replace(plan, place=(HEAT, number, plan.place[2])) for plan in left]
        records = []
        for record in executor.train(trainer, entered):
            records.append(record)
            on_done()
        ranked = sorted(
            (record for record in records if record.complete), key=lambda record: record.rank(settings.judge)
        )
        if not ranked:
            raise GenSoupError(f"every individual of generation 0 failed; the first: {records[0].reason}")
        going_on = {record.place[2]: record for record in ranked[: survivors(len(left))]}
        left = [
            replace(plan, parents=(going_on[plan.place[2]],), share=1.0) for plan in left if plan.place[2] in going_on
        ]
    return left


def survivors(count: int) -> int:
    """How many of ``count`` go on: the better half, but two at least, for the next generation needs parents."""
    return min(count, max(2, -(-count // 2)))


def entries(count: int, settings: Settings) -> list[int]:
    """How many train in each heat, and at last in generation 0 itself, of ``count`` that begin and if none fails."""
    numbers = [count]
    for _ in range(settings.halving):
        numbers.append(survivors(numbers[-1]))
    return numbers
