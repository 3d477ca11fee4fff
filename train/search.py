"""The search: generations of individuals, each inheriting weights, then branches of the best, then one soup."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gensoup.export.architectures import build, initial_model
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import GenSoupError
from gensoup.train.breeding import Plan, branch_genes, generation_zero, next_generation, torch_seed
from gensoup.train.constraint import Admission
from gensoup.train.genes import Alphabet, Recipe
from gensoup.train.learner import DivergedError, Examples, train
from gensoup.train.ledger import Ledger, Record
from gensoup.train.scoring import Fitness, fitness_of, fitness_on, predict_logits
from gensoup.train.settings import Settings
from gensoup.train.soup import Ingredient, Soup, Weights, average, greedy_soup, reestimate_batch_norm
from gensoup.train.tensorboard import write_events

AVERAGE_SUFFIX = "-average"


@dataclass(frozen=True)
class RoleData:
    """What the search may see. train: per image size; search and soup: at the deploy size."""

    train: Mapping[int, Examples]
    search: Examples
    soup: Examples


class Search:
    """Runs one search; everything finished is in the ledger, so that a second call goes on where the first was cut."""

    def __init__(
        self, settings: Settings, admission: Admission, data: RoleData, ledger: Ledger, progress: StageProgress
    ) -> None:
        self.settings = settings
        self.admission = admission
        self.data = data
        self.ledger = ledger
        self.progress = progress
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.alphabet = Alphabet(tuple(candidate.name for candidate in admission.candidates))
        self._done_steps = 0
        self._last_reported = 0.0

    def evolve(self) -> list[Record]:
        """All generations. Returns the complete individuals, best first. Raises GenSoupError when none is."""
        best: Record | None = None
        last: list[Record] = []
        for generation in range(self.settings.generations):
            if generation == 0:
                plans = generation_zero(self.settings, self.alphabet)
            else:
                elite = [best] if best is not None and best not in last else []
                plans = next_generation(self.settings, generation, [*last, *elite])
            records = [self._individual(plan) for plan in plans]
            last = [record for record in records if record.complete]
            if not last and best is None:
                raise GenSoupError(f"every individual of generation 0 failed; the first: {records[0].reason}")
            best = min([*last, *([best] if best else [])], key=lambda record: record.rank)
            self._prune(generation, last)
            write_events(self.ledger.run, self._until(generation))
        complete = [record for record in self.ledger.records() if record.complete and record.place[0] == "search"]
        return sorted(complete, key=lambda record: record.rank)

    def finish(self, ancestor: Record) -> tuple[Soup, nn.Module]:
        """Branches of ``ancestor`` at deploy size and the greedy soup of them, their averages and the ancestor.

        Returns the soup and the network that holds it, in eval mode.
        """
        ingredients = [self._ingredient(ancestor.name, self.ledger.weights(ancestor.name), ancestor)]
        for index in range(self.settings.branches):
            record = self._branch(ancestor, index)
            if record.complete:
                for suffix in ("", AVERAGE_SUFFIX):
                    weights = self.ledger.weights(record.name + suffix)
                    ingredients.append(self._ingredient(record.name + suffix, weights, record))
        model = build(ancestor.recipe["architecture"], self.data.search.classes).to(self.device)

        def fuse(members: list[Weights]) -> tuple[Weights, float]:
            model.load_state_dict(average(members, [1 / len(members)] * len(members)))
            self._repair(model)
            state = {key: value.detach().clone() for key, value in model.state_dict().items()}
            return state, self._losses(model)[1]

        soup = greedy_soup(ingredients, lambda members: fuse(list(members)))
        model.load_state_dict(soup.weights)
        return soup, model.cpu().eval()

    def _individual(self, plan: Plan) -> Record:
        """Train and score one individual, or take it from the ledger."""
        generation = plan.place[1]
        total = sum(self.settings.population_of(number) for number in range(self.settings.generations))
        total = max(total, len(self.alphabet.architectures))
        record = self.ledger.get(plan.place)
        if record is None:
            record = self._attempt(plan, self.settings.size_of(generation), self.settings.epochs, final=False)
        self._done_steps += 1
        self.progress("search", self._done_steps, total)
        return record

    def _branch(self, ancestor: Record, index: int) -> Record:
        # The generation's number tells apart branches of different ancestors.
        number = ancestor.place[1] * 10_000 + ancestor.place[2]
        plan = Plan(("branch", number, index), branch_genes(self.settings, ancestor, index), (ancestor,))
        record = self.ledger.get(plan.place)
        if record is None:
            record = self._attempt(plan, self.settings.size, self.settings.branch_epochs, final=True)
        self.progress("branches", index + 1, self.settings.branches)
        return record

    def _attempt(self, plan: Plan, size: int, epochs: float, final: bool) -> Record:
        """Train, score and commit; whatever goes wrong in it fails this individual alone."""
        started = time.monotonic()
        recipe = self.alphabet.decode(plan.genes)
        candidate = self.admission.candidate(recipe.architecture)
        weights: dict[str, dict[str, Tensor]] = {}
        outcome: dict[str, object] = {}
        inherited, images = "", 0
        try:
            model, inherited, images = self._inherit(plan, recipe)
            lesson = train(
                model,
                self.data.train[size],
                recipe,
                epochs=epochs,
                batch_size=self.settings.batch_size,
                seed=torch_seed(self.settings.seed, plan.place),
                device=self.device,
                anneal=final,
                average=final,
                on_step=self._step_reporter(plan.place[2]) if final else None,
            )
            images += lesson.images + self._repair(model)
            fitness = self._fitness(model)
            images += fitness.images
            weights[""] = {key: value.clone() for key, value in model.state_dict().items()}
            if lesson.averaged is not None:
                model.load_state_dict(lesson.averaged)
                images += self._repair(model)
                weights[AVERAGE_SUFFIX] = model.state_dict()
            outcome = {"mcc": fitness.mcc, "nll": fitness.nll, "temperature": fitness.temperature}
            if fitness.nll == float("inf"):
                raise DivergedError("its outputs are no numbers")
        except GenSoupError:
            raise
        except (Exception, MemoryError) as error:
            reason = (str(error).splitlines() or [""])[0]
            outcome, weights = {"reason": f"{type(error).__name__}: {reason}"}, {}
        record = Record(
            place=plan.place,
            genes=plan.genes,
            recipe=recipe.to_dict(),
            parents=tuple(parent.name for parent in plan.parents),
            inherited=inherited,
            size=size,
            macs=candidate.macs,
            latency_ms=None if candidate.latency is None else candidate.latency.p99_ms,
            images=images,
            seconds=time.monotonic() - started,
            **outcome,  # type: ignore[arg-type]
        )
        self.ledger.add(record, weights)
        return record

    def _inherit(self, plan: Plan, recipe: Recipe) -> tuple[nn.Module, str, int]:
        """The network an individual starts from, whose weights they are, and the images that choosing cost.

        Between relatives with the same loss: the better of the better parent and the two's weighted mean (eq. 5.1), by
        likelihood on ``search``; the worse parent too, should its likelihood be the best.
        """
        candidate = self.admission.candidate(recipe.architecture)
        classes = self.data.search.classes
        model = initial_model(recipe.architecture, classes, self.settings.seed, candidate.pretrained).to(self.device)
        if not plan.parents:
            return model, "", 0
        better = plan.parents[0]
        related = [
            parent
            for parent in plan.parents
            if all(parent.recipe[key] == better.recipe[key] for key in ("architecture", "loss"))
        ]
        states = [self.ledger.weights(parent.name) for parent in related]
        chosen = min(range(len(related)), key=lambda number: (related[number].nll, number))
        name, state, images = related[chosen].name, states[chosen], 0
        if len(related) == 2:
            model.load_state_dict(average(states, [plan.share, 1 - plan.share]))
            images += self._repair(model)
            middle = self._fitness(model)
            images += middle.images
            if middle.nll < related[chosen].nll:
                name = f"{related[0].name} × {plan.share:.2f} + {related[1].name} × {1 - plan.share:.2f}"
                state = {key: value.clone() for key, value in model.state_dict().items()}
        model.load_state_dict(state)
        return model, name, images

    def _ingredient(self, name: str, weights: dict[str, Tensor], record: Record) -> Ingredient:
        model = build(record.recipe["architecture"], self.data.search.classes).to(self.device)
        model.load_state_dict(weights)
        search_nll, soup_nll = self._losses(model)
        return Ingredient(name, weights, search_nll, soup_nll)

    def _repair(self, model: nn.Module) -> int:
        """Batch-norm statistics at the deploy size, on clean images; returns the images it cost.

        Running statistics lag behind after few steps (MobileNetV3's, of momentum .01, after hundreds), belong to a
        smaller image size, and no average of weights has any.
        """
        return reestimate_batch_norm(model, self.data.train[self.settings.size].images, self.device)

    def _fitness(self, model: nn.Module) -> Fitness:
        return fitness_on(model, self.data.search.images, self.data.search.targets, self.device)

    def _losses(self, model: nn.Module) -> tuple[float, float]:
        """Likelihood loss on ``search`` and on ``soup``, both at the temperature of ``search``, as it is deployed."""
        search = self._fitness(model)
        logits = predict_logits(model, self.data.soup.images, self.device)
        return search.nll, fitness_of(logits, self.data.soup.targets, search.temperature).nll

    def _prune(self, generation: int, last: list[Record]) -> None:
        """Keep the weights of possible parents: the last generation and the best of each architecture so far."""
        past = self._until(generation)
        best: dict[str, str] = {}
        for record in sorted(past, key=lambda one: one.rank):
            if record.complete:
                best.setdefault(record.recipe["architecture"], record.name)
        keep = {record.name for record in last} | set(best.values())
        self.ledger.remove_weights(record.name for record in past if record.name not in keep)

    def _until(self, generation: int) -> list[Record]:
        """Individuals of the search up to a generation; later ones are there already when a run is resumed."""
        records = self.ledger.records()
        return [one for one in records if one.place[0] == "search" and one.place[1] <= generation]

    def _step_reporter(self, index: int) -> Callable[[int, int], None]:
        def report(step: int, steps: int) -> None:
            now = time.monotonic()
            if now - self._last_reported > 0.2:
                self._last_reported = now
                self.progress("branches", index * steps + step, self.settings.branches * steps)

        return report
