"""With astrocytes, without, and with shuffled counters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gensoup.bench.device_profile import LatencyEstimate
from gensoup.runtime.errors import GenSoupError, UsageError
from gensoup.train import run_profile
from gensoup.train.ablation import ABLATION_FILE, ablate, check_alphabets, differences
from gensoup.train.report import REPORT_FILE
from gensoup.train.result_table import ablation_notes
from gensoup.train.run_folder import ARMS
from gensoup.train.run_profile import GIVEN_FILE, PROFILE_FILE
from gensoup.train.settings import Settings


def silent(stage: str, done: int, total: int) -> None:
    """Shows nothing."""


@pytest.mark.slow
def test_three_runs_and_their_differences(
    shapes: Path, make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(
        shapes, generations=1, population=2, branch_epochs=0.5, refit_epochs=0.0, astrocyte_form="thesis", min_fps=20.0
    )
    probed: list[bytes] = []

    def measured(graph: bytes, *arguments: object, **options: object) -> LatencyEstimate:
        probed.append(graph)  # another number each time, as on a real machine
        return LatencyEstimate(1.0, 2.0, 3.0 + len(probed), 100, 0)

    monkeypatch.setattr(run_profile, "probe", measured)
    stages: set[str] = set()
    out = tmp_path / "ablation"
    result = ablate(settings, out, progress=lambda stage, done, total: stages.add(stage))
    assert json.loads((out / ABLATION_FILE).read_text(encoding="utf-8")) == result
    assert set(result["arms"]) == set(ARMS) and "shuffled: search" in stages
    assert len(probed) == 1 and (out / PROFILE_FILE).exists()
    for name in ARMS:
        assert (out / name / GIVEN_FILE).read_bytes() == (out / PROFILE_FILE).read_bytes()
        assert (out / name / REPORT_FILE).stat().st_size > 10_000
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
    assert ablate(settings, out, resume=True, progress=silent) == result and len(probed) == 1
    with pytest.raises(UsageError, match="--resume"):
        ablate(settings, out, progress=silent)


def test_astrocytes_that_never_acted_are_said() -> None:
    acted = {"potentiated": 0.0, "attenuated": 0.1, "notes": ["test: no better than guessing"]}
    idle = {"potentiated": 0.0, "attenuated": 0.0, "notes": []}
    assert ablation_notes({"arms": {"with": acted, "without": idle}}) == ["with: test: no better than guessing"]
    (line,) = ablation_notes({"arms": {"with": idle, "without": idle}})
    assert "no filter passed the threshold" in line


def test_differences_are_against_each_control() -> None:
    arms = {"with": {"test_mcc": 0.5}, "without": {"test_mcc": 0.75}, "shuffled": {"test_mcc": 0.25}}
    assert differences(arms) == {"without": -0.25, "shuffled": 0.25}


def test_arms_that_chose_from_other_networks_compare_with_nothing() -> None:
    check_alphabets({"with": {"a": "1"}, "without": {"a": "1"}})
    for other in ({"a": "2"}, {"b": "1"}, {"a": "1", "b": "1"}):
        with pytest.raises(GenSoupError, match="'with' and 'without' chose from other") as error:
            check_alphabets({"with": {"a": "1"}, "without": other})
        assert "\n" not in str(error.value)


def test_an_ablation_that_cannot_begin_leaves_nothing_behind(
    shapes: Path, make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = LatencyEstimate(99.0, 99.0, 99.0, 100, 0)
    monkeypatch.setattr(run_profile, "probe", lambda *arguments, **options: slow)
    with pytest.raises(GenSoupError, match="no architecture meets the limits"):
        ablate(make_settings(shapes, min_fps=64.0), tmp_path / "out", progress=silent)
    with pytest.raises(UsageError, match="--resume: no run in"):
        ablate(make_settings(shapes), tmp_path / "out", resume=True, progress=silent)
    assert list(tmp_path.iterdir()) == []
