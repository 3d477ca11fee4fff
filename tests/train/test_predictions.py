"""The predictions that a run leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gensoup.runtime.errors import GenSoupError
from gensoup.train.conclusion import PREDICTIONS_FILE
from gensoup.train.predictions import read_predictions

LABELS = ("a, b", "c")
HEADER = '"file","truth","predicted","p(a, b)","p(c)"\n'


def write(path: Path, rows: str) -> Path:
    path.write_text(HEADER + rows, encoding="utf-8")
    return path


def test_what_a_run_writes_is_read_back(tiny_run: Any) -> None:
    found = read_predictions(tiny_run.folder / PREDICTIONS_FILE, tiny_run.metrics["labels"])
    test = tiny_run.metrics["scores"]["test"]
    assert len(found.files) == len(found.truth) == test["n"]
    assert (found.truth == found.predicted).mean() == pytest.approx(test["accuracy"])
    assert found.losses.mean() == pytest.approx(test["negative_log_likelihood"], abs=1e-5)


def test_the_hardest_are_wrong_and_the_right_are_spread(tmp_path: Path) -> None:
    rows = "".join(f'{n}.png,"a, b","x",{p},{1 - p}\n' for n, p in enumerate([0.9, 0.1, 0.6, 0.0, 0.4, 0.7, 0.8, 0.99]))
    found = read_predictions(write(tmp_path / "p.csv", rows), LABELS)
    assert found.hardest(2) == [3, 1] and found.hardest(9) == [3, 1, 4]
    assert math.isfinite(found.losses[3])  # a probability of 0 costs much, not everything
    assert found.right(3) == [7, 6, 2] or found.right(3) == [7, 0, 2]
    assert found.right(99) == [7, 0, 6, 5, 2]
    nothing = read_predictions(write(tmp_path / "q.csv", '1.png,"c","c",0.9,0.1\n'), LABELS)
    assert nothing.right(4) == [] and nothing.hardest(4) == [0]


@pytest.mark.parametrize(
    "rows",
    ["", "1.png,other,c,.5,.5\n", '1.png,"a, b",c,half,.5\n', '1.png,"a, b"\n'],
    ids=["empty", "foreign label", "no number", "cut short"],
)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, rows: str) -> None:
    with pytest.raises(GenSoupError, match=r"p\.csv") as error:
        read_predictions(write(tmp_path / "p.csv", rows), LABELS)
    assert "\n" not in str(error.value) and "train the run again" in str(error.value)


def test_a_missing_or_binary_file_too(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    with pytest.raises(GenSoupError, match=r"p\.csv: cannot be read"):
        read_predictions(tmp_path / "p.csv", LABELS)
    (tmp_path / "p.csv").write_bytes(np.arange(128, 255, dtype=np.uint8).tobytes())
    with pytest.raises(GenSoupError, match=r"p\.csv"):
        read_predictions(tmp_path / "p.csv", LABELS)
