"""The run's memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from gensoup.runtime.errors import GenSoupError, WriteError
from gensoup.train.database import DATABASE, SCHEMA_VERSION, STUDY
from gensoup.train.genes import NAMES, Alphabet
from gensoup.train.ledger import Ledger, Record

GENES = {name: (number + 1) / 7 for number, name in enumerate(NAMES)}
RECIPE = Alphabet(("squeezenet1_1",)).decode(GENES).to_dict()
WEIGHTS = {"w": torch.tensor([[1.5, -2.25]]), "n": torch.tensor(3)}


def record(index: int, **changes: object) -> Record:
    values = {"mcc": 0.1 + 0.2, "nll": 1 / 3, "temperature": 0.7, "latency_ms": 3.3}
    place = changes.pop("place", ("search", 1, index))
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


def test_a_refit_is_no_point_of_the_study_and_no_optimum(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add(record(0, mcc=-0.2), {})
    ledger.add(record(0, place=("refit", 1, 0), mcc=0.0, nll=math.inf), {"": WEIGHTS})
    study = optuna.load_study(study_name=STUDY, storage=f"sqlite:///{tmp_path / DATABASE}")
    assert study.best_value == -0.2
    assert [(trial.state.name, trial.value) for trial in study.trials] == [("COMPLETE", -0.2), ("PRUNED", None)]
    refit = Ledger(tmp_path).get(("refit", 1, 0))
    assert refit is not None and refit.complete and not refit.scored


def test_seconds_and_images_go_on_from_process_to_process(tmp_path: Path) -> None:
    first = Ledger(tmp_path, since=time.monotonic() - 100)
    first.add(record(0), {})
    assert first.images_added == 999 and 100 <= first.seconds < 110
    del first  # killed: what came after the last individual is not known
    second = Ledger(tmp_path, since=time.monotonic() - 50)
    assert 150 <= second.seconds < 160 and second.images_added == 0
    second.add(record(1), {})
    assert 150 <= Ledger(tmp_path).seconds < 160


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


def test_it_says_what_it_is_of(tmp_path: Path) -> None:
    about = {"labels": ["polyp", "ü"], "data_fingerprint": "0f", "settings": {"seed": 0, "sizes": [32]}}
    Ledger(tmp_path, about).add(record(0), {})
    Ledger(tmp_path, {"labels": ["other"]})  # there already: it stays what it was
    study = optuna.load_study(study_name=STUDY, storage=f"sqlite:///{tmp_path / DATABASE}")
    assert study.user_attrs == {"schema_version": SCHEMA_VERSION, **about, "seconds": pytest.approx(0, abs=60)}
    assert study.trials[0].user_attrs["name"] == "search-01-00"
    assert study.trials[0].user_attrs["recipe"] == RECIPE


def test_a_ledger_that_cannot_be_finished_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(study: object, name: str, value: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(optuna.Study, "set_user_attr", killed)
    with pytest.raises(KeyboardInterrupt):
        Ledger(tmp_path)
    assert list(tmp_path.iterdir()) == []


def refusal(folder: Path) -> str:
    """What is said of the ledger there, in one line; it is left as it was."""
    before = hashlib.sha256((folder / DATABASE).read_bytes()).hexdigest()
    with pytest.raises(GenSoupError, match=r"study\.db: ") as error:
        Ledger(folder)
    assert "\n" not in str(error.value)
    assert hashlib.sha256((folder / DATABASE).read_bytes()).hexdigest() == before
    return str(error.value)


def test_a_newer_ledger_asks_for_an_update(tmp_path: Path) -> None:
    Ledger(tmp_path)
    study = optuna.load_study(study_name=STUDY, storage=f"sqlite:///{tmp_path / DATABASE}")
    study.set_user_attr("schema_version", SCHEMA_VERSION + 1)
    assert f"written by a newer GenSoup (ledger schema {SCHEMA_VERSION + 1}): update gensoup" in refusal(tmp_path)


def test_a_database_of_a_newer_optuna_is_one_line(tmp_path: Path) -> None:
    Ledger(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("UPDATE version_info SET schema_version = 99, library_version = '99.0'")
        connection.execute("UPDATE alembic_version SET version_num = 'v99.0.a'")
        connection.commit()
    assert "not a ledger that can be used" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["another-study", STUDY])
def test_another_programs_study_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    optuna.create_study(study_name=name, storage=f"sqlite:///{tmp_path / DATABASE}").ask()
    assert "another program's database" in refusal(tmp_path)


@pytest.mark.parametrize("tables", [0, 1])
def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path, tables: int) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        for number in range(tables):
            connection.execute(f"CREATE TABLE bookmarks{number} (place TEXT)")
        connection.commit()
    (tmp_path / DATABASE).touch()  # without a table SQLite leaves an empty file
    assert "another program's database" in refusal(tmp_path)


def test_no_room_at_the_commit_is_one_line_and_the_individual_is_not_there(tmp_path: Path) -> None:
    """A limit on the size of files, in this process: SQLite reports it like a full disk."""
    resource = pytest.importorskip("resource")
    ledger = Ledger(tmp_path)
    ledger.add(record(0), {})
    size = (tmp_path / DATABASE).stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        with pytest.raises(WriteError, match=r"study\.db: cannot be written \(.*\); free some space there") as error:
            for number in range(1, 50):
                ledger.add(record(number, extra={"note": "x" * 20000}), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(error.value) and ledger.get(("search", 1, number)) is None
    assert [one.place[2] for one in Ledger(tmp_path).records()] == list(range(number))
    ledger.add(record(number), {})
    assert len(Ledger(tmp_path).records()) == number + 1


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write")
def test_a_ledger_that_cannot_be_made_is_one_line() -> None:
    with pytest.raises(WriteError, match=r"study\.db: cannot be written") as error:
        Ledger(Path("/proc/self"))
    assert "\n" not in str(error.value)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.slow
def test_optuna_dashboard_opens_the_ledger_of_a_run(tiny_run: Any) -> None:
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [Path(sys.executable).with_name("optuna-dashboard"), f"sqlite:///{tiny_run.folder / DATABASE}"]
    with subprocess.Popen(
        [*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:

            def get(path: str) -> str:
                with urllib.request.urlopen(address + path, timeout=60) as answer:
                    assert answer.status == 200
                    return str(answer.read().decode())

            for _ in range(600):
                assert server.poll() is None
                try:
                    studies = json.loads(get("/api/studies"))["study_summaries"]
                    break
                except urllib.error.URLError:  # not listening yet
                    time.sleep(0.1)
            (summary,) = studies
            assert summary["study_name"] == STUDY
            identity = summary["study_id"]
            assert "<html" in get(f"/dashboard/studies/{identity}").lower()
            study = json.loads(get(f"/api/studies/{identity}?after=0"))
        finally:
            server.kill()
    names = {one["name"] for one in tiny_run.metrics["individuals"]}
    found = [{each["key"]: each["value"] for each in trial["user_attrs"]} for trial in study["trials"]]
    assert {one["name"] for one in found} == names and len(found) == len(names)
    assert {trial["state"] for trial in study["trials"]} == {"Complete", "Pruned"}  # the refit is no point
    assert {param["name"] for param in study["trials"][0]["params"]} >= {"architecture", "learning_rate"}


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
