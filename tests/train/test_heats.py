"""Heats before generation 0."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gensoup.runtime.errors import UsageError
from gensoup.train.heats import entries, survivors
from gensoup.train.ledger import Ledger
from gensoup.train.run import train_run
from gensoup.train.settings import Settings

pytestmark = pytest.mark.usefixtures("one_thread")


def settings(data: Path, **changes: object) -> Settings:
    return Settings(
        data=str(data),
        sizes=(32,),
        architectures=("shufflenet_v2_x0_5", "squeezenet1_1"),
        init="random",
        generations=2,
        population=4,
        population_step=0,
        population_min=2,
        epochs=1.0,
        branches=0,
        refit_epochs=0.0,
        **changes,  # type: ignore[arg-type]
    )


def test_parts_double_and_join_to_one(tmp_path: Path) -> None:
    for rounds in range(4):
        values = settings(tmp_path, halving=rounds)
        parts = [values.part_of("heat", number) for number in range(rounds)] + [values.part_of("search", 0)]
        assert parts[0][0] == 0 and parts[-1][1] == 1
        assert all(one[1] == other[0] for one, other in itertools.pairwise(parts))
        assert values.part_of("search", 1) == (0.0, 1.0)
    assert [settings(tmp_path, halving=2).part_of("heat", number) for number in range(2)] == [(0, 0.25), (0.25, 0.5)]


def test_half_goes_on_but_two_at_least(tmp_path: Path) -> None:
    assert [survivors(count) for count in (12, 7, 3, 2, 1)] == [6, 4, 2, 2, 1]
    assert entries(12, settings(tmp_path, halving=3)) == [12, 6, 3, 2]


@pytest.mark.parametrize("rounds", [-1, 5, 1.5])
def test_a_number_of_heats_that_makes_no_sense_is_refused(tmp_path: Path, rounds: float) -> None:
    with pytest.raises(UsageError, match="--halving"):
        settings(tmp_path, halving=rounds)


def test_the_better_half_goes_on_from_its_weights_and_a_resumed_run_is_the_same(
    make_shapes: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "data", per_class=30, labels=("a", "b", "c"))
    chosen, calls = settings(data, halving=1), []
    metrics = train_run(chosen, tmp_path / "run", progress=lambda *call: calls.append(call))
    records = Ledger(tmp_path / "run").records()
    heats = [record for record in records if record.place[0] == "heat"]
    first = [record for record in records if record.place[:2] == ("search", 0)]
    assert len(heats) == 4 and len(first) == 2
    best = sorted(heats, key=lambda record: record.rank())[:2]
    assert {record.place[2] for record in first} == {record.place[2] for record in best}
    for record in first:
        (before,) = (one for one in heats if one.place[2] == record.place[2])
        assert record.inherited == before.name and record.genes == before.genes
        assert abs(record.images - before.images) < 20  # half of the steps each
    assert not list((tmp_path / "run" / "individuals").glob("heat-*"))
    search = [(done, total) for stage, done, total in calls if stage == "search"]
    assert search == [(number, 10) for number in range(11)]  # 4 + 2, then 4
    spent = {row["phase"]: row["images"] for row in metrics["summary"]["cost"]}
    assert spent["heat"] == sum(record.images for record in heats) and metrics["images_trained"] >= sum(spent.values())

    class Killed(BaseException):
        pass

    def kill(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("search", 5):
            raise Killed

    with pytest.raises(Killed):
        train_run(chosen, tmp_path / "other", progress=kill)
    train_run(chosen, tmp_path / "other", resume=True, progress=lambda *call: None)
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "other")]
    assert models[0] == models[1]


def test_without_heats_nothing_is_another(make_shapes: Callable[..., Path], tmp_path: Path) -> None:
    values = settings(make_shapes(tmp_path / "data", per_class=2, labels=("a", "b")))
    assert values.halving == 0 and replace(values, halving=0) == values
    assert values.part_of("search", 0) == (0.0, 1.0) and entries(7, values) == [7]
