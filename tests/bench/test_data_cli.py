"""``gensoup data import`` as it is typed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gensoup.bench.data_cli import app
from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.importers.kvasir_v2 import CLASSES
from gensoup.runtime.errors import DataError, GenSoupError, UsageError


@pytest.fixture
def kvasir(tmp_path: Path, save: Callable[[Path, np.ndarray], Path]) -> Path:
    root = tmp_path / "kvasir-dataset-v2"
    for number, label in enumerate(CLASSES):
        save(root / label / f"{number}.jpg", np.full((16, 16, 3), number * 20, np.uint8))
    return root


def test_it_tables_the_classes_and_makes_the_folder(kvasir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app, ["import", "kvasir-v2", str(kvasir), "--out", str(out), "--classes", "polyps, esophagitis"]
    )
    assert done.exit_code == 0, done.output
    text = re.sub(r"\s+", " ", done.output)
    assert "2 images" in text and "polyps" in text and "no groups.csv" in text and "gensoup data audit" in text
    assert LabelledFolder.open(out).labels == ("esophagitis", "polyps")


@pytest.mark.parametrize(
    ("arguments", "named", "kind"),
    [
        (["kvasir"], "did you mean 'kvasir-v2'", UsageError),
        (["kvasir-v2", "--classes", " , "], "--classes", UsageError),
        (["kvasir-v2", "--classes", "polyps,cecum"], "did you mean 'normal-cecum'", UsageError),
        (["kvasir-v2", "--magnification", "40"], "--magnification", UsageError),
        (["isic-2019"], "does not look like ISIC-2019", DataError),
    ],
)
def test_mistakes_are_named_and_leave_nothing(
    kvasir: Path, tmp_path: Path, arguments: list[str], named: str, kind: type[Exception]
) -> None:
    layout, *options = arguments
    done = CliRunner().invoke(app, ["import", layout, str(kvasir), "--out", str(tmp_path / "out"), *options])
    assert isinstance(done.exception, kind) and named in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["kvasir-dataset-v2"]


def test_a_way_to_link_that_is_none(kvasir: Path, tmp_path: Path) -> None:
    arguments = ["import", "kvasir-v2", str(kvasir), "--out", str(tmp_path / "out"), "--link", "soft"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2 and "--link" in done.output


@pytest.mark.parametrize("video", ["x.mp4", "file/x.avi", "."])
def test_a_video_that_cannot_be_written_is_refused_before_anything_is_drawn(tmp_path: Path, video: str) -> None:
    (tmp_path / "file").touch()
    refused = CliRunner().invoke(app, ["synth", str(tmp_path / "out"), "--video", str(tmp_path / video)])
    assert isinstance(refused.exception, GenSoupError) and str(tmp_path / video) in str(refused.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
