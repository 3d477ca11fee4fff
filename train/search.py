"""The search: generations of individuals, each inheriting weights from the one before."""

from __future__ import annotations

from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import GenSoupError
from gensoup.train.breeding import FACTOR_STEPS, generation_zero, next_generation
from gensoup.train.individual import Trainer
from gensoup.train.ledger import Record
from gensoup.train.tensorboard import write_events


def evolve(trainer: Trainer, progress: StageProgress) -> list[Record]:
    """All generations; everything finished is in the ledger, so that a second call goes on where the first was cut.

    Returns the complete individuals, best first. Raises GenSoupError when there is none.
    """
    settings, ledger = trainer.settings, trainer.ledger
    total = _planned(trainer)
    best: Record | None = None
    last: list[Record] = []
    done = 0
    for generation in range(settings.generations):
        if generation == 0:
            plans = generation_zero(settings, trainer.alphabet)
        else:
            elite = [best] if best is not None and best not in last else []
            plans = next_generation(settings, trainer.alphabet, generation, [*last, *elite])
        records = []
        for plan in plans:
            records.append(trainer.individual(plan))
            done += 1
            progress("search", done, total)
        last = [record for record in records if record.complete]
        if not last and best is None:
            raise GenSoupError(f"every individual of generation 0 failed; the first: {records[0].reason}")
        best = min([*last, *([best] if best else [])], key=lambda record: record.rank(settings.judge))
        _prune(trainer, generation, last)
        write_events(ledger.run, _until(trainer, generation))
    complete = [record for record in ledger.records() if record.complete and record.place[0] == "search"]
    return sorted(complete, key=lambda record: record.rank(settings.judge))


def _planned(trainer: Trainer) -> int:
    settings = trainer.settings
    if settings.mode == "astrocyte-schedule":
        return settings.generations * len(FACTOR_STEPS) ** 2
    first = settings.population_of(0)
    if settings.start == "race":
        first = max(first, len(trainer.alphabet.architectures))
    return first + sum(settings.population_of(number) for number in range(1, settings.generations))


def _prune(trainer: Trainer, generation: int, last: list[Record]) -> None:
    """Keep the weights of possible parents: the last generation and the best of each architecture so far.

    Later generations, there already when a run is resumed, are left alone.
    """
    judge = trainer.settings.judge
    past = _until(trainer, generation)
    best: dict[str, str] = {}
    for record in sorted(past, key=lambda one: one.rank(judge)):
        if record.complete:
            best.setdefault(record.recipe["architecture"], record.name)
    keep = {record.name for record in last} | set(best.values())
    trainer.ledger.remove_weights(record.name for record in past if record.name not in keep)


def _until(trainer: Trainer, generation: int) -> list[Record]:
    """Individuals of the search up to a generation; later ones are there already when a run is resumed."""
    records = trainer.ledger.records()
    return [one for one in records if one.place[0] == "search" and one.place[1] <= generation]
