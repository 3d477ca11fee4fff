"""All that decides a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gensoup.export.names import ARCHITECTURES
from gensoup.runtime.errors import GenSoupError, UsageError
from gensoup.train.genes import Scale
from gensoup.train.run_folder import CONFIG_FILE
from gensoup.train.settings import Settings


def test_round_trip(tmp_path: Path) -> None:
    settings = Settings(
        data="données/a b", sizes=(96, 128), architectures=("squeezenet1_1",), min_fps=59.94, max_macs=300.0
    )
    settings.save(tmp_path, "abc")
    assert Settings.load(tmp_path) == (settings, "abc")


def test_defaults_are_the_theses_architectures_and_its_mobile_regime() -> None:
    settings = Settings(data="data")
    assert settings.architectures == ARCHITECTURES and len(ARCHITECTURES) == 11
    assert settings.max_macs == 600 and settings.min_fps is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sizes": (1000, 1100)}, "--size 1100"),
        ({"sizes": (16,)}, "--size 16"),
        ({"architectures": ()}, "--architectures"),
        ({"init": "magic"}, "--init magic"),
        ({"generations": 0}, "--generations 0"),
        ({"population": 1}, "--population 1"),
        ({"epochs": 0.0}, "--epochs 0"),
        ({"epochs": float("nan")}, "--epochs nan"),
        ({"branch_epochs": -1.0}, "--branch-epochs -1"),
        ({"batch_size": 1}, "--batch-size 1"),
        ({"max_macs": 0.0}, "--max-macs 0"),
        ({"max_macs": 600e6}, "--max-macs 6e+08: is in millions"),
        ({"max_macs": 0.01}, "--max-macs 0.01: is in millions"),
        ({"architectures": ("squeezenet1_1", "mnasnet1_0", "squeezenet1_1")}, "squeezenet1_1 is named twice"),
        ({"optimizers": ("sgd", "sgd")}, "--optimizers: sgd is named twice"),
        ({"losses": (["cross_entropy"],)}, "--losses ['cross_entropy']: must be a name"),
        ({"sizes": (64, 64)}, "--size: 64 is named twice"),
        ({"min_fps": -64.0}, "--min-fps -64"),
        ({"threads": 0}, "--threads 0"),
        ({"seed": -1}, "--seed -1"),
        ({"fit": "squash"}, "--fit squash"),
        ({"losses": ("cross_entrpy",)}, "did you mean cross_entropy"),
        ({"optimizers": ("adamx",)}, "did you mean"),
        ({"optimizers": ()}, "--optimizers"),
        ({"redraw": {"learning_rat": 0.1}}, "did you mean learning_rate"),
        ({"redraw": {"loss": 1.5}}, "redraw, loss 1.5"),
        ({"scales": {"strength": Scale("linear", 0, 1)}}, "'strength' is unknown"),
        ({"inherit": "all"}, "--inherit all"),
        ({"max_latency_ms": 0.0}, "--max-latency-ms 0"),
        ({"crossover_rate": 1.5}, "--crossover-rate 1.5"),
        ({"refit_epochs": -1.0}, "--refit-epochs -1"),
    ],
)
def test_values_that_make_no_sense_name_their_option(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError) as error:
        replace(Settings(data="data"), **changes)
    assert named in str(error.value) and "\n" not in str(error.value)


def test_differences_name_what_changed() -> None:
    one = Settings(data="data")
    assert one.differences(one) == []
    assert one.differences(replace(one, seed=3, sizes=(64,))) == ["sizes: [128] → [64]", "seed: 0 → 3"]


@pytest.mark.parametrize("text", ["", "{", "- 1\n", "size: 3\n", "schema_version: 3\ndata_fingerprint: x\nfoo: 1\n"])
def test_a_damaged_config_is_one_line_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / CONFIG_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(GenSoupError, match=r"config\.yaml") as error:
        Settings.load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_newer_config_asks_for_an_update(tmp_path: Path) -> None:
    Settings(data="data").save(tmp_path, "abc")
    path = tmp_path / CONFIG_FILE
    path.write_text(
        path.read_text(encoding="utf-8").replace("schema_version: 3", "schema_version: 99"), encoding="utf-8"
    )
    with pytest.raises(GenSoupError, match="update gensoup"):
        Settings.load(tmp_path)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(GenSoupError, match=r"config\.yaml"):
        Settings.load(tmp_path)


def test_the_stricter_limit_counts() -> None:
    settings = Settings(data="data", min_fps=50.0, max_latency_ms=30.0)
    assert settings.limit_ms == 20.0 and settings.rate_hz == 50.0
    assert replace(settings, max_latency_ms=8.0).limit_ms == 8.0
    assert replace(settings, min_fps=None).rate_hz == pytest.approx(1e3 / 30)
    assert Settings(data="data").limit_ms is None


def test_image_sizes_of_the_thesis() -> None:
    soup = Settings(data="data", sizes=(302,), first_size=224 / 302, size_step=1, generations=20, steady_generations=10)
    sizes = [soup.size_of(generation, 302) for generation in range(20)]
    assert sizes[0] == 224 and sizes[10:] == [302] * 10 and sizes == sorted(sizes)
    cnn = Settings(data="data", sizes=(448,), first_size=0.25, last_size=0.25, generations=25)
    assert {cnn.size_of(generation, 448) for generation in range(25)} == {112}


def test_image_sizes_are_the_deploy_sizes_and_those_that_grow_to_them() -> None:
    growing = Settings(data="data", generations=4, steady_generations=1, first_size=0.5, last_size=0.75)
    assert growing.image_sizes([128]) == [64, 80, 96, 128]
    assert growing.image_sizes([128, 64]) == [32, 48, 64, 80, 96, 128]
    assert replace(growing, first_size=1.0, last_size=1.0).image_sizes([128]) == [128]


def test_a_race_begins_with_one_of_each_architecture_at_least() -> None:
    few = Settings(data="data", population=4)
    assert (few.beginners(3), few.beginners(11)) == (4, 11)
    assert replace(few, start="drawn").beginners(11) == 4
