"""All that decides a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gensoup.export.architectures import ARCHITECTURES
from gensoup.runtime.errors import GenSoupError, UsageError
from gensoup.train.settings import CONFIG_FILE, Settings


def test_round_trip(tmp_path: Path) -> None:
    settings = Settings(data="données/a b", size=96, architectures=("squeezenet1_1",), min_fps=59.94, max_macs=3e8)
    settings.save(tmp_path, "abc")
    assert Settings.load(tmp_path) == (settings, "abc")


def test_defaults_are_the_theses_architectures_and_its_mobile_regime() -> None:
    settings = Settings(data="data")
    assert settings.architectures == ARCHITECTURES and len(ARCHITECTURES) == 11
    assert settings.max_macs == 600e6 and settings.min_fps is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"size": 100}, "--size 100"),
        ({"size": 16}, "--size 16"),
        ({"architectures": ()}, "--architectures"),
        ({"init": "magic"}, "--init magic"),
        ({"generations": 0}, "--generations 0"),
        ({"population": 1}, "--population 1"),
        ({"epochs": 0.0}, "--epochs 0"),
        ({"epochs": float("nan")}, "--epochs nan"),
        ({"branch_epochs": -1.0}, "--branch-epochs -1"),
        ({"batch_size": 1}, "--batch-size 1"),
        ({"max_macs": 0.0}, "--max-macs 0"),
        ({"min_fps": -64.0}, "--min-fps -64"),
        ({"threads": 0}, "--threads 0"),
        ({"seed": -1}, "--seed -1"),
        ({"fit": "squash"}, "--fit squash"),
    ],
)
def test_values_that_make_no_sense_name_their_option(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError) as error:
        replace(Settings(data="data"), **changes)
    assert named in str(error.value) and "\n" not in str(error.value)


def test_differences_name_what_changed() -> None:
    one = Settings(data="data")
    assert one.differences(one) == []
    assert one.differences(replace(one, seed=3, size=64)) == ["size: 128 → 64", "seed: 0 → 3"]


@pytest.mark.parametrize("text", ["", "{", "- 1\n", "size: 3\n", "schema_version: 1\ndata_fingerprint: x\nfoo: 1\n"])
def test_a_damaged_config_is_one_line_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / CONFIG_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(GenSoupError, match=r"config\.yaml") as error:
        Settings.load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_newer_config_asks_for_an_update(tmp_path: Path) -> None:
    Settings(data="data").save(tmp_path, "abc")
    path = tmp_path / CONFIG_FILE
    path.write_text(
        path.read_text(encoding="utf-8").replace("schema_version: 1", "schema_version: 99"), encoding="utf-8"
    )
    with pytest.raises(GenSoupError, match="update gensoup"):
        Settings.load(tmp_path)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(GenSoupError, match=r"config\.yaml"):
        Settings.load(tmp_path)
