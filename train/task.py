"""One training to be done, and what became of it: what goes to whoever trains and what comes back."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gensoup.train.breeding import Plan
from gensoup.train.learner import Course
from gensoup.train.ledger import Record


@dataclass(frozen=True)
class Task:
    """Whose training, at which image size, how long."""

    plan: Plan
    size: int
    course: Course


@dataclass(frozen=True)
class Attempt:
    """What became of a task. weights: suffix → state dict; none of one that failed."""

    record: Record
    weights: dict[str, dict[str, Tensor]]
