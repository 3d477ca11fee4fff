"""The product's trainer on an allowance: every training is as long as the rest of the budget bears."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from quality_meter import ImageMeter
from quality_pool import Pool
from torch import nn

from gensoup.export.architectures import build
from gensoup.export.batch_norm import BATCH_NORM_IMAGES
from gensoup.train.breeding import Plan
from gensoup.train.constraint import Admission
from gensoup.train.individual import RoleData, Trainer
from gensoup.train.ledger import Ledger, Record
from gensoup.train.optimizers import OPTIMIZERS
from gensoup.train.settings import Settings

LBFGS_REPEATS = 20  # torch's default: evaluations of one step, at most


@dataclass(frozen=True)
class Shares:
    """Of the budget: where the search ends, and what is kept for the refit; the rest is for branches and the soup."""

    search: float
    refit: float


class BudgetedTrainer(Trainer):
    """Divides what is left of the budget equally among the trainings to come, scoring and statistics paid first.

    The number of individuals, branches and ingredients stays the settings'; only lengths of training follow.
    """

    def __init__(
        self, settings: Settings, admission: Admission, pool: Pool, ledger: Ledger, meter: ImageMeter, shares: Shares
    ) -> None:
        super().__init__(settings, admission, RoleData(pool.load, pool.classes), ledger, meter)
        self._pool, self._meter, self._shares = pool, meter, shares
        first = settings.beginners(len(self.alphabet.architectures))
        self._to_come = first + sum(settings.population_of(number) for number in range(1, settings.generations))

    def individual(self, plan: Plan) -> Record:
        """An individual, as long as an equal part of the search's rest."""
        self._to_come -= 1
        architecture = self.alphabet.decode(plan.genes).architecture
        names = self.alphabet.architectures
        later = self._pool.count("search") + sum(map(self.statistics_cost, names)) / len(names)
        end = self._meter.budget * self._shares.search
        if not self.settings.branches and self.settings.soup and not self._shares.refit:
            end = self._meter.budget - self._temperature_cost() - self._soup_cost(self._most_relatives(plan))
        left = end - self._meter.spent - self._scoring_cost(plan, architecture) - later * self._to_come
        self.settings = replace(self.settings, epochs=self._epochs(left / (self._to_come + 1), plan))
        return super().individual(plan)

    def branch(self, plan: Plan, on_step: Callable[[int, int], None]) -> Record:
        """A branch, as long as an equal part of what refit, soup and the scoring of branches leave."""
        to_come = self.settings.branches - plan.place[2]
        architecture = self.alphabet.decode(plan.genes).architecture
        averaged = int(self.settings.branch_average)
        scoring = self._pool.count("search") + (1 + averaged) * self.statistics_cost(architecture)
        ingredients = [architecture] * (
            int(self.settings.branch_from == "ancestor") + self.settings.branches * (1 + averaged)
        )
        left = self._meter.left - self._meter.budget * self._shares.refit - self._temperature_cost()
        left -= self._soup_cost(ingredients if self.settings.soup else ingredients[:1]) + scoring * to_come
        self.settings = replace(self.settings, branch_epochs=self._epochs(left / to_come, plan))
        return super().branch(plan, on_step)

    def plan_refit(self, architecture: str, wanted: bool) -> None:
        """Let the refit take all that statistics and calibration leave, where one is wanted."""
        left = self._meter.left - self.statistics_cost(architecture, "refit") - self._pool.count("search")
        if not self._pool.one_validation_part:
            left -= self.statistics_cost(architecture, "all") + self._pool.count("soup")
        epochs = epochs_of(left, self._pool.count("refit")) if wanted else 0.0
        self.settings = replace(self.settings, refit_epochs=epochs)

    def statistics_cost(self, architecture: str, role: str = "train") -> int:
        """Images of one estimate of batch-norm statistics; 0 where there are none."""
        return min(BATCH_NORM_IMAGES, self._pool.count(role)) if has_batch_norm(architecture) else 0

    def _scoring_cost(self, plan: Plan, architecture: str) -> int:
        once = self._pool.count("search") + self.statistics_cost(architecture)
        compared = self.settings.inherit == "best" and len(plan.parents) == 2
        alike = compared and all(
            plan.parents[0].recipe[key] == plan.parents[1].recipe[key] for key in ("architecture", "loss")
        )
        return once * (2 if alike else 1)

    def _temperature_cost(self) -> int:
        return self._pool.count("search")

    def _soup_cost(self, ingredients: list[str]) -> int:
        """Scores of every ingredient on both parts, and of every mean after the first with its statistics."""
        if not ingredients:
            return 0
        scores = self._pool.count("search") + (0 if self._pool.one_validation_part else self._pool.count("soup"))
        return scores * len(ingredients) + (scores + self.statistics_cost(ingredients[0])) * (len(ingredients) - 1)

    def _most_relatives(self, plan: Plan) -> list[str]:
        """Ingredients of the dearest soup that a search without branches can still end in.

        They are the best individual and its relatives in the last generation; before that generation stands, all of it
        and of the architecture that leads.
        """
        last = self.settings.generations - 1
        own = self.alphabet.decode(plan.genes).architecture
        complete = [one for one in self.ledger.records() if one.complete and one.place[0] == "search"]
        if self._to_come:
            leads = (
                min(complete, key=lambda one: one.rank(self.settings.judge)).recipe["architecture"] if complete else own
            )
            return [leads] * (self.settings.population_of(last) + 1)
        present = [one.recipe["architecture"] for one in complete if one.place[1] == last] + [own]
        if not complete:
            return [own]
        best = min(complete, key=lambda one: one.rank(self.settings.judge))
        kin = best.recipe["architecture"]
        ends = [[kin] * (present.count(kin) + (best.place[1] != last)), [own] * present.count(own)]
        return max(ends, key=self._soup_cost)

    def _epochs(self, images: float, plan: Plan) -> float:
        repeats = LBFGS_REPEATS if OPTIMIZERS[self.alphabet.decode(plan.genes).optimizer].repeats else 1
        return epochs_of(images / repeats, self._pool.count("train"), self.settings.batch_size)


def epochs_of(images: float, examples: int, batch_size: int = 32) -> float:
    """Epochs that take at most so many images in whole steps; one step at least."""
    batch_size = min(batch_size, examples)
    return max(1, int(images // batch_size)) / (examples // batch_size)


@cache
def has_batch_norm(architecture: str) -> bool:
    """Whether a network has statistics to estimate."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in build(architecture, 2).modules())
