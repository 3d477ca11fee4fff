"""The search: generations of individuals, each inheriting weights from the one before."""

from __future__ import annotations

from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import GenSoupError
from gensoup.train.breeding import FACTOR_STEPS, generation_zero, next_generation
from gensoup.train.executor import Executor
from gensoup.train.heats import after_heats, entries
from gensoup.train.individual import Trainer
from gensoup.train.ledger import Record
from gensoup.train.settings import HEAT
from gensoup.train.tensorboard import write_events


def evolve(trainer: Trainer, executor: Executor, progress: StageProgress) -> list[Record]:
    """All generations; everything finished is in the ledger, so that a second call goes on where the first was cut.

    Returns the complete individuals, best first. Raises GenSoupError when there is none.
    """
    settings, ledger = trainer.settings, trainer.ledger
    total = _planned(trainer)
    best: Record | None = None
    last: list[Record] = []
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        progress("search", done, total)

    progress("search", 0, total)
    for generation in range(settings.generations):
        if generation == 0:
            plans = after_heats(trainer, executor, generation_zero(settings, trainer.alphabet), count)
        else:
            elite = [best] if best is not None and best not in last else []
            plans = next_generation(settings, trainer.alphabet, generation, [*last, *elite])
        records = []
        for record in executor.train(trainer, plans):
            records.append(record)
            count()
        records.sort(key=lambda record: record.place)
        last = [record for record in records if record.complete]
        if not last and best is None:
            raise GenSoupError(f"every individual of generation 0 failed; the first: {records[0].reason}")
        best = min([*last, *([best] if best else [])], key=lambda record: record.rank(settings.judge))
        _prune(trainer, generation, last)
        write_events(ledger.run, [*_heats(trainer), *_until(trainer, generation)])
    complete = [record for record in ledger.records() if record.complete and record.place[0] == "search"]
    return sorted(complete, key=lambda record: record.rank(settings.judge))


def _planned(trainer: Trainer) -> int:
    settings = trainer.settings
    if settings.mode == "astrocyte-schedule":
        first = len(FACTOR_STEPS) ** 2
        return sum(entries(first, settings)) + (settings.generations - 1) * first
    begun = sum(entries(settings.beginners(len(trainer.alphabet.architectures)), settings))
    return begun + sum(settings.population_of(number) for number in range(1, settings.generations))


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
    trainer.ledger.remove_weights(one.name for one in [*_heats(trainer), *past] if one.name not in keep)


def _heats(trainer: Trainer) -> list[Record]:
    return [one for one in trainer.ledger.records() if one.place[0] == HEAT]


def _until(trainer: Trainer, generation: int) -> list[Record]:
    """Individuals of the search up to a generation; later ones are there already when a run is resumed."""
    records = trainer.ledger.records()
    return [one for one in records if one.place[0] == "search" and one.place[1] <= generation]
