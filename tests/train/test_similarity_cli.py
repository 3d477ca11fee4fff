"""``gensoup train similarity``, beside ``gensoup train DATA``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gensoup.export.architectures import initial_model
from gensoup.export.trained import TrainedModel
from gensoup.runtime.preprocess import Preprocess

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def save(folder: Path, architecture: str, size: int, seed: int = 0) -> Path:
    """A run folder with an untrained network."""
    model = initial_model(architecture, 3, seed=seed, pretrained=None)
    TrainedModel(architecture, ("a", "b", "c"), Preprocess(size), 1.0, 1, 1, "data").save(folder, model.state_dict())
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        "first": save(folder / "first", "shufflenet_v2_x0_5", 64),
        "second": save(folder / "second", "shufflenet_v2_x0_5", 64, seed=1),
        "larger": save(folder / "larger", "shufflenet_v2_x0_5", 96),
        "other": save(folder / "other", "squeezenet1_1", 128),
    }


def test_one_architecture_layer_by_layer(gensoup: Run, runs: dict[str, Path], shapes: Path, tmp_path: Path) -> None:
    result = tmp_path / "similarity.json"
    code, out, err = gensoup("train", "similarity", runs["first"], runs["second"], shapes, "--json", result)
    assert code == 0, err
    values = json.loads(result.read_text(encoding="utf-8"))
    assert values["paired"] and values["images"] == 120 and values["skipped"] == {}
    assert values["a"] == {"run": str(runs["first"]), "architecture": "shufflenet_v2_x0_5"}
    compared = {one["layer_a"]: one for one in values["layers"] if one["similarity"] is not None}
    assert len(compared) > 10
    for name, one in compared.items():
        assert 0 < one["chance"] < one["similarity"] < 1
        assert re.search(rf"{re.escape(name)} .* {one['similarity']:.3f} \({one['chance']:.2f}\)", out)
    assert f"mean over layers: {values['mean']:.3f}" in out
    assert "— conv5.0: 480 samples, 10,240 needed" in out and "give more images" in out


def test_a_run_with_itself_is_one(gensoup: Run, tiny_run: Any, tmp_path: Path) -> None:
    result = tmp_path / "similarity.json"
    arguments = ["train", "similarity", tiny_run.folder, tiny_run.folder, tiny_run.data, "--json", result]
    code, out, err = gensoup(*arguments)
    assert code == 0, err
    values = json.loads(result.read_text(encoding="utf-8"))
    assert values["mean"] == pytest.approx(1.0, abs=1e-6)
    assert set(values["skipped"]) == set(tiny_run.broken)
    for file in tiny_run.broken:
        assert f"skipped {file}: " in out


def test_two_architectures_of_two_sizes_stage_by_stage(gensoup: Run, runs: dict[str, Path], shapes: Path) -> None:
    code, out, err = gensoup("train", "similarity", runs["larger"], runs["other"], shapes, "--images", "110")
    assert code == 0, err
    assert "shufflenet_v2_x0_5 \\ squeezenet1_1" in out and "110 images" in out
    assert re.search(r"stage2 .*0\.\d{3} \(0\.\d\d\)", out)
    assert "mean over layers" not in out


def test_the_seed_draws_the_images(gensoup: Run, runs: dict[str, Path], shapes: Path, tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        options = ["--images", "40", "--seed", seed, "--json", tmp_path / name]
        assert gensoup("train", "similarity", runs["first"], runs["second"], shapes, *options)[0] == 0
        found.append(json.loads((tmp_path / name).read_text(encoding="utf-8"))["layers"])
    assert found[0] == found[1] != found[2]


def test_help_of_either_names_the_other_way(gensoup: Run) -> None:
    code, out, _ = gensoup("train", "--help")
    assert code == 0 and "gensoup train similarity A B DATA" in " ".join(out.split()) and "--generations" in out
    code, out, _ = gensoup("train", "similarity", "--help")
    assert code == 0 and " train similarity [OPTIONS]" in out and "--images" in out and "--generations" not in out
    code, out, _ = gensoup("--help")
    assert code == 0 and "train similarity" not in out


def test_a_folder_called_similarity_can_be_trained_on(
    gensoup: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("similarity").mkdir()
    for arguments in (["train", f".{os.sep}similarity", "--out", "run"], ["train", "--out", "run", "similarity"]):
        code, _, err = gensoup(*arguments)
        assert code == 70 and "similarity: the folder is empty" in err, err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere", "nowhere", "."], 70, "nowhere: no such folder"),
        (["nowhere", "nowhere"], 64, "'data'"),
        ([], 64, "'a'"),
        (["a", "b", "c", "--images", "0"], 64, "--images"),
        (["a", "b", "c", "--out", "d"], 64, "--out"),
    ],
)
def test_mistakes_are_one_line(gensoup: Run, arguments: list[str], code: int, said: str) -> None:
    got, _, err = gensoup("train", "similarity", *arguments)
    assert (got, len(err.splitlines())) == (code, 1)
    assert err.startswith("error: ") and said.lower() in err.lower() and "defect" not in err


def test_a_folder_without_a_readable_image(gensoup: Run, runs: dict[str, Path], tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.png").write_bytes(b"no image")
    code, _, err = gensoup("train", "similarity", runs["first"], runs["second"], tmp_path)
    assert code == 70 and "no image in it can be read" in err and "/x.png: " in err
