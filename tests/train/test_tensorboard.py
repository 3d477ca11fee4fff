"""A run's events, read back as TensorBoard reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from gensoup.runtime.errors import GenSoupError
from gensoup.train.genes import NAMES, Alphabet
from gensoup.train.ledger import Record
from gensoup.train.tensorboard import EVENTS_FILE, FOLDER, POPULATION, write_events

POPULATION_OF = (4, 3, 2)


def record(phase: str, generation: int, index: int, **changes: Any) -> Record:
    rng = np.random.default_rng([generation, index])
    genes = {name: float(rng.random()) for name in NAMES}
    values: dict[str, Any] = {"mcc": 0.1 * generation + 0.01 * index, "nll": 1 / (1 + generation), "images": 10}
    recipe = Alphabet(("squeezenet1_1", "mobilenet_v3_small")).decode(genes).to_dict()
    place = (phase, generation, index)
    return Record(place, genes, recipe, (), "", 64, 10**9, seconds=1.5, **{**values, **changes})


def search(generations: int) -> list[Record]:
    return [record("search", number, index) for number in range(generations) for index in range(POPULATION_OF[number])]


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={TENSORS: 0, "scalars": 0, "histograms": 0})
    return events.Reload()


def points(run: Path, tag: str) -> list[tuple[int, float]]:
    return [
        (event.step, pytest.approx(event.value, abs=1e-6)) for event in read(run / FOLDER / POPULATION).Scalars(tag)
    ]


def test_generations_individuals_and_genes_are_there(tmp_path: Path) -> None:
    records = search(3)
    assert write_events(tmp_path, list(reversed(records))) == tmp_path / FOLDER
    assert points(tmp_path, "generation/best mcc") == [(0, 0.03), (1, 0.12), (2, 0.21)]
    assert points(tmp_path, "generation/median mcc") == [(0, 0.015), (1, 0.11), (2, 0.205)]
    assert points(tmp_path, "generation/images") == [(0, 40), (1, 70), (2, 90)]
    assert points(tmp_path, "individual/mcc") == [(number, one.mcc) for number, one in enumerate(records)]
    assert points(tmp_path, "individual/nll") == [(number, one.nll) for number, one in enumerate(records)]
    for name in NAMES:
        expected = [(number, one.genes[name]) for number, one in enumerate(records)]
        assert points(tmp_path, f"individual/gene/{name}") == expected
    histograms = read(tmp_path / FOLDER / POPULATION).Histograms("distribution/mcc")
    assert [(one.step, one.histogram_value.num) for one in histograms] == [(0, 4), (1, 3), (2, 2)]


def test_hyperparameters_and_outcome_of_each_individual(tmp_path: Path) -> None:
    records = search(1)
    write_events(tmp_path, records)
    for one in records:
        events = read(tmp_path / FOLDER / one.name)
        assert events.Scalars("outcome/mcc")[0].value == pytest.approx(one.mcc)
        content = events.SummaryMetadata(SESSION_START_INFO_TAG).plugin_data.content
        session = HParamsPluginData.FromString(content).session_start_info.hparams
        assert session["architecture"].string_value == one.recipe["architecture"]
        assert session["learning_rate"].number_value == one.recipe["learning_rate"]


def test_a_failed_individual_has_no_score(tmp_path: Path) -> None:
    records = [*search(1), record("search", 0, 4, mcc=0.0, nll=float("inf"), reason="DivergedError: nan")]
    write_events(tmp_path, records)
    assert len(points(tmp_path, "individual/mcc")) == 4
    assert points(tmp_path, "generation/failed") == [(0, 1)]
    assert "outcome/mcc" not in read(tmp_path / FOLDER / "search-00-04").Tags()["scalars"]
    alone = tmp_path / "alone"
    write_events(alone, records[-1:])
    assert "generation/best mcc" not in read(alone / FOLDER / POPULATION).Tags()["scalars"]


def test_branches_and_final_scores_come_after_the_last_generation(tmp_path: Path) -> None:
    scores = {"test": dict.fromkeys(("mcc", "accuracy", "macro_recall", "macro_specificity", "macro_f1"), 0.75)}
    scores["test"]["calibration_error"] = 0.04
    branches = [record("branch", 20001, index, mcc=0.6 + index / 10) for index in range(2)]
    write_events(tmp_path, [*branches, *search(2)], scores)
    assert points(tmp_path, "generation/best mcc")[-1] == (2, 0.7)
    assert [step for step, _ in points(tmp_path, "individual/mcc")] == list(range(9))
    assert points(tmp_path, "final/test/mcc") == [(2, 0.75)]
    assert points(tmp_path, "final/test/calibration_error") == [(2, 0.04)]


def content(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("lost", [0, 1, 7, 300])
def test_killed_anywhere_and_resumed_leaves_the_same_points(tmp_path: Path, lost: int) -> None:
    """``lost``: bytes of the last write that never reached the disk."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for generations in (1, 2, 3):
        write_events(whole, search(generations))
    write_events(cut, search(1))
    write_events(cut, search(2))
    path = cut / FOLDER / POPULATION / EVENTS_FILE
    path.write_bytes(path.read_bytes()[: -lost or None])
    for generations in (1, 2, 3):  # a resumed run goes through all of them again
        write_events(cut, search(generations))
    assert points(cut, "individual/mcc") == [(number, one.mcc) for number, one in enumerate(search(3))]
    population = f"{FOLDER}/{POPULATION}/{EVENTS_FILE}"
    assert content(cut)[population] == content(whole)[population]
    assert content(cut).keys() == content(whole).keys()


def test_an_open_tensorboard_gets_each_point_once(tmp_path: Path) -> None:
    write_events(tmp_path, search(1))
    events = read(tmp_path / FOLDER / POPULATION)
    for generations in (1, 2, 3):
        write_events(tmp_path, search(generations))
        events.Reload()
        expected: Sequence[Record] = search(generations)
        assert [event.step for event in events.Scalars("individual/mcc")] == list(range(len(expected)))


def test_a_foreign_file_in_its_place_is_replaced_and_no_folder_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / FOLDER / POPULATION / EVENTS_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    write_events(tmp_path, search(1))
    assert len(points(tmp_path, "individual/mcc")) == 4
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(GenSoupError, match="cannot be written") as error:
        write_events(tmp_path / "file", search(1))
    assert "\n" not in str(error.value)


def test_a_run_writes_them(tiny_run: Any) -> None:
    folder = tiny_run.folder / FOLDER
    individuals = tiny_run.metrics["individuals"]
    assert {path.name for path in folder.iterdir()} == {POPULATION, *(one["name"] for one in individuals)}
    events = read(folder / POPULATION)
    scored = [one for one in individuals if one["place"][0] != "refit"]  # which saw what it would be scored on
    assert len(events.Scalars("individual/mcc")) == len(scored) == len(individuals) - 1
    test = tiny_run.metrics["scores"]["test"]["mcc"]
    assert [event.value for event in events.Scalars("final/test/mcc")] == pytest.approx([test])
