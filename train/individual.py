"""One individual: inherits weights, trains, is scored and committed to the ledger; it fails alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gensoup.export.architectures import initial_model
from gensoup.export.batch_norm import reestimate_batch_norm
from gensoup.runtime.errors import GenSoupError
from gensoup.train.astrocytes import AstrocyteFactors, AstrocyteSettings
from gensoup.train.breeding import Plan, torch_seed
from gensoup.train.constraint import Admission
from gensoup.train.failure import DivergedError, reason_of, release_memory
from gensoup.train.genes import Alphabet, Recipe
from gensoup.train.learner import ANNEALED, Course, Examples, Schedule, train
from gensoup.train.ledger import Ledger, Record
from gensoup.train.meter import ImageMeter
from gensoup.train.residence import Residence
from gensoup.train.scoring import Fitness, fitness_on
from gensoup.train.settings import HEAT, Settings
from gensoup.train.soup import average
from gensoup.train.task import Attempt, Task

AVERAGE_SUFFIX = "-average"

WeightsOf = Callable[[str], Mapping[str, Tensor]]


@dataclass
class RoleData:
    """What the search may see: ``load`` gives the images of a role (``train``, ``search``, ``soup``, ``refit``, the
    first two together, or ``all`` three) at an image size; each is asked for once and kept, by the device that trains
    where that has room."""

    load: Callable[[str, int], Examples]
    classes: int
    residence: Residence = field(default_factory=lambda: Residence(torch.device("cpu")))
    _kept: dict[tuple[str, int], Examples] = field(default_factory=dict)

    def at(self, role: str, size: int) -> Examples:
        """The examples of ``role`` at ``size``."""
        if (role, size) not in self._kept:
            self._kept[role, size] = self.residence.place(self.load(role, size))
        return self._kept[role, size]


@dataclass
class _Progress:
    """What an individual has come to; of one that fails, whose weights it inherited counts."""

    inherited: str = ""
    weights: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    outcome: dict[str, object] = field(default_factory=dict)


class Tutor:
    """Trains individuals of one run, each a pure function of the run's seed, its place and its parents. It keeps no
    ledger, so that it can do so anywhere."""

    def __init__(
        self, settings: Settings, admission: Admission, data: RoleData, meter: ImageMeter, device: str | None = None
    ) -> None:
        """meter: entered by the caller; what an individual makes pass through it is what that individual cost. device:
        of PyTorch's, None: the best there is."""
        self.settings = settings
        self.admission = admission
        self.data = data
        self.meter = meter
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.data.residence = Residence(self.device)
        self.alphabet = Alphabet(
            tuple(candidate.name for candidate in admission.candidates),
            settings.losses,
            settings.optimizers,
            settings.scales,
        )

    def task(self, plan: Plan) -> Task:
        """How an individual of a generation trains, or of a heat of generation 0; or a branch, at the deploy size with
        an annealed learning rate."""
        settings, deploy_size = self.settings, self._deploy_size(plan)
        phase, number, _ = plan.place
        if phase == "branch":
            course = self._course(plan, settings.branch_epochs, ANNEALED, settings.branch_average)
            return Task(plan, deploy_size, course)
        generation = 0 if phase == HEAT else number
        begun, done = settings.part_of(phase, number)
        start = end = 0.0
        if settings.schedule == "cosine":
            start, end = ((generation + part) / settings.generations for part in (begun, done))
        schedule = Schedule(start, end, settings.warm_up)
        course = self._course(plan, settings.epochs * (done - begun), schedule, False)
        return Task(plan, settings.size_of(generation, deploy_size), course)

    def repair(self, model: nn.Module, size: int) -> None:
        """Batch-norm statistics at ``size``, on clean training images.

        Running statistics lag behind after few steps (MobileNetV3's, of momentum .01, after hundreds), belong to a
        smaller image size, and no average of weights has any.
        """
        reestimate_batch_norm(model, self.data.at("train", size).images, self.device)

    def fitness(self, model: nn.Module, size: int) -> Fitness:
        """The score on ``search`` at an image size."""
        examples = self.data.at("search", size)
        return fitness_on(model, examples.images, examples.targets, self.device)

    def inherits(self, plan: Plan) -> bool:
        """Whether an individual may start from its parents' weights."""
        if plan.place[0] == "branch":
            return self.settings.branch_from == "ancestor"
        going_on = bool(plan.parents) and plan.parents[0].place[0] == HEAT
        return bool(plan.parents) and (going_on or self.settings.inherit != "none")

    def scored_size(self, task: Task) -> int:
        """The image size at which what became of a task is scored."""
        return self._deploy_size(task.plan) if self.settings.score_size == "deploy" else task.size

    def _deploy_size(self, plan: Plan) -> int:
        return self.admission.candidate(self.alphabet.decode(plan.genes).architecture).size

    def _course(self, plan: Plan, epochs: float, schedule: Schedule, averaged: bool) -> Course:
        return Course(
            epochs=epochs,
            batch_size=self.settings.batch_size,
            seed=torch_seed(self.settings.seed, plan.place),
            schedule=schedule,
            gradient_norm=self.settings.gradient_norm,
            mixing=self.settings.mixing,
            average=averaged,
            astrocytes=self._astrocytes(self.alphabet.decode(plan.genes)),
        )

    def _astrocytes(self, recipe: Recipe) -> AstrocyteSettings | None:
        factors = AstrocyteFactors(recipe.strong, recipe.weak)
        if factors.neutral or self.settings.astrocyte_counters == "off":
            return None
        shuffled = self.settings.astrocyte_counters == "shuffled"
        return AstrocyteSettings(factors, self.settings.astrocyte_form, shuffled=shuffled)  # type: ignore[arg-type]

    def attempt(self, task: Task, weights_of: WeightsOf, on_step: Callable[[int, int], None] | None = None) -> Attempt:
        """Train and score; whatever goes wrong in it fails this individual alone. weights_of: those of its parents."""
        started, passed_before = time.monotonic(), self.meter.spent
        recipe = self.alphabet.decode(task.plan.genes)
        progress = _Progress()
        try:
            self._train_and_score(task, recipe, weights_of, on_step, progress)
        except GenSoupError:
            raise
        except Exception as error:
            progress.outcome, progress.weights = {"reason": reason_of(error)}, {}
        if "reason" in progress.outcome:
            release_memory()
        images, seconds = self.meter.spent - passed_before, time.monotonic() - started
        record = self.record(task, images, seconds, inherited=progress.inherited, **progress.outcome)
        return Attempt(record, progress.weights)

    def record(self, task: Task, images: int, seconds: float, inherited: str = "", **outcome: Any) -> Record:
        """What the ledger is told of a task that has come to an end. outcome: the rest of :class:`Record`'s values."""
        recipe = self.alphabet.decode(task.plan.genes)
        candidate = self.admission.candidate(recipe.architecture)
        return Record(
            place=task.plan.place,
            genes=task.plan.genes,
            recipe=recipe.to_dict(),
            parents=tuple(parent.name for parent in task.plan.parents),
            inherited=inherited,
            size=task.size,
            macs=candidate.macs,
            latency_ms=None if candidate.latency is None else candidate.latency.p99_ms,
            images=images,
            seconds=seconds,
            **outcome,
        )

    def _train_and_score(
        self,
        task: Task,
        recipe: Recipe,
        weights_of: WeightsOf,
        on_step: Callable[[int, int], None] | None,
        progress: _Progress,
    ) -> None:
        scored = self.scored_size(task)
        model = self._inherit(task.plan, recipe, scored, weights_of, progress)
        lesson = train(model, self.data.at("train", task.size), recipe, task.course, self.device, on_step)
        self.repair(model, scored)
        fitness = self.fitness(model, scored)
        progress.weights[""] = {key: value.clone() for key, value in model.state_dict().items()}
        if lesson.averaged is not None:
            model.load_state_dict(lesson.averaged)
            self.repair(model, scored)
            progress.weights[AVERAGE_SUFFIX] = model.state_dict()
        progress.outcome = {"mcc": fitness.mcc, "nll": fitness.nll, "temperature": fitness.temperature}
        if lesson.astrocytes is not None:
            progress.outcome["extra"] = {"astrocytes": asdict(lesson.astrocytes)}
        if fitness.nll == float("inf"):
            raise DivergedError("its outputs are no numbers")

    def _inherit(self, plan: Plan, recipe: Recipe, size: int, weights_of: WeightsOf, progress: _Progress) -> nn.Module:
        """The network an individual starts from; whose weights they are is noted.

        ``average``: the fitness-weighted mean of two parents of one architecture (eq. 5.1), else the better parent's.
        ``best``: between relatives with the same loss, the best of the two and their mean by likelihood on ``search``.
        """
        candidate = self.admission.candidate(recipe.architecture)
        model = initial_model(recipe.architecture, self.data.classes, self.settings.seed, candidate.pretrained)
        model = model.to(self.device)
        if not self.inherits(plan):
            return model
        best = self.settings.inherit == "best"
        alike = ("architecture", "loss") if best else ("architecture",)
        family = [parent for parent in plan.parents if parent.recipe["architecture"] == recipe.architecture]
        if not family:  # the architecture was redrawn
            return model
        better = family[0]
        related = [parent for parent in family if all(parent.recipe[key] == better.recipe[key] for key in alike)]
        states = [weights_of(parent.name) for parent in related]
        mixed = f"{related[0].name} × {plan.share:.2f} + {related[-1].name} × {1 - plan.share:.2f}"
        chosen = min(range(len(related)), key=lambda number: (related[number].nll, number)) if best else 0
        name, state = related[chosen].name, states[chosen]
        if len(related) == 2:
            middle = average(states, [plan.share, 1 - plan.share])
            if not best:
                name, state = mixed, middle
            else:
                model.load_state_dict(middle)
                self.repair(model, size)
                fitness = self.fitness(model, size)
                if fitness.nll < related[chosen].nll:
                    name = mixed
                    state = {key: value.clone() for key, value in model.state_dict().items()}
        model.load_state_dict(state)
        progress.inherited = name
        return model


class Trainer(Tutor):
    """Trains individuals of one run in this process and commits them to its ledger."""

    def __init__(
        self, settings: Settings, admission: Admission, data: RoleData, ledger: Ledger, meter: ImageMeter
    ) -> None:
        """As for :class:`Tutor`."""
        super().__init__(settings, admission, data, meter)
        self.ledger = ledger

    def individual(self, plan: Plan) -> Record:
        """An individual of a generation, from the ledger where it is there already."""
        return self.ledger.get(plan.place) or self._trained(plan, None)

    def branch(self, plan: Plan, on_step: Callable[[int, int], None]) -> Record:
        """A continuation at the deploy size with an annealed learning rate."""
        return self.ledger.get(plan.place) or self._trained(plan, on_step)

    def _trained(self, plan: Plan, on_step: Callable[[int, int], None] | None) -> Record:
        attempt = self.attempt(self.task(plan), self.ledger.weights, on_step)
        self.ledger.add(attempt.record, attempt.weights)
        return attempt.record
