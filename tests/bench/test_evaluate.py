"""Accuracy of the deployed classifier on folders of real image files, and ``gensoup eval``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner

from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.eval_cli import eval_command
from gensoup.bench.evaluate import evaluate
from gensoup.bench.metrics import SUMMARY_NAMES
from gensoup.runtime.bundle import read_bundle, write_bundle
from gensoup.runtime.classifier import Classifier
from gensoup.runtime.engines import load_engine
from gensoup.runtime.errors import DataError, EngineError, GenSoupError
from gensoup.runtime.images import read_image
from gensoup.runtime.preprocess import Preprocess

LABELS = ("blue", "green", "red")


def save(path: Path, color: int, seed: int = 0) -> None:
    """A picture that is bright in one BGR channel."""
    frame = np.random.default_rng(seed).integers(0, 40, (48, 64, 3), dtype=np.uint8)
    frame[..., color] += 180
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, frame)[1].tobytes())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five pictures a class, all of them right but ``red/0.png``, which is blue."""
    folder = tmp_path / "data"
    for color, label in enumerate(LABELS):
        for index in range(5):
            wrong = label == "red" and index == 0
            save(folder / label / f"{index}.png", 0 if wrong else color, seed=10 * color + index)
    return folder


@pytest.fixture
def classifier(tiny_bundle: Path) -> Classifier:
    return Classifier.load(tiny_bundle, threads=1)


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(eval_command)
    return app


def test_scores_are_those_of_the_classifier(classifier: Classifier, data: Path) -> None:
    steps: list[tuple[int, int]] = []
    evaluation = evaluate(classifier, LabelledFolder.open(data), lambda done, total: steps.append((done, total)))
    assert evaluation.scores.confusion_matrix.tolist() == [[5, 0, 0], [0, 5, 0], [1, 0, 4]]
    assert evaluation.scores.accuracy == pytest.approx(14 / 15)
    assert evaluation.skipped == ()
    assert evaluation.frames_per_second == pytest.approx(15 / (evaluation.latency_ms.sum() / 1e3))
    assert evaluation.latency_ms.shape == (15,) and (evaluation.latency_ms > 0).all()
    assert evaluation.absent == ()
    assert evaluation.certain is None  # this bundle has no thresholds
    assert steps == [(number, 15) for number in range(1, 16)]
    for name, target, row in zip(evaluation.files, evaluation.targets, evaluation.probabilities, strict=True):
        assert LABELS[target] == name.split("/")[0]
        assert row == pytest.approx(classifier(read_image(data / name)).probabilities)


def test_classes_are_matched_by_name_not_by_position(classifier: Classifier, data: Path) -> None:
    for path in (data / "blue").iterdir():
        path.unlink()
    (data / "blue").rmdir()
    evaluation = evaluate(classifier, LabelledFolder.open(data))
    assert evaluation.scores.confusion_matrix.tolist() == [[0, 0, 0], [0, 5, 0], [1, 0, 4]]
    assert set(evaluation.targets.tolist()) == {1, 2}
    assert evaluation.absent == ("blue",)


def test_order_of_the_bundles_labels_holds(data: Path, tiny_model: bytes) -> None:
    # The network's outputs are blue, green, red; called thus, "red" must be looked for at output 0.
    crooked = Classifier(("red", "blue", "green"), Preprocess(32), load_engine(tiny_model, 1))
    confusion = evaluate(crooked, LabelledFolder.open(data)).scores.confusion_matrix
    assert confusion.tolist() == [[1, 0, 4], [5, 0, 0], [0, 5, 0]]


