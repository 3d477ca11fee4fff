"""Single trainings: a recipe that does not bear the long one gives way, and the budget still holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from quality_lessons import Trial, attempt, glance, retrain
from quality_meter import ImageMeter
from quality_pool import deal, open_folder
from quality_workbench import Workbench, admission_of

from gensoup.export.architectures import build
from gensoup.runtime.errors import GenSoupError
from gensoup.train.genes import Recipe
from gensoup.train.presets import compose
from gensoup.train.scoring import Fitness

NETWORK = "shufflenet_v2_x0_5"
GOOD = Recipe(NETWORK, 2e-3, 0.0, "cross_entropy", "adamw", 0.1)
DEADLY = Recipe(NETWORK, 1e30, 0.0, "cross_entropy", "sgd", 0.1)
DEAD = Recipe(NETWORK, 0.0, 0.0, "cross_entropy", "adamw", 0.1)
CLAIMED = Fitness(0.9, 0.2, 1.5, 0)


@pytest.fixture
def bench(shapes: Path, tmp_path: Path) -> Workbench:
    def quiet(stage: str, done: int, total: int) -> None:
        pass

    base = {
        "architectures": (NETWORK,),
        "sizes": (32,),
        "init": "random",
        "weights_dir": None,
        "batch_size": 16,
        "threads": 1,
        "seed": 0,
    }
    pool, _ = deal(open_folder(shapes, [32], tmp_path / "cache", quiet), 0)
    admission = admission_of(compose("", None, None, base), pool.classes, tmp_path, quiet)
    return Workbench(pool, admission, base, ImageMeter([NETWORK], 2000), tmp_path, quiet)


@pytest.mark.parametrize("bad", [DEADLY, DEAD])
def test_a_recipe_that_diverges_or_learns_nothing_gives_way_to_the_next(bench: Workbench, bad: Recipe) -> None:
    trials = [Trial({}, GOOD, Fitness(0.2, 0.5, 1.2, 0)), Trial({}, bad, CLAIMED)]
    with bench.meter:
        found = retrain(bench, trials)
    assert found.notes["diverged"] == 1
    assert found.notes["recipe"] == GOOD.to_dict()
    assert found.temperature == 1.2
    assert 0.98 * bench.meter.budget <= bench.meter.spent <= bench.meter.budget
    assert glance(bench, found.model, bench.pool.load("search", 32), 64) > 0.4


def test_without_a_recipe_that_trains_there_is_no_result(bench: Workbench) -> None:
    with pytest.raises(GenSoupError, match="no recipe could be trained"):
        retrain(bench, [Trial({}, DEADLY, CLAIMED)])


def test_a_trial_that_diverges_is_none_and_a_good_one_is_scored_on_search(bench: Workbench) -> None:
    assert attempt(bench, {}, DEADLY, 200, ("random", 0, 0)) is None
    with bench.meter:
        trial = attempt(bench, {}, GOOD, 1600, ("random", 0, 1))
    assert trial is not None and trial.fitness.mcc > 0.4
    assert trial.fitness.images == bench.pool.count("search")
    assert bench.meter.spent == 1600 + bench.pool.count("train") + bench.pool.count("search")


def test_a_glance_leaves_a_network_in_training_and_its_weights_alone(bench: Workbench) -> None:
    model = build(NETWORK, bench.pool.classes).train()
    before = {name: value.clone() for name, value in model.named_parameters()}
    glance(bench, model, bench.pool.load("search", 32), 16)
    assert model.training and all(module.training for module in model.modules())
    assert all(value.equal(before[name]) for name, value in model.named_parameters())
