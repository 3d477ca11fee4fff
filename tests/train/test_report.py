"""The report: one page, whole in itself."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.evaluate import evaluate, evaluation_to_dict
from gensoup.bench.measurement import GateSource, Measurement
from gensoup.bench.paced import run_paced
from gensoup.bench.tier import QUICK
from gensoup.runtime.bundle import read_bundle
from gensoup.runtime.classifier import Classifier
from gensoup.runtime.errors import GenSoupError
from gensoup.train.report import REPORT_FILE, write_report
from gensoup.train.summary import overfitting


class Page(HTMLParser):
    """What a browser would see: tags, the text, the resources."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.resources: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.resources += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def run(tiny_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shared run to write into."""
    return Path(shutil.copytree(tiny_run.folder, tmp_path_factory.mktemp("report") / "a <run> & more"))


@pytest.fixture(scope="module")
def text(run: Path) -> str:
    path = write_report(run)
    assert path == run / REPORT_FILE
    return path.read_text(encoding="utf-8")


def test_it_needs_nothing_but_itself(text: str) -> None:
    page = Page(text)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.resources
    assert all(resource.startswith(("data:image/", "#")) for resource in page.resources)
    without_namespaces = re.sub(r"xmlns(:\w+)?=\"[^\"]*\"", "", text)
    outside = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?https?://[^\"' >]*", without_namespaces)
    assert outside == [] and "@import" not in text


def test_every_section_is_there(text: str) -> None:
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    for title in (
        "Accuracy on test",
        "Did the search overfit?",
        "Accuracy against cost",
        "Convergence",
        "What the generations were made of",
        "Numeric genes over time",
        "Which genes mattered",
        "The soup",
        "What it cost",
        "Test images",
        "All individuals",
    ):
        assert title in titles
    assert "Left out by the limits" in text
    assert "Images that could not be read" in titles  # this run's dataset has two
    assert "Real-time gate" not in titles  # and was never gated
    assert "not a medical device" in text
    assert text.count("<svg") == text.count("</svg>") == 7  # untimed, too few individuals for importances


def test_it_says_what_was_left_out_and_skipped_and_reached(text: str, tiny_run: Any) -> None:
    words = Page(text).words
    for one in tiny_run.metrics["excluded"]:
        assert one["architecture"] in words and one["reason"] in words
    for file, reason in tiny_run.metrics["skipped"].items():
        assert file in words and reason in words
    assert f"{tiny_run.metrics['scores']['test']['mcc']:.3f}" in words
    for one in tiny_run.metrics["individuals"]:
        assert one["name"] in words
    for step in tiny_run.metrics["soup"]["steps"]:
        assert step["name"] in words and f"{step['loss']:.4f}" in words
    assert "too few to tell; 20 are needed" in words and "not timed" in words


def test_class_names_are_shown_as_they_are_and_never_as_markup(text: str, tiny_run: Any) -> None:
    awkward = tiny_run.metrics["labels"][2]
    assert "<b>" in awkward
    assert awkward not in text  # escaped everywhere, pictures' names included
    assert "<h1>GenSoup report: a &lt;run&gt; &amp; more</h1>" in text
    words = Page(text).words
    assert "lésion plate" in words
    assert awkward in words


def test_samples_are_small_pictures_of_the_test_images(text: str) -> None:
    assert 4 <= text.count("data:image/jpeg;base64,") <= 16
    assert len(text) < 2_000_000


def test_each_class_has_its_ratios_with_intervals(text: str, tiny_run: Any) -> None:
    rows = re.findall(r"<tr><td class=\"wrap\">.*?</tr>", text)
    test, summary = tiny_run.metrics["scores"]["test"], tiny_run.metrics["summary"]
    for place, label in enumerate(tiny_run.metrics["labels"]):
        (row,) = (
            Page(row).words
            for row in rows
            if Page(row).words.startswith(label + str(test["per_class"]["support"][place]))
        )
        for name in ("precision", "recall", "specificity", "f1"):
            low, high = summary["per_class_intervals"][name][place]
            assert f"{test['per_class'][name][place]:.3f}[{low:.3f}, {high:.3f}]" in row
        held = min(test["per_class"][name][place] for name in ("recall", "specificity")) >= 0.85
        assert row.endswith("reached") and row.endswith("not reached") != held


