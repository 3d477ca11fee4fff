"""The product's presets under comparison, and all methods by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from quality_baselines import plain, random_search, tpe
from quality_lessons import Trial, retrain
from quality_trainer import BudgetedTrainer, Shares
from quality_workbench import Found, Workbench

from gensoup.train.executor import Inline
from gensoup.train.finish import fuse
from gensoup.train.ledger import Ledger
from gensoup.train.refit import refit_and_calibrate
from gensoup.train.scoring import Fitness
from gensoup.train.search import evolve


def run_method(bench: Workbench, settings: Mapping[str, Any]) -> Found:
    """Run the method whose ``settings`` name its ``kind``."""
    kinds: dict[str, Callable[[Workbench, Mapping[str, Any]], Found]] = {
        "genetic": genetic,
        "random": random_search,
        "tpe": tpe,
        "plain": plain,
    }
    return kinds[settings["kind"]](bench, settings)


def genetic(bench: Workbench, settings: Mapping[str, Any]) -> Found:
    """A preset of the product: search, then its own finish, or the best recipe trained again from the start.

    settings: ``preset``, ``changed`` (over the preset), ``search`` and ``refit`` (shares of the budget), ``merged``
    (one validation part), ``retrain``.
    """
    pool = bench.pool.merged() if settings["merged"] else bench.pool
    chosen = bench.settings(settings["preset"], settings["changed"])
    shares = Shares(settings["search"], settings["refit"])
    trainer = BudgetedTrainer(chosen, bench.admission, pool, Ledger(bench.run), bench.meter, shares)
    ranked = evolve(trainer, Inline(), bench.progress)
    best = ranked[0]
    searched, failed = bench.meter.spent, sum(not one.complete for one in trainer.ledger.records())
    notes: dict[str, Any] = {"individuals": len(trainer.ledger.records()), "failed": failed, "searched": searched}
    if settings["retrain"]:
        trials = [
            Trial(one.genes, trainer.alphabet.decode(one.genes), Fitness(one.mcc, one.nll, one.temperature, 0))
            for one in ranked
        ]
        found = retrain(bench, trials)
        return replace(found, notes={**notes, **found.notes})
    soup, model = fuse(trainer, Inline(), best, bench.progress)
    notes.update(soup=list(soup.names), recipe=trainer.alphabet.decode(best.genes).to_dict(), val_mcc=best.mcc)
    trainer.plan_refit(best.recipe["architecture"], settings["refit"] > 0)
    notes["refit_epochs"] = round(trainer.settings.refit_epochs, 3)
    final = refit_and_calibrate(trainer, best, model, bench.progress)
    return Found(final.model, final.temperature, notes)
