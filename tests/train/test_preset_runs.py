"""Every preset as a whole run, made small: the same code with other values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gensoup.bench.roles import ROLES_FILE, read_roles
from gensoup.train.presets import compose, preset_names
from gensoup.train.run import train_run

ARCHITECTURES = ("shufflenet_v2_x0_5", "squeezenet1_1")
# What makes a preset small, and nothing that makes it what it is.
SMALL: dict[str, Any] = {
    "architectures": ARCHITECTURES,
    "init": "random",
    "sizes": (48,),
    "generations": 2,
    "steady_generations": 1,
    "population": 4,
    "population_step": 1,
    "population_min": 3,
    "epochs": 0.3,
    "branch_epochs": 0.4,
    "batch_size": 16,
    "threads": 1,
}


def silent(stage: str, done: int, total: int) -> None:
    """Shows nothing."""


@pytest.fixture(scope="module")
def runs(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Preset → run folder and metrics."""
    made = {}
    for name in preset_names():
        out = tmp_path_factory.mktemp("presets") / name
        refits = compose(str(shapes), name, None, SMALL).refit_epochs > 0
        changed = {**SMALL, **({"refit_epochs": 2.0} if refits else {})}
        made[name] = out, train_run(compose(str(shapes), name, None, changed), out, progress=silent)
    return made


def of_phase(metrics: dict[str, Any], phase: str) -> list[dict[str, Any]]:
    return [one for one in metrics["individuals"] if one["place"][0] == phase and one["reason"] is None]


@pytest.mark.slow
@pytest.mark.parametrize("name", preset_names())
def test_every_preset_ends_in_a_network_and_counts_its_images(runs: Any, name: str) -> None:
    out, metrics = runs[name]
    assert (out / "model.safetensors").exists() and metrics["architecture"] in ARCHITECTURES
    assert (
        metrics["images_trained"]
        == metrics["images"]["soup"] + sum(one["images"] for one in metrics["individuals"])
        > 0
    )
    assert metrics["size"] == 48 and 0 <= metrics["scores"]["test"]["accuracy"] <= 1
    search = of_phase(metrics, "search")
    assert all(one["latency_ms"] is None for one in search) and len(search) >= 5
    limit = 9 * 2 if name == "astrocytes-thesis" else 4 + 3
    assert len([one for one in metrics["individuals"] if one["place"][0] == "search"]) == limit


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gen-cnn", "gen-cnn-thesis"])
def test_gen_cnn_inherits_nothing_and_trains_the_best_genes_afresh(runs: Any, name: str) -> None:
    _, metrics = runs[name]
    assert all(one["inherited"] == "" for one in of_phase(metrics, "search") + of_phase(metrics, "branch"))
    (branch,) = of_phase(metrics, "branch")
    best = min(of_phase(metrics, "search"), key=lambda one: (-one["mcc"], one["nll"] if name == "gen-cnn" else 0))
    assert branch["recipe"] == best["recipe"] and branch["size"] == 48
    assert all(ingredient.startswith("branch") for ingredient in metrics["soup"]["ingredients"])


@pytest.mark.slow
def test_gen_cnn_of_the_thesis_searches_small_and_ends_with_one_network(runs: Any) -> None:
    _, metrics = runs["gen-cnn-thesis"]
    assert {one["size"] for one in of_phase(metrics, "search")} == {32}  # a quarter of 48, but 32 at least
    assert len(metrics["soup"]["steps"]) == 1


@pytest.mark.slow
def test_gen_soup_of_the_thesis_averages_parents_and_fuses_the_population(runs: Any) -> None:
    out, metrics = runs["gen-soup-thesis-1"]
    roles = read_roles(out / ROLES_FILE)
    assert list(roles) == ["train", "search", "test"]
    assert metrics["scores"]["soup"] == metrics["scores"]["search"]
    assert metrics["images"]["soup"] > 0
    later = [one for one in of_phase(metrics, "search") if one["place"][1] == 1]
    recipe_of = {one["name"]: one["recipe"] for one in metrics["individuals"]}
    for one in later:
        alike = {recipe_of[parent]["architecture"] for parent in one["parents"]}
        assert ("×" in one["inherited"]) == (len(one["parents"]) == 2 and len(alike) == 1)
    assert not of_phase(metrics, "branch") and metrics["soup"]["judge"] == "mcc"
    kin = [one for one in later if one["recipe"]["architecture"] == metrics["architecture"]]
    assert len(metrics["soup"]["steps"]) >= len(kin)


@pytest.mark.slow
def test_an_astrocyte_schedule_goes_on_from_the_best_of_nine(runs: Any) -> None:
    _, metrics = runs["astrocytes-thesis"]
    first = [one for one in of_phase(metrics, "search") if one["place"][1] == 0]
    second = [one for one in of_phase(metrics, "search") if one["place"][1] == 1]
    best = min(first, key=lambda one: (-one["mcc"], one["place"]))
    assert {one["inherited"] for one in second} == {best["name"]}
    steps = {
        (round(one["recipe"]["strong"] - best["recipe"]["strong"], 6), one["recipe"]["weak"] - best["recipe"]["weak"])
        for one in second
    }
    assert steps == {(strong, weak) for strong in (-0.25, 0, 0.25) for weak in (-0.25, 0, 0.25)}
    moved = [one for one in second if one["recipe"]["strong"] != 1 or one["recipe"]["weak"] != 1]
    assert all(one["extra"]["astrocytes"]["rounds"] >= 0 for one in moved)


@pytest.mark.slow
def test_ours_refits_the_fused_network_and_the_thesis_does_not(runs: Any) -> None:
    for name, (_, metrics) in runs.items():
        refits = [one for one in metrics["individuals"] if one["place"][0] == "refit"]
        assert len(refits) == (0 if name.endswith(("thesis", "1", "2")) else 1)
        for one in refits:
            pool = sum(metrics["images_in_role"][role] for role in ("train", "search"))
            assert one["images"] >= 0.9 * 2 * (pool // 16 * 16)
