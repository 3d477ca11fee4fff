"""One run, from a folder of images to a run folder."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.device_profile import DeviceProfile, LatencyEstimate, profile_key
from gensoup.bench.metrics import score
from gensoup.bench.roles import ROLES_FILE, read_roles
from gensoup.export.architectures import build
from gensoup.export.run_files import METRICS_FILE, MODEL_FILE
from gensoup.export.trained import TrainedModel
from gensoup.runtime.errors import DataError, GenSoupError, UsageError
from gensoup.runtime.images import read_image
from gensoup.train import individual, refit
from gensoup.train.conclusion import PREDICTIONS_FILE
from gensoup.train.ledger import Ledger
from gensoup.train.report import write_report
from gensoup.train.run import ALPHABET_FILE, train_run
from gensoup.train.run_folder import CACHE, CONFIG_FILE
from gensoup.train.scoring import fit_temperature, predict_logits
from gensoup.train.settings import Settings
from gensoup.train.tensorboard import FOLDER

LARGE, FAST = "shufflenet_v2_x2_0", "shufflenet_v2_x0_5"


def silent(stage: str, done: int, total: int) -> None:
    """Shows nothing."""


def weights(run: Path) -> dict[str, Tensor]:
    return TrainedModel.load(run)[1].state_dict()


def same(one: Path, two: Path) -> bool:
    first, second = weights(one), weights(two)
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def device(path: Path, **p99_ms: float) -> Path:
    estimates = {
        profile_key(name, 32, "fp32"): LatencyEstimate(value / 2, value / 1.5, value, 100, 0)
        for name, value in p99_ms.items()
    }
    DeviceProfile({"gpu": "a cart's"}, 64.0, estimates).save(path)
    return path


@pytest.fixture(scope="module")
def settings(shapes: Path, make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(shapes, generations=3)


@pytest.fixture(scope="module")
def whole(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train_run(settings, run, progress=silent)
    return run


def test_what_a_run_leaves_behind(tiny_run: Any) -> None:
    left = {path.name for path in tiny_run.folder.iterdir()}
    assert left == {
        CONFIG_FILE,
        ALPHABET_FILE,
        "study.db",
        "individuals",
        ROLES_FILE,
        PREDICTIONS_FILE,
        MODEL_FILE,
        METRICS_FILE,
        FOLDER,
    }
    assert not (tiny_run.folder / CACHE).exists()  # decoded images of patients do not stay
    assert json.loads((tiny_run.folder / METRICS_FILE).read_text(encoding="utf-8")) == tiny_run.metrics
    assert Settings.load(tiny_run.folder)[0] == tiny_run.settings


def test_broken_images_are_named_and_odd_ones_used(tiny_run: Any) -> None:
    assert tuple(tiny_run.metrics["skipped"]) == tiny_run.broken
    used = {file for files in read_roles(tiny_run.folder / ROLES_FILE).values() for file in files}
    assert {"7/deep.png", "7/grey.png", "7/clear.png"} <= used
    assert not used & set(tiny_run.broken)
    assert sum(tiny_run.metrics["images_in_role"].values()) == len(used) == 123


def test_the_limit_holds_and_says_why(tiny_run: Any) -> None:
    excluded = {one["architecture"]: one["reason"] for one in tiny_run.metrics["excluded"]}
    assert set(excluded) == {"squeezenet1_1", "shufflenet_v2_x1_0"}
    assert all("multiply-adds, limit 5 M" in reason for reason in excluded.values())
    tried = {one["recipe"]["architecture"] for one in tiny_run.metrics["individuals"]}
    assert tried == {"shufflenet_v2_x0_5", "mobilenet_v3_small"}
    assert tiny_run.metrics["macs"] <= 5e6


def test_roles_keep_groups_whole_and_hold_every_class(tiny_run: Any) -> None:
    folder = LabelledFolder.open(tiny_run.data)
    assert folder.groups is not None
    group_of = dict(zip(folder.files, folder.groups, strict=True))
    roles = read_roles(tiny_run.folder / ROLES_FILE)
    assert list(roles) == ["train", "search", "soup", "test"]
    sides = [{group_of[file] for file in files} for files in roles.values()]
    assert sum(map(len, sides)) == len(set.union(*sides))
    assert all(len({file.split("/")[0] for file in files}) == 3 for files in roles.values())


def test_scores_are_those_of_the_predictions(tiny_run: Any) -> None:
    labels = tiny_run.metrics["labels"]
    with (tiny_run.folder / PREDICTIONS_FILE).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == list(read_roles(tiny_run.folder / ROLES_FILE)["test"])
    probabilities = np.array([[float(row[f"p({label})"]) for label in labels] for row in rows])
    targets = np.array([labels.index(row["truth"]) for row in rows])
    scores = score(targets, probabilities)
    assert tiny_run.metrics["scores"]["test"]["mcc"] == pytest.approx(scores.mcc)
    assert tiny_run.metrics["scores"]["test"]["confusion_matrix"] == scores.to_dict()["confusion_matrix"]


def test_the_model_knows_what_it_is(tiny_run: Any) -> None:
    trained, _ = TrainedModel.load(tiny_run.folder)
    assert trained.labels == tuple(tiny_run.metrics["labels"])
    assert trained.architecture == tiny_run.metrics["architecture"]
    assert trained.preprocess == tiny_run.settings.preprocess(48)
    assert trained.temperature == tiny_run.metrics["temperature"] > 0
    assert trained.metrics["role"] == "test" and trained.metrics["mcc"] == tiny_run.metrics["scores"]["test"]["mcc"]
    assert trained.provenance["data_fingerprint"] == LabelledFolder.open(tiny_run.data).fingerprint()


def test_individuals_are_all_there_with_growing_sizes(tiny_run: Any) -> None:
    places = [tuple(one["place"]) for one in tiny_run.metrics["individuals"]]
    assert places[-7:] == [("search", 0, n) for n in range(4)] + [("search", 1, n) for n in range(3)]
    assert [place[0] for place in places[:-7]] == ["branch", "branch", "refit"]
    sizes = {tuple(one["place"])[:2]: one["size"] for one in tiny_run.metrics["individuals"]}
    assert sizes["search", 0] == 32 and sizes["search", 1] == 48
    assert all(one["size"] == 48 for one in tiny_run.metrics["individuals"] if one["place"][0] == "branch")


def test_the_refit_takes_the_rate_its_lineage_began_with_and_soup_gives_the_temperature_before_it_is_trained_on(
    tiny_run: Any,
) -> None:
    individuals = {one["name"]: one for one in tiny_run.metrics["individuals"]}
    (refitted,) = (one for one in individuals.values() if one["place"][0] == "refit")
    first = ancestor = individuals[tiny_run.metrics["ancestor"]]
    while first["inherited"]:
        first = individuals[first["parents"][0]]
    assert first["place"][1] == 0
    assert refitted["recipe"]["learning_rate"] == pytest.approx(
        first["recipe"]["learning_rate"] * tiny_run.settings.refit_rate
    )
    assert {**refitted["genes"], "learning_rate": 0} == {**ancestor["genes"], "learning_rate": 0}
    trained, model = TrainedModel.load(tiny_run.folder)
    final = {name: value.clone() for name, value in model.state_dict().items()}
    before = load_file(tiny_run.folder / "individuals" / f"{refitted['name']}{refit.BEFORE_SOUP_SUFFIX}.safetensors")
    assert any(not torch.equal(value, before[name]) for name, value in final.items())
    model.load_state_dict(before)
    folder = LabelledFolder.open(tiny_run.data)
    files = read_roles(tiny_run.folder / ROLES_FILE)["soup"]
    images = np.stack([trained.preprocess(read_image(folder.path / file)) for file in files])
    targets = folder.targets[[folder.files.index(file) for file in files]]
    logits = predict_logits(model, images, torch.device("cpu"))
    assert trained.temperature == pytest.approx(fit_temperature(logits, targets), rel=1e-3)
    assert tiny_run.metrics["scores"]["soup"]["accuracy"] == pytest.approx((logits.argmax(1) == targets).mean())


def test_the_refit_tells_how_far_it_is(settings: Settings, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    quick = replace(settings, generations=1, population=2, population_min=2, epochs=0.2, branch_epochs=0.2)
    train_run(quick, tmp_path / "run", progress=lambda stage, *step: told.append(step) if stage == "refit" else None)
    steps = [done for done, _ in told]
    assert steps == sorted(set(steps)) and len({total for _, total in told}) == 1
    assert steps[0] == 1 and steps[-1] == told[-1][1]


def test_a_finished_run_is_returned_as_it_is_when_resumed(tiny_run: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_run.folder.rglob("*")}
    assert train_run(tiny_run.settings, tiny_run.folder, resume=True, progress=silent) == tiny_run.metrics
    assert {path: path.stat().st_mtime_ns for path in tiny_run.folder.rglob("*")} == before


def test_the_same_seed_and_profile_give_the_same_weights(settings: Settings, whole: Path, tmp_path: Path) -> None:
    torch.manual_seed(4321)
    train_run(settings, tmp_path / "run", progress=silent)
    assert same(tmp_path / "run", whole)


def test_another_seed_gives_another_run(settings: Settings, whole: Path, tmp_path: Path) -> None:
    other = replace(settings, seed=1, generations=1, population=2)
    train_run(other, tmp_path / "run", progress=silent)
    assert not same(tmp_path / "run", whole)
    assert read_roles(tmp_path / "run" / ROLES_FILE) != read_roles(whole / ROLES_FILE)


@pytest.mark.parametrize("cut", [("search", 0, 1), ("search", 2, 1), ("branch",)], ids=str)
def test_killed_and_resumed_ends_in_the_same_weights(
    settings: Settings, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: tuple[Any, ...]
) -> None:
    run = tmp_path / "run"
    add = Ledger.add
    cuts: list[object] = []

    def killed(ledger: Ledger, record: Any, weights: Any) -> None:
        if record.place[: len(cut)] == cut and not cuts:
            cuts.append(record.place)
            raise KeyboardInterrupt
        add(ledger, record, weights)

    monkeypatch.setattr(Ledger, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        train_run(settings, run, progress=silent)
    assert not (run / CACHE).exists() and not (run / METRICS_FILE).exists() and not (run / MODEL_FILE).exists()
    done = len(Ledger(run).records())
    metrics = train_run(settings, run, resume=True, progress=silent)
    assert same(run, whole)
    assert len(Ledger(run).records()) == len(Ledger(whole).records()) > done
    uninterrupted = json.loads((whole / METRICS_FILE).read_text(encoding="utf-8"))
    for each in (metrics, uninterrupted):
        for one in each["individuals"]:
            del one["seconds"]
        del each["seconds"], each["summary"]["cost"]
    assert json.loads(json.dumps(metrics)) == uninterrupted


def test_resuming_with_other_settings_names_them(settings: Settings, whole: Path) -> None:
    with pytest.raises(UsageError, match=r"--resume: .*seed: 0 → 7") as error:
        train_run(replace(settings, seed=7), whole, resume=True, progress=silent)
    assert "\n" not in str(error.value)


def test_resuming_on_changed_images_is_refused(
    settings: Settings, make_shapes: Callable[..., Path], tmp_path: Path, whole: Path
) -> None:
    data = make_shapes(tmp_path / "data", per_class=20)
    run = tmp_path / "run"
    moved = replace(settings, data=str(data))
    moved.save(run, LabelledFolder.open(data).fingerprint())
    (data / "7" / "000.png").unlink()
    with pytest.raises(UsageError, match="have changed"):
        train_run(moved, run, resume=True, progress=silent)
    assert [path.name for path in run.iterdir()] == [CONFIG_FILE]


def test_resuming_where_other_images_can_be_read_is_refused(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    shutil.copytree(settings.data, data)
    moved = replace(settings, data=str(data))

    def killed(ledger: Ledger, record: Any, weights: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            train_run(moved, tmp_path / "run", progress=silent)
    damaged = next((data / "7").glob("*.png"))
    damaged.write_bytes(bytes(damaged.stat().st_size))  # as large as before, which is all the fingerprint knows
    with pytest.raises(UsageError, match=f"other images can be read.*{damaged.name}"):
        train_run(moved, tmp_path / "run", resume=True, progress=silent)


def test_a_redrawn_architecture_starts_afresh(settings: Settings, tmp_path: Path) -> None:
    chosen = replace(
        settings, architectures=(FAST, "squeezenet1_1"), redraw={"architecture": 1.0}, generations=2, population=6
    )
    metrics = train_run(chosen, tmp_path / "run", progress=silent)
    assert [one["reason"] for one in metrics["individuals"] if one["reason"] is not None] == []
    recipe_of = {one["name"]: one["recipe"]["architecture"] for one in metrics["individuals"]}
    for one in metrics["individuals"]:
        strangers = all(recipe_of[parent] != one["recipe"]["architecture"] for parent in one["parents"])
        assert (one["inherited"] == "") == strangers or one["place"][0] == "refit"


def test_images_and_weights_may_lie_elsewhere_when_resumed(
    shapes: Path, make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun with relative paths in one folder, resumed and reported from others, where they lie elsewhere too."""
    first, second = tmp_path / "first", tmp_path / "second"
    state = build(FAST, 1000).state_dict()
    for folder in (first, second):
        shutil.copytree(shapes, folder / "images")
        (folder / "w").mkdir()
        save_file(state, folder / "w" / f"{FAST}.safetensors")
    quick = {"weights_dir": "w", "generations": 1, "population": 2, "epochs": 0.2, "branch_epochs": 0.2}

    def killed(ledger: Ledger, record: Any, weights: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(first)
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            train_run(make_settings(Path("images"), **quick), tmp_path / "run", progress=silent)
    monkeypatch.chdir(second)
    shutil.rmtree(first)
    metrics = train_run(make_settings(Path("images"), **quick), tmp_path / "run", resume=True, progress=silent)
    monkeypatch.chdir(tmp_path)
    assert metrics["settings"]["data"] == str(second / "images")
    assert "The images are no longer where" not in write_report(tmp_path / "run").read_text(encoding="utf-8")


def test_resuming_what_never_began_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no run in .* to go on with"):
        train_run(settings, tmp_path / "typo", resume=True, progress=silent)
    assert not (tmp_path / "typo").exists()


def test_resuming_with_other_initial_weights_is_refused(settings: Settings, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    (run / METRICS_FILE).unlink()  # as if it had been cut at the very end
    alphabet = json.loads((run / ALPHABET_FILE).read_text(encoding="utf-8"))
    first = next(iter(alphabet))
    (run / ALPHABET_FILE).write_text(json.dumps({**alphabet, first: "0" * 64}), encoding="utf-8")
    with pytest.raises(UsageError, match=f"--resume: {first} came with other initial weights"):
        train_run(settings, run, resume=True, progress=silent)


def test_a_folder_with_something_in_it_is_left_alone(settings: Settings, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="not an empty folder"):
        train_run(settings, tmp_path, progress=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(UsageError, match="not an empty folder"):
        train_run(settings, tmp_path / "thesis.txt", progress=silent)
    with pytest.raises(UsageError, match="--resume"):
        train_run(settings, whole, progress=silent)


def test_a_run_that_never_began_leaves_nothing_behind(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(GenSoupError, match="no architecture meets the limits"):
        train_run(replace(settings, max_macs=0.5), tmp_path / "run", progress=silent)
    assert list(tmp_path.iterdir()) == []


def test_too_few_images_leave_nothing_behind(
    settings: Settings, make_shapes: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "data", per_class=6)
    with pytest.raises(DataError, match="5 are missing"):
        train_run(replace(settings, data=str(data)), tmp_path / "run", progress=silent)
    assert not (tmp_path / "run").exists()


def test_nothing_but_broken_images_is_a_clear_error(settings: Settings, tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / "data" / label).mkdir(parents=True)
        (tmp_path / "data" / label / "x.jpg").write_text("no image", encoding="utf-8")
    with pytest.raises(DataError, match="'a' has 0 groups"):
        train_run(replace(settings, data=str(tmp_path / "data")), tmp_path / "run", progress=silent)
    assert not (tmp_path / "run").exists()


def test_without_groups_near_duplicates_stay_together(
    settings: Settings, make_shapes: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "data", per_class=30)
    (data / "groups.csv").unlink()
    twin = data / "7" / "twin.png"
    shutil.copy(data / "7" / "003.png", twin)
    quick = replace(settings, data=str(data), generations=1, population=2, epochs=0.2, branch_epochs=0.2)
    train_run(quick, tmp_path / "run", progress=silent)
    roles = read_roles(tmp_path / "run" / ROLES_FILE)
    role_of = {file: role for role, files in roles.items() for file in files}
    assert role_of["7/twin.png"] == role_of["7/003.png"]


def test_an_individual_that_raises_fails_alone(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = individual.train
    calls: list[int] = []

    def sometimes(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of something\nwith a second line")
        return train(*arguments, **options)

    monkeypatch.setattr(individual, "train", sometimes)
    metrics = train_run(settings, tmp_path / "run", progress=silent)
    failed = [one for one in metrics["individuals"] if one["reason"] is not None]
    assert [(one["name"], one["reason"]) for one in failed] == [("search-00-01", "RuntimeError: out of something")]
    assert not any("search-00-01" in one["parents"] for one in metrics["individuals"])
    assert (tmp_path / "run" / MODEL_FILE).exists()


def test_every_individual_failing_is_an_error_that_says_why(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def always(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("never works")

    monkeypatch.setattr(individual, "train", always)
    with pytest.raises(GenSoupError, match=r"every individual of generation 0 failed.*never works"):
        train_run(settings, tmp_path / "run", progress=silent)
    assert not (tmp_path / "run" / CACHE).exists()


def test_no_infeasible_architecture_is_ever_built_for_training(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    trained: list[str] = []
    initial_model, train = individual.initial_model, individual.train

    def counted(name: str, *arguments: Any, **options: Any) -> nn.Module:
        started.append(name)
        return initial_model(name, *arguments, **options)

    def counted_training(model: nn.Module, examples: Any, recipe: Any, *rest: Any) -> Any:
        trained.append(recipe.architecture)
        return train(model, examples, recipe, *rest)

    monkeypatch.setattr(individual, "initial_model", counted)
    for module in (individual, refit):
        monkeypatch.setattr(module, "train", counted_training)
    names = (LARGE, FAST, "mobilenet_v3_small", "shufflenet_v2_x1_0")
    timed = replace(settings, architectures=names, min_fps=64.0, max_macs=4.0, generations=2, population=4)
    profile = device(tmp_path / "cart.json", **{LARGE: 1.0, FAST: 9.0, "mobilenet_v3_small": 14.0})
    metrics = train_run(timed, tmp_path / "run", profile=profile, progress=silent)
    reasons = {one["architecture"]: one["reason"] for one in metrics["excluded"]}
    assert "multiply-adds" in reasons[LARGE]  # fast enough, but too large
    assert "p99 14.0 ms" in reasons["mobilenet_v3_small"]  # small enough, but too slow
    assert "not in the device profile" in reasons["shufflenet_v2_x1_0"]
    assert set(started) == set(trained) == {FAST}
    assert len(trained) == 4 + 3 + timed.branches + 2  # the refit, without soup and with it
    assert metrics["latency_ms"]["p99_ms"] == 9.0
    claim = TrainedModel.load(tmp_path / "run")[0].provenance["device_profile"]  # what gensoup bench holds a device to
    assert claim["device"] == {"gpu": "a cart's"} and claim["p99_ms"] == 9.0 and claim["rate_hz"] == 64.0
    assert any(path.name.startswith("device") for path in (tmp_path / "run").iterdir())


def test_a_fused_network_over_the_limit_gives_way_to_the_next_architecture(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gensoup.train.run_profile import RunProfile

    probed: list[str] = []

    def slow_first(profile: RunProfile, name: str, size: int, model: nn.Module) -> LatencyEstimate:
        probed.append(name)
        value = 99.0 if len(probed) == 1 else 5.0
        return LatencyEstimate(value, value, value, 10, 0)

    monkeypatch.setattr(RunProfile, "fused", slow_first)
    names = (FAST, "mobilenet_v3_small")
    timed = replace(settings, architectures=names, min_fps=64.0, generations=1, population=2)
    profile = device(tmp_path / "cart.json", **dict.fromkeys(names, 5.0))
    metrics = train_run(timed, tmp_path / "run", profile=profile, progress=silent)
    assert set(probed) == set(names) and metrics["architecture"] == probed[1]
    (dropped,) = metrics["over_the_limit_when_fused"]
    assert dropped["architecture"] == probed[0] and "fused p99 99.0 ms" in dropped["reason"]


def test_the_users_folder_is_byte_identical_afterwards(settings: Settings, whole: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(settings.data, data)
    for path in data.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)

    def state() -> dict[str, str]:
        files = [path for path in data.rglob("*") if path.is_file()]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = state()
    quick = replace(settings, data=str(data), generations=1, population=2, epochs=0.2, branch_epochs=0.2)
    train_run(quick, tmp_path / "run", progress=silent)
    for path in data.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert state() == before