def test_broken_images_are_named_and_skipped(classifier: Classifier, data: Path) -> None:
    whole = (data / "green/1.png").read_bytes()
    (data / "green/1.png").write_bytes(whole[: len(whole) // 2])
    (data / "red/0.png").write_bytes(b"")
    (data / "blue/text.jpg").write_text("no picture")
    evaluation = evaluate(classifier, LabelledFolder.open(data))
    assert evaluation.scores.n == len(evaluation.files) == 13
    assert evaluation.scores.accuracy == 1
    assert [line.split(": ")[0] for line in evaluation.skipped] == ["blue/text.jpg", "green/1.png", "red/0.png"]
    assert all(line.count(": ") == 1 for line in evaluation.skipped)


def test_all_broken_is_an_error_that_names_one(classifier: Classifier, data: Path) -> None:
    for path in data.rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"none of its 15 images can be read.*blue/0\.png"):
        evaluate(classifier, LabelledFolder.open(data))


def test_a_class_the_bundle_does_not_know_names_both_lists(classifier: Classifier, data: Path) -> None:
    save(data / "violet" / "a.png", 0)
    with pytest.raises(DataError) as caught:
        evaluate(classifier, LabelledFolder.open(data))
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(data), "'violet'", "'blue', 'green', 'red'"):
        assert word in message


def test_groups_are_what_the_intervals_draw(classifier: Classifier, data: Path) -> None:
    alone = evaluate(classifier, LabelledFolder.open(data)).scores
    lines = [f"{label}/{index}.png,patient {index // 3}" for label in LABELS for index in range(5)]
    (data / "groups.csv").write_text("\n".join(["file,group", *lines]))
    grouped = evaluate(classifier, LabelledFolder.open(data)).scores
    assert grouped.accuracy == alone.accuracy
    assert grouped.intervals["accuracy"] != alone.intervals["accuracy"]


