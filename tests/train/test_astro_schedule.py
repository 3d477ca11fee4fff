"""The greedy schedule of factors, its control and its journal."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gensoup.runtime.errors import GenSoupError, UsageError
from gensoup.train import astro_schedule
from gensoup.train.astro_schedule import JOURNAL_FILE, STEPS, Schedule, greedy_schedule, trial_seed
from gensoup.train.astrocytes import AstrocyteFactors, AstrocyteSettings
from gensoup.train.genes import Recipe
from gensoup.train.learner import Examples, train
from gensoup.train.scoring import fitness_on
from gensoup.train.soup import reestimate_batch_norm

CPU = torch.device("cpu")
RECIPE = Recipe("none", 1e-2, 0.0, "cross_entropy", "adam", 0.2)
# Every round of one step, at any activity: so that the nine candidates do differ on a tiny network.
EAGER = AstrocyteSettings(AstrocyteFactors(1.0, 1.0), iterations=1, threshold=0.05)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def drawn(count: int, seed: int) -> Examples:
    """Images 12 × 12 whose brighter channel tells the class, hard enough that candidates differ."""
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % 3
    images = rng.integers(0, 200, (count, 12, 12, 3))
    images[np.arange(count), :, :, targets] += 6
    return Examples(images.clip(0, 255).astype(np.uint8), targets, 3)


LEARN, SEARCH = drawn(48, 1), drawn(60, 2)


def fresh() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(384, 3)
    )


def schedule(folder: Path, epochs: int = 2, model: nn.Module | None = None, **changes: Any) -> Schedule:
    values: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": 16,
        "seed": 5,
        "device": CPU,
        "folder": folder,
        "astrocytes": EAGER,
        "progress": lambda stage, done, total: None,
    }
    examples = changes.pop("examples", LEARN)
    recipe = changes.pop("recipe", RECIPE)
    return greedy_schedule(model or fresh(), examples, SEARCH, recipe, **{**values, **changes})


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Schedule:
    return schedule(tmp_path_factory.mktemp("whole") / "s", epochs=3)


def test_nine_candidates_an_epoch_step_by_a_quarter_around_the_last_kept(whole: Schedule) -> None:
    assert len(whole.path) == 3 and len(whole.trials) == 27
    around = AstrocyteFactors(1.0, 1.0)
    for epoch, kept in enumerate(whole.path):
        trials = [trial for trial in whole.trials if trial.epoch == epoch]
        steps = {(one.factors.strong - around.strong, one.factors.weak - around.weak) for one in trials if one.factors}
        assert steps == {(strong, weak) for strong in (-0.25, 0, 0.25) for weak in (-0.25, 0, 0.25)}
        assert kept in trials
        assert (kept.mcc, -(kept.nll or 0)) == max((one.mcc, -(one.nll or 0)) for one in trials)
        assert kept.factors is not None
        around = kept.factors
    assert len({trial.nll for trial in whole.trials if trial.epoch == 0}) > 3  # they did differ
    assert any(kept.index != 0 for kept in whole.path)


def test_each_trial_is_one_epoch_from_the_epochs_start(whole: Schedule) -> None:
    """The path, trained again by hand, ends in the same weights; so does a candidate that was not kept."""
    model = fresh()
    for epoch, kept in enumerate(whole.path):
        start = copy.deepcopy(model.state_dict())
        other = next(one for one in whole.trials if one.epoch == epoch and one.index not in (0, kept.index))
        for trial in (other, kept):
            assert trial.factors is not None
            model.load_state_dict(start)
            settings = replace(EAGER, factors=trial.factors)
            seed = trial_seed(5, epoch, 0)
            lesson = train(model, LEARN, RECIPE, epochs=1, batch_size=16, seed=seed, device=CPU, astrocytes=settings)
            images = lesson.images + reestimate_batch_norm(model, LEARN.images, CPU)
            fitness = fitness_on(model, SEARCH.images, SEARCH.targets, CPU)
            assert (trial.mcc, trial.nll, trial.images) == (fitness.mcc, fitness.nll, images + fitness.images)
    assert same(model.state_dict(), whole.weights)
    assert whole.images == 27 * (48 + 48 + 60)


def test_the_control_repeats_with_nine_seeds_and_no_factors(tmp_path: Path) -> None:
    control = schedule(tmp_path / "control", epochs=1, astrocytes=None)
    assert all(trial.factors is None for trial in control.trials)
    assert len({trial.nll for trial in control.trials}) == 9
    model = fresh()
    kept = control.path[0]
    train(model, LEARN, RECIPE, epochs=1, batch_size=16, seed=trial_seed(5, 0, kept.index), device=CPU)
    reestimate_batch_norm(model, LEARN.images, CPU)
    assert same(model.state_dict(), control.weights)


def test_factors_stay_where_they_make_no_difference(tmp_path: Path) -> None:
    never = replace(EAGER, iterations=100)
    flat = schedule(tmp_path / "s", epochs=2, astrocytes=never)
    assert [kept.factors for kept in flat.path] == [never.factors] * 2
    assert len({trial.nll for trial in flat.trials if trial.epoch == 0}) == 1


def test_factors_may_leave_the_genes_bounds(tmp_path: Path) -> None:
    start = replace(EAGER, factors=AstrocyteFactors(0.0, 1.75))
    trials = schedule(tmp_path / "s", epochs=1, astrocytes=start).trials
    assert min(one.factors.strong for one in trials if one.factors) == -0.25
    assert max(one.factors.weak for one in trials if one.factors) == 2.0


class Killed(BaseException):
    """Stands for the process' end: nothing in the code catches it."""


