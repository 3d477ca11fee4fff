"""The run's memory."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest
import torch

from gensoup.runtime.errors import GenSoupError
from gensoup.train.genes import NAMES, Alphabet
from gensoup.train.ledger import DATABASE, STUDY, Ledger, Record

GENES = {name: (number + 1) / 7 for number, name in enumerate(NAMES)}
RECIPE = Alphabet(("squeezenet1_1",)).decode(GENES).to_dict()
WEIGHTS = {"w": torch.tensor([[1.5, -2.25]]), "n": torch.tensor(3)}


def record(index: int, **changes: object) -> Record:
    values = {"mcc": 0.1 + 0.2, "nll": 1 / 3, "temperature": 0.7, "latency_ms": 3.3}
    place = ("search", 1, index)
    parents = ("search-00-02", "search-00-01")
    return Record(place, GENES, RECIPE, parents, "search-00-02", 64, 10**9, 999, 1.25, **{**values, **changes})  # type: ignore[arg-type]


def test_what_is_added_is_there_after_reopening_to_the_last_bit(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    added = [record(2), record(0, nll=math.inf, latency_ms=None), record(1, extra={"note": "ü"})]
    for one in added:
        ledger.add(one, {"": WEIGHTS})
    for opened in (ledger, Ledger(tmp_path)):
        assert opened.records() == sorted(added, key=lambda one: one.place)
        assert opened.get(("search", 1, 0)) == added[1]
        assert opened.get(("search", 1, 9)) is None
        restored = opened.weights("search-01-02")
        assert restored.keys() == WEIGHTS.keys()
        assert all(
            torch.equal(restored[name], value) and restored[name].dtype == value.dtype
            for name, value in WEIGHTS.items()
        )


def test_failed_individuals_are_kept_with_their_reason(tmp_path: Path) -> None:
    failed = record(4, mcc=0.0, nll=math.inf, reason="DivergedError: the loss became nan")
    Ledger(tmp_path).add(failed, {})
    (restored,) = Ledger(tmp_path).records()
    assert restored == failed and not restored.complete
    assert not (tmp_path / "individuals").exists()


def test_optuna_can_open_the_study(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add(record(0), {"": WEIGHTS})
    ledger.add(record(1, reason="RuntimeError: no"), {})
    study = optuna.load_study(study_name=STUDY, storage=f"sqlite:///{tmp_path / DATABASE}")
    done, failed = study.trials
    assert done.state is optuna.trial.TrialState.COMPLETE and done.value == 0.1 + 0.2
    assert failed.state is optuna.trial.TrialState.FAIL
    assert done.params == GENES
    assert done.user_attrs["parents"] == ["search-00-02", "search-00-01"]
    assert study.best_trial.user_attrs["place"] == ["search", 1, 0]


def test_weights_are_written_before_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)

    def killed(trial: object) -> None:
        assert ledger.weights_path("search-01-00").exists()
        assert ledger.weights_path("search-01-00-average").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger._study, "add_trial", killed)
    with pytest.raises(KeyboardInterrupt):
        ledger.add(record(0), {"": WEIGHTS, "-average": WEIGHTS})
    assert Ledger(tmp_path).records() == []
    Ledger(tmp_path).add(record(0), {"": WEIGHTS})  # trained again, the weights replaced
    assert len(Ledger(tmp_path).records()) == 1


def test_removed_weights_leave_the_record(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add(record(0), {"": WEIGHTS})
    ledger.remove_weights(["search-01-00", "search-01-77"])
    assert not ledger.weights_path("search-01-00").exists()
    assert len(Ledger(tmp_path).records()) == 1
    with pytest.raises(GenSoupError, match=r"search-01-00\.safetensors: cannot be read"):
        ledger.weights("search-01-00")


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add(record(0), {"": WEIGHTS})
    path = ledger.weights_path("search-01-00")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(GenSoupError, match=r"search-01-00\.safetensors"):
        ledger.weights("search-01-00")


@pytest.mark.parametrize("content", [b"no database at all, " * 200, b"SQLite format 3\0" + bytes(100)])
def test_a_damaged_database_is_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / DATABASE).write_bytes(content)
    with pytest.raises(GenSoupError, match=r"study\.db") as error:
        Ledger(tmp_path)
    assert "\n" not in str(error.value)


def test_a_cut_database_is_one_line_that_names_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for index in range(20):
        ledger.add(record(index), {})
    path = tmp_path / DATABASE
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(GenSoupError, match=r"study\.db") as error:
        Ledger(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(GenSoupError, match=r"study\.db"):
        Ledger(tmp_path / "nowhere")


def test_names_and_ranks() -> None:
    assert record(7).name == "search-01-07"
    best, tied, worst = record(3, mcc=0.5, nll=0.2), record(1, mcc=0.5, nll=0.3), record(0, mcc=0.4, nll=0.1)
    assert sorted([worst, tied, best], key=lambda one: one.rank()) == [best, tied, worst]
    assert sorted([best, tied], key=lambda one: one.rank("mcc")) == [tied, best]  # by place
    assert record(1).rank() < record(2).rank()  # all else equal, the earlier place
