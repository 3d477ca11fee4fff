"""With astrocytes, without, and with shuffled counters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gensoup.runtime.errors import UsageError
from gensoup.train.ablation import ABLATION_FILE, ARMS, ablate, differences
from gensoup.train.settings import Settings


def silent(stage: str, done: int, total: int) -> None:
    """Shows nothing."""


@pytest.mark.slow
def test_three_runs_and_their_differences(shapes: Path, make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    settings = make_settings(
        shapes, generations=1, population=2, branch_epochs=0.5, refit_epochs=0.0, astrocyte_form="thesis"
    )
    stages: set[str] = set()
    out = tmp_path / "ablation"
    result = ablate(settings, out, progress=lambda stage, done, total: stages.add(stage))
    assert json.loads((out / ABLATION_FILE).read_text(encoding="utf-8")) == result
    assert set(result["arms"]) == set(ARMS) and "shuffled: search" in stages
    arms = result["arms"]
    assert result["differences"] == {
        name: arms["with"]["test_mcc"] - arms[name]["test_mcc"] for name in ("without", "shuffled")
    }
    assert arms["without"]["potentiated"] == arms["without"]["attenuated"] == 0
    assert 0 < arms["with"]["potentiated"] < 1 and 0 < arms["shuffled"]["potentiated"] < 1
    first = {name: load_file(out / name / "individuals" / "search-00-00.safetensors") for name in ARMS}
    for one, other in (("with", "without"), ("with", "shuffled"), ("without", "shuffled")):
        assert any(not torch.equal(value, first[other][key]) for key, value in first[one].items())
    genes = [
        json.loads((out / name / "metrics.json").read_text(encoding="utf-8"))["individuals"][-1]["genes"]
        for name in ARMS
    ]
    assert genes[0] == genes[1] == genes[2] and {"strong", "weak"} <= set(genes[0])
    assert ablate(settings, out, resume=True, progress=silent) == result
    with pytest.raises(UsageError, match="--resume"):
        ablate(settings, out, progress=silent)


def test_differences_are_against_each_control() -> None:
    arms = {"with": {"test_mcc": 0.5}, "without": {"test_mcc": 0.75}, "shuffled": {"test_mcc": 0.25}}
    assert differences(arms) == {"without": -0.25, "shuffled": 0.25}
