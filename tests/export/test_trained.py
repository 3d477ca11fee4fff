"""What a run hands to the export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gensoup.export.architectures import initial_model
from gensoup.export.run_files import MODEL_FILE
from gensoup.export.trained import TrainedModel
from gensoup.runtime.errors import GenSoupError
from gensoup.runtime.preprocess import Preprocess

TRAINED = TrainedModel(
    "shufflenet_v2_x0_5",
    ("7", "lésion plate"),
    Preprocess(48, "crop"),
    1.25,
    10,
    20,
    "données",
    thresholds=(0.5, 0.25),
    metrics={"mcc": 0.5},
    provenance={"seed": 3},
)


def weights(name: str = "shufflenet_v2_x0_5", classes: int = 2) -> dict[str, torch.Tensor]:
    return initial_model(name, classes, seed=0, pretrained=None).state_dict()


def test_round_trip(tmp_path: Path) -> None:
    state = weights()
    TRAINED.save(tmp_path, state)
    trained, model = TrainedModel.load(tmp_path)
    assert trained == TRAINED
    assert not model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_an_unfinished_run_says_how_to_finish_it(tmp_path: Path) -> None:
    with pytest.raises(GenSoupError, match=r"no finished run .*model\.safetensors.*train --resume"):
        TrainedModel.load(tmp_path)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.9999])
def test_a_model_cut_short_is_one_line_that_names_it(tmp_path: Path, part: float) -> None:
    TRAINED.save(tmp_path, weights())
    path = tmp_path / MODEL_FILE
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(GenSoupError, match=r"model\.safetensors: not a model of this GenSoup") as error:
        TrainedModel.load(tmp_path)
    assert "\n" not in str(error.value)


def test_foreign_weights_without_description_are_refused(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / MODEL_FILE)
    with pytest.raises(GenSoupError, match="not a model of this GenSoup"):
        TrainedModel.load(tmp_path)


@pytest.mark.parametrize("state", [weights("squeezenet1_1"), weights(classes=3)], ids=["architecture", "classes"])
def test_weights_of_another_network_are_refused(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    TRAINED.save(tmp_path, state)
    with pytest.raises(GenSoupError, match="not a model of this GenSoup"):
        TrainedModel.load(tmp_path)