@pytest.mark.parametrize("astrocytes", [EAGER, None], ids=["greedy", "control"])
@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after it"])
def test_killed_anywhere_it_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool, astrocytes: AstrocyteSettings | None
) -> None:
    write = astro_schedule.write_atomic
    writes: list[Path] = []

    def counted(path: Path, content: bytes | str) -> None:
        writes.append(path)
        write(path, content)

    monkeypatch.setattr(astro_schedule, "write_atomic", counted)
    uncut = schedule(tmp_path / "uncut", astrocytes=astrocytes)
    total, folder = len(writes), tmp_path / "cut"
    assert total > 2 * len(STEPS)
    left = 0

    def deadly(path: Path, content: bytes | str) -> None:
        nonlocal left
        left -= 1
        if left == 0 and not after:
            raise Killed
        write(path, content)
        if left == 0:
            raise Killed

    monkeypatch.setattr(astro_schedule, "write_atomic", deadly)
    kills = 0
    while True:
        left = 3  # every call gets a few writes further, whichever they are
        try:
            cut = schedule(folder, astrocytes=astrocytes)
            break
        except Killed:
            kills += 1
    assert kills > 5
    assert same(cut.weights, uncut.weights)
    assert (cut.path, cut.trials) == (uncut.path, uncut.trials)


def test_a_finished_schedule_is_read_and_can_go_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule(tmp_path / "s", epochs=1)
    short = schedule(tmp_path / "s", epochs=2)
    with monkeypatch.context() as patched:
        patched.setattr(astro_schedule, "train", lambda *arguments, **options: pytest.fail("trained again"))
        again = schedule(tmp_path / "s", epochs=2)
        first = schedule(tmp_path / "s", epochs=1)
    straight = schedule(tmp_path / "straight", epochs=2)
    for other in (again, straight):
        assert same(other.weights, short.weights) and other.trials == short.trials
    assert first.path == short.path[:1] and len(first.trials) == 9


def test_one_file_of_weights_an_epoch_stays(tmp_path: Path) -> None:
    done = schedule(tmp_path / "s", epochs=2)
    files = sorted(path.name for path in (tmp_path / "s").iterdir())
    kept = [f"epoch-{trial.epoch:02d}-{trial.index}.safetensors" for trial in done.path]
    assert files == sorted([*kept, JOURNAL_FILE])


def test_progress_counts_trials(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    schedule(tmp_path / "s", epochs=2, progress=lambda *call: calls.append(call))
    counts = [done for _, done, _ in calls]
    assert counts == sorted(counts) and counts[0] == 1 and counts[-1] == 18
    assert {(stage, total) for stage, _, total in calls} == {("epochs", 18)}


def test_a_trial_that_diverges_fails_alone_and_an_epoch_of_them_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild = replace(RECIPE, learning_rate=1e20, optimizer="sgd")
    with pytest.raises(GenSoupError, match=r"epoch 1: every trial failed, the first: the loss became \S+ at step 2"):
        schedule(tmp_path / "wild", recipe=wild)
    journal = json.loads((tmp_path / "wild" / JOURNAL_FILE).read_text(encoding="utf-8"))
    assert [one["images"] for one in journal["trials"]] == [16] * 9

    real: Callable[..., Any] = astro_schedule.train

    def sometimes(model: nn.Module, examples: Examples, recipe: Recipe, **options: Any) -> Any:
        if options["astrocytes"].factors.strong > 1:
            recipe = wild
        return real(model, examples, recipe, **options)

    monkeypatch.setattr(astro_schedule, "train", sometimes)
    done = schedule(tmp_path / "some", epochs=1)
    failed = [trial for trial in done.trials if trial.reason is not None]
    assert len(failed) == 3 and all(trial.nll is None and trial.factors.strong == 1.25 for trial in failed)  # type: ignore[union-attr]
    assert done.path[0].reason is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 6}, "seed"),
        ({"astrocytes": None}, "astrocytes"),
        ({"recipe": replace(RECIPE, learning_rate=1e-3)}, "recipe"),
        ({"examples": drawn(48, 3)}, "images"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(432, 3))}, "initial weights"),
        ({"batch_size": 8}, "batch size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_journal_of_another_schedule_is_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, whole: Schedule, changes: dict[str, Any], named: str
) -> None:
    folder = next(path for path in tmp_path_factory.getbasetemp().glob("whole*/s"))
    with pytest.raises(UsageError, match=rf"holds a schedule with other {named}; name a new folder"):
        schedule(folder, **changes)


def test_folders_and_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="epochs 0"):
        schedule(tmp_path / "s", epochs=0)
    assert not (tmp_path / "s").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious", encoding="utf-8")
    with pytest.raises(UsageError, match="not an empty folder"):
        schedule(tmp_path / "full")
    schedule(tmp_path / "s", epochs=1)
    weights = next((tmp_path / "s").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(GenSoupError, match=rf"{weights.name}: cannot be read"):
        schedule(tmp_path / "s", epochs=1)
    journal = tmp_path / "s" / JOURNAL_FILE
    journal.write_text(journal.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    with pytest.raises(GenSoupError, match=rf"{JOURNAL_FILE}: cannot be read"):
        schedule(tmp_path / "s", epochs=1)
    journal.write_text('{"schema_version": 99, "identity": {}, "trials": []}', encoding="utf-8")
    with pytest.raises(GenSoupError, match="newer GenSoup"):
        schedule(tmp_path / "s", epochs=1)