def test_an_engine_that_gives_no_numbers_is_an_error(data: Path) -> None:
    class Broken:
        name = "broken"

        def infer(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.full(3, np.nan, np.float32)

    with pytest.raises(EngineError, match=r"no numbers for blue/0\.png"):
        evaluate(Classifier(LABELS, Preprocess(32), Broken()), LabelledFolder.open(data))


def test_command_shows_tables_and_writes_json(app: typer.Typer, tiny_bundle: Path, data: Path, tmp_path: Path) -> None:
    (data / "red/9.jpg").write_text("no picture")
    (data / "notes.txt").write_text("x")
    report = tmp_path / "out" / "metrics.json"
    result = CliRunner().invoke(app, [str(tiny_bundle), str(data), "--json", str(report), "--threads", "1"])
    assert result.exit_code == 0, result.output
    for word in ("Matthews", "Confusion matrix", "red/9.jpg", "15 images", "1 other files", "0.9333"):
        assert word in result.output
    values = json.loads(report.read_text())
    promised = {"n", *SUMMARY_NAMES, "confusion_matrix", "calibration_error", "intervals"}
    assert promised <= set(values)
    assert values["labels"] == list(LABELS)
    assert values["n"] == 15
    assert values["ran"] == {"fp32": 1} and "onnxruntime-cpu, fp32 (runs 1 fp32): " in result.output
    assert values["confusion_matrix"] == [[5, 0, 0], [0, 5, 0], [1, 0, 4]]
    assert len(values["skipped"]) == 1
    low, high = values["intervals"]["accuracy"]
    assert low < values["accuracy"] <= high


@pytest.fixture
def with_thresholds(tiny_bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the tiny bundle with thresholds of blue, green and red."""

    def write(*thresholds: float) -> Path:
        bundle = read_bundle(tiny_bundle)
        manifest = replace(bundle.manifest, thresholds=dict(zip(LABELS, thresholds, strict=True)))
        path = tmp_path / "sure.gensoup"
        write_bundle(path, manifest, bundle.models, bundle.golden)
        return path

    return write


def test_thresholds_part_the_certain_from_the_rest(with_thresholds: Callable[..., Path], data: Path) -> None:
    # Every answer has a probability over .99; blue is never certain, and so the one wrong answer, blue, is not either.
    classifier = Classifier.load(with_thresholds(1.0, 0.5, 0.9), threads=1)
    evaluation = evaluate(classifier, LabelledFolder.open(data))
    assert evaluation.scores.confusion_matrix.tolist() == [[5, 0, 0], [0, 5, 0], [1, 0, 4]]
    certain = evaluation.certain
    assert certain is not None and certain.scores is not None
    assert certain.scores.confusion_matrix.tolist() == [[0, 0, 0], [0, 5, 0], [0, 0, 4]]
    assert certain.coverage == pytest.approx(9 / 15)
    assert certain.class_coverage.tolist() == pytest.approx([0, 1, 0.8])
    assert certain.called.tolist() == [
        file.startswith(("green", "red")) and file != "red/0.png" for file in evaluation.files
    ]


def test_thresholds_are_in_the_report(
    app: typer.Typer, with_thresholds: Callable[..., Path], data: Path, tmp_path: Path
) -> None:
    report = tmp_path / "metrics.json"
    result = CliRunner().invoke(app, [str(with_thresholds(1.0, 0.5, 0.9)), str(data), "--json", str(report)])
    assert result.exit_code == 0, result.output
    for words in ("9 of 15 images called with certainty (60.0%)", "accuracy 1.0000", "0.900"):
        assert words in " ".join(result.output.split())
    values = json.loads(report.read_text())
    assert values["accuracy"] == pytest.approx(14 / 15)  # the plain metrics stay what they are
    certain = values["certain"]
    assert (certain["coverage"], certain["uncertain"], certain["n"], certain["accuracy"]) == (0.6, 6, 9, 1.0)
    assert certain["thresholds"] == {"blue": 1.0, "green": 0.5, "red": 0.9}
    assert certain["class_coverage"] == {"blue": 0.0, "green": 1.0, "red": 0.8}
    latency = values["latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]


def test_nothing_certain_is_no_crash(
    app: typer.Typer, with_thresholds: Callable[..., Path], data: Path, tmp_path: Path
) -> None:
    report = tmp_path / "metrics.json"
    result = CliRunner().invoke(app, [str(with_thresholds(1.0, 1.0, 1.0)), str(data), "--json", str(report)])
    assert result.exit_code == 0, result.output
    assert "0 of 15 images" in " ".join(result.output.split())
    assert json.loads(report.read_text())["certain"]["n"] == 0


def test_a_class_without_images_and_a_bundle_that_guesses_are_said(
    app: typer.Typer, tiny_bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    report = tmp_path / "metrics.json"
    command = [str(tiny_bundle), str(data), "--json", str(report), "--threads", "1"]
    result = CliRunner().invoke(app, command)
    assert json.loads(report.read_text())["notes"] == [] and "guessing" not in result.output
    for path in (data / "blue").iterdir():
        path.unlink()
    (data / "blue").rmdir()
    for index in range(5):  # half of each class is the other's colour
        save(data / "red" / f"{index}.png", 1 if index < 3 else 2, seed=index)
        save(data / "green" / f"{index}.png", 1 if index < 3 else 2, seed=9 + index)
    result = CliRunner().invoke(app, command)
    missing, chance = json.loads(report.read_text())["notes"]
    assert json.loads(report.read_text())["absent_classes"] == ["blue"]
    assert "has no image of 'blue', which the bundle knows" in missing and chance.startswith("no better than guessing")
    assert missing in result.output and chance in result.output
    assert missing.endswith("macro means are over the 2 classes present")
    assert json.loads(report.read_text())["macro_over"] == ["green", "red"]
    assert "macro means over 2 of 3 classes" in result.output
    assert re.search(r"blue +│ +0 +│ +— +│ +— +│ +— +│ +—", result.output)


def test_command_raises_errors_of_ours(app: typer.Typer, tiny_bundle: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tiny_bundle), str(tmp_path / "nothing")])
    assert isinstance(result.exception, GenSoupError)
    assert "no such folder" in str(result.exception)


def test_labels_with_brackets_are_shown_as_they_are(
    app: typer.Typer, tiny_model: bytes, data: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = read_bundle(tiny_bundle)
    path = tmp_path / "named.gensoup"
    write_bundle(path, replace(bundle.manifest, labels=("[red]", "[/b]", "c")), {"fp32": tiny_model}, bundle.golden)
    for old, new in zip(LABELS, ("[red]", "x", "c"), strict=True):
        (data / old).rename(data / new)
    for path_ in (data / "x").iterdir():
        path_.rename(data / "c" / f"x{path_.name}")
    (data / "x").rmdir()
    result = CliRunner().invoke(app, [str(path), str(data)])
    assert result.exit_code == 0, result.output
    assert "[red]" in result.output
    assert "[/b]" in result.output