def test_a_moved_dataset_leaves_the_rest_standing(tiny_run: Any, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_run.folder, tmp_path / "run"))
    metrics = json.loads((copy / "metrics.json").read_text(encoding="utf-8"))
    metrics["settings"]["data"] = str(tmp_path / "nowhere")
    (copy / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    assert "no longer where the run was trained" in write_report(copy).read_text(encoding="utf-8")


def test_gate_and_evaluation_are_in_it_when_given(run: Path, tiny_run: Any, exported: Any, tmp_path: Path) -> None:
    classifier = Classifier.load(exported.path, threads=1)
    folder = LabelledFolder.open(tiny_run.data).subset(range(20))
    values = evaluation_to_dict(exported.path, classifier, folder, evaluate(classifier, folder))
    (tmp_path / "eval.json").write_text(json.dumps(values), encoding="utf-8")
    frames = [np.full((120, 160, 3), level, np.uint8) for level in (0, 90, 200)]
    trace = run_paced(classifier, frames, 50.0, 0.5, 0.1)
    source = GateSource("synthetic", "synthetic", 120, 160)
    Measurement(QUICK, 50.0, source, "onnxruntime-cpu", "fp32", "", {}, (trace,)).save(tmp_path / "trace.npz")
    gate = {
        "verdict": "FAIL", "reason": "too many <misses>", "rate_hz": 50.0, "frames": 25, "misses": 3, "drops": 1,
        "miss_rate_upper": 0.3, "longest_miss_run": 2, "engine": "onnxruntime-cpu", "capacity_fps": 123.4,
        "latency_ms": {"p50": 2.0, "p95": 20.0, "p99": None, "max": None},
    }  # fmt: skip
    (tmp_path / "bench.json").write_text(json.dumps(gate), encoding="utf-8")
    path = write_report(
        run, bench=tmp_path / "bench.json", trace=tmp_path / "trace.npz", evaluation=tmp_path / "eval.json"
    )
    words = Page(path.read_text(encoding="utf-8")).words
    for expected in (
        "Real-time gate",
        "FAIL",
        "too many <misses>",
        "onnxruntime-cpu",
        "∞",
        "deployed",
        "fp32 on ",
        "gensoup data audit",
    ):
        assert expected in words


def test_results_of_another_bundle_are_refused_with_both_hashes(run: Path, exported: Any, tmp_path: Path) -> None:
    ours = read_bundle(exported.path).manifest.provenance["model_sha256"]
    bench, scored = tmp_path / "bench.json", tmp_path / "eval.json"
    bench.write_text(json.dumps({"verdict": "PASS", "model_sha256": ours, "bundle_sha256": "a" * 64}), encoding="utf-8")
    scored.write_text(json.dumps({"confusion_matrix": [], "model_sha256": "0" * 64}), encoding="utf-8")
    with pytest.raises(GenSoupError, match=rf"eval.json: of a bundle of another run .*0000…, .*{ours[:12]}…\)"):
        write_report(run, bench=bench, evaluation=scored)
    scored.write_text(
        json.dumps({"confusion_matrix": [], "model_sha256": ours, "bundle_sha256": "b" * 64}), encoding="utf-8"
    )
    with pytest.raises(GenSoupError, match=r"bench.json: of bundle aaaaaaaaaaaa…, and .*eval.json of bbbbbbbbbbbb…"):
        write_report(run, bench=bench, evaluation=scored)


def test_an_unfinished_run_and_a_foreign_file_are_one_line(run: Path, tmp_path: Path) -> None:
    with pytest.raises(GenSoupError, match="no finished run"):
        write_report(tmp_path)
    (tmp_path / "bench.json").write_text("no JSON", encoding="utf-8")
    with pytest.raises(GenSoupError, match=r"bench\.json: not a result in JSON") as error:
        write_report(run, bench=tmp_path / "bench.json")
    assert "\n" not in str(error.value)
    (tmp_path / "eval.json").write_text('{"n": 3, "confusion_matrix": []}', encoding="utf-8")
    with pytest.raises(GenSoupError, match=r"eval\.json: not a result of `gensoup bench --json`"):
        write_report(run, bench=tmp_path / "eval.json")


def test_a_run_without_a_frame_rate_and_with_failures_draws_too(
    tiny_run: Any, tmp_path: Path, make_settings: Callable[..., Any]
) -> None:
    copy = Path(shutil.copytree(tiny_run.folder, tmp_path / "run"))
    metrics = json.loads((copy / "metrics.json").read_text(encoding="utf-8"))
    metrics["individuals"][-1] |= {"reason": "DivergedError: the <loss> became nan", "mcc": 0.0, "nll": None}
    (copy / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    assert "DivergedError: the <loss> became nan" in Page(write_report(copy).read_text(encoding="utf-8")).words


SHAPES: dict[str, dict[str, Any]] = {
    "one": {"generations": 1, "population": 1, "architectures": 1, "classes": 2},
    "failed": {"generations": 2, "population": 4, "failed": 3},
    "classes": {"classes": 24, "images": 480, "architectures": 11, "generations": 5, "timed": True},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_runs_of_any_shape_are_whole_pages(
    shape: dict[str, Any], make_run: Callable[..., Path], tmp_path: Path
) -> None:
    text = write_report(make_run(tmp_path / "run", **shape)).read_text(encoding="utf-8")
    page = Page(text)
    assert all(resource.startswith(("data:image/", "#")) for resource in page.resources)
    for number in range(shape.get("classes", 4)):
        assert f"class {number:02d}" in page.words
    assert ("not timed" in page.words) != shape.get("timed", False)
    assert page.words.count("became nan at step") == shape.get("failed", 0)
    assert len(text) < 5_000_000
    assert "nan" not in re.sub(r"became nan|nanosecond", "", page.words).lower()


@pytest.mark.slow
def test_the_largest_run_stays_a_small_page(make_run: Callable[..., Path], tmp_path: Path) -> None:
    shape = {"generations": 25, "population": 50, "classes": 24, "architectures": 11, "timed": True, "failed": 30}
    text = write_report(make_run(tmp_path / "run", **shape)).read_text(encoding="utf-8")
    assert len(text.encode()) < 5_000_000
    assert text.count("<svg") == 9


@pytest.mark.parametrize(
    ("search", "test", "said"),
    [
        ([0.8, 0.9], [0.3, 0.4], "Search flattered it"),
        ([0.3, 0.4], [0.8, 0.9], "Test was the easier"),
        ([0.4, 0.8], [0.3, 0.7], "No overfitting can be told from chance"),
        (None, None, "Too few groups to say"),
    ],
)
def test_it_says_whether_search_flattered(
    search: list[float] | None, test: list[float] | None, said: str, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "run", generations=1)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    for role, interval in (("search", search), ("test", test)):
        scores = metrics["scores"][role]
        scores["intervals"] = {} if interval is None else {"mcc": interval}
        scores["mcc"] = scores["mcc"] if interval is None else sum(interval) / 2
    metrics["summary"]["overfitting"] = overfitting(metrics)
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    words = Page(write_report(folder).read_text(encoding="utf-8")).words
    sentences = ("Search flattered it", "Test was the easier", "No overfitting can be told", "Too few groups to say")
    assert said in words and sum(sentence in words for sentence in sentences) == 1


def test_hardest_images_come_first_with_their_loss(text: str, tiny_run: Any) -> None:
    losses = [float(value) for value in re.findall(r"loss (\d+\.\d)", text)]
    wrong = sum(map(sum, tiny_run.metrics["scores"]["test"]["confusion_matrix"])) * (
        1 - tiny_run.metrics["scores"]["test"]["accuracy"]
    )
    assert len(losses) == min(8, round(wrong)) and losses == sorted(losses, reverse=True)
