"""The model card: what is known stands in it, what is not is called unknown, and names break nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from gensoup.bench.metrics import score
from gensoup.export.card import initial_weights, model_card
from gensoup.runtime.bundle import read_bundle
from gensoup.runtime.manifest import Manifest
from gensoup.runtime.preprocess import Preprocess

if TYPE_CHECKING:
    from gensoup.export.exporter import Exported

LABELS = ("polyp", "a|b <i>", "_normal_")
ROLES = {"train": ["polyp/1.jpg", "polyp/2.jpg", "a|b <i>/3.jpg"], "test": ["polyp/4.jpg", "_normal_/5.jpg"]}


@pytest.fixture
def manifest() -> Manifest:
    truth = np.array([0, 0, 0, 1, 1, 2])
    scores = score(truth, np.eye(3)[[0, 0, 1, 1, 1, 2]] * 0.8 + 0.05).to_dict()
    kept = {name: value for name, value in scores.items() if name not in ("per_class", "confusion_matrix")}
    return Manifest(
        labels=LABELS,
        preprocess=Preprocess(128),
        architecture="squeezenet1_1",
        macs=350_000_000,
        parameters=1_235_496,
        precisions={"fp32": {"tolerance": 1e-3}, "int8": {"tolerance": 0.1}},
        thresholds={"polyp": 0.61, "a|b <i>": 0.0, "_normal_": 0.25},
        metrics={**kept, "certain": {"coverage": 0.875, "accuracy": 0.9, "mcc": 0.8}},
        provenance={"seed": 7, "data_fingerprint": "fe" * 32, "genes": {"loss": 0.5}, "versions": {"torch": "2.9"}},
    )


@pytest.fixture
def run() -> dict[str, Any]:
    truth = np.array([0, 0, 0, 1, 1, 2])
    scores = score(truth, np.eye(3)[[0, 0, 1, 1, 1, 2]] * 0.8 + 0.05).to_dict()
    return {
        "scores": {"test": scores},
        "summary": {"per_class_intervals": {"recall": [[0.1, 0.9], None, [0.3, 1.0]]}},
        "temperature": 1.25,
        "groups_in_role": {"train": 2, "test": 2},
        "grouped_by": "near-duplicates",
        "skipped": {"polyp/broken.jpg": "cut short"},
        "notes": ["groups.csv: 3 lines name no image of this folder"],
        "settings": {"init": "pretrained", "weights_dir": None, "refit_epochs": 2.0},
        "limit_ms": 15.625,
        "latency_ms": {"p50_ms": 4.2, "p95_ms": 5.0, "p99_ms": 6.1, "frames": 100, "drops": 0},
        "device": {"model": None, "cpu": "Some CPU"},
    }


def section(card: str, title: str) -> str:
    found = re.search(rf"^## {title}\n\n(.*?)(?=\n## |\Z)", card, re.DOTALL | re.MULTILINE)
    assert found is not None, title
    return found.group(1)


def test_what_the_run_knows_stands_in_the_card(manifest: Manifest, run: dict[str, Any]) -> None:
    card = model_card(manifest, "My data", ROLES, run)
    assert "Not a medical device" in section(card, "Intended use")
    data = section(card, "Data")
    for words in (
        "My data",
        "fe" * 32,
        "| polyp | 2 | 1 |",
        "| groups | 2 | 2 |",
        "1 images could not be read",
        "3 lines",
    ):
        assert words in data
    assert "one patient may lie on both sides" in data
    metrics = section(card, "Metrics")
    low, high = manifest.metrics["intervals"]["mcc"]
    assert f"| Matthews' correlation | {manifest.metrics['mcc']:.4f} | {low:.4f} … {high:.4f} |" in metrics
    assert "| polyp | 3 | 1.000 | 0.667 (0.10–0.90) |" in metrics
    second = next(line for line in metrics.splitlines() if line.startswith("| a\\|b"))
    assert "(" not in second  # its recall has no interval: a resampling may hold none of it
    assert "| polyp | 2 | 1 | 0 |" in metrics
    certainty = section(card, "Calibration and certainty")
    for words in ("1.250", "| polyp | 0.610 |", "87.5%", "90.0% are right", "before the network was trained on it"):
        assert words in certainty
    apart = section(
        model_card(manifest, "My data", ROLES, {**run, "calibrated_on": "soup"}), "Calibration and certainty"
    )
    assert "fitted on `soup`, before" in apart and "chosen on `soup`, before" in apart
    never = {**run, "settings": {**run["settings"], "refit_epochs": 0.0}}
    assert "before the network" not in model_card(manifest, "My data", ROLES, never)
    assert "p99 6.10 ms" in section(card, "Speed")
    assert "Some CPU" in section(card, "Speed")
    assert "has 1 images" in section(card, "Limits")
    licence = section(card, "Licence of the initial weights")
    assert "BSD-3-Clause" in licence and "ImageNet" in licence
    for words in ("torch 2.9", "Seed: 7", '"loss": 0.5'):
        assert words in section(card, "Provenance")


def test_it_is_a_pure_function(manifest: Manifest, run: dict[str, Any]) -> None:
    assert model_card(manifest, "d", ROLES, run) == model_card(manifest, "d", ROLES, run)


def test_what_is_not_known_is_called_so(manifest: Manifest) -> None:
    bare = replace(manifest, metrics={}, thresholds={}, provenance={})
    card = model_card(bare, "d", {})
    assert "Unknown" in section(card, "Licence of the initial weights")
    assert "unknown" in section(card, "Data")
    assert "None were recorded" in section(card, "Metrics")
    assert "No thresholds" in section(card, "Calibration and certainty")
    assert "Not measured" in section(card, "Speed")
    assert "unknown" in section(card, "Provenance")
    assert "on both sides" not in card  # how the folder was grouped is not known either


def test_groups_of_the_folder_are_named(manifest: Manifest, run: dict[str, Any]) -> None:
    data = section(model_card(manifest, "d", ROLES, {**run, "grouped_by": "groups.csv"}), "Data")
    assert "none is on two sides" in data


def test_names_break_neither_tables_nor_the_head(manifest: Manifest, run: dict[str, Any]) -> None:
    name = 'a: "b" | <script> #{x}\\'
    card = model_card(manifest, name, ROLES, run)
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["pipeline_tag"] == "image-classification"
    assert head["model-index"][0]["results"][0]["dataset"]["name"] == name
    assert {one["type"] for one in head["model-index"][0]["results"][0]["metrics"]} >= {
        "accuracy",
        "matthews_correlation",
    }
    body = card.split("---\n", 2)[2]
    assert "<script>" not in body and "<i>" not in body
    tables = [line for line in body.splitlines() if line.startswith("|")]
    assert tables
    for block in re.findall(r"(?:^\|.*\n?)+", body, re.MULTILINE):
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in block.strip().splitlines()}
        assert len(columns) == 1, block
    assert "squeezenet1_1" in body and "\\_normal\\_" in body


@pytest.mark.parametrize(
    ("architecture", "settings", "words"),
    [
        ("shufflenet_v2_x1_0", None, "Unknown"),
        ("shufflenet_v2_x1_0", {"init": "random", "weights_dir": None}, "drawn at random"),
        ("shufflenet_v2_x1_0", {"init": "pretrained", "weights_dir": None}, "BSD-3-Clause"),
        ("vit_h_14", {"init": "pretrained", "weights_dir": None}, "not known here"),
        ("squeezenet1_1", {"init": "pretrained", "weights_dir": "/home/me/weights"}, "Unknown"),
        ("squeezenet1_1", {"init": "random", "weights_dir": "w"}, "Unknown"),
    ],
)
def test_the_weights_licence(architecture: str, settings: dict[str, Any] | None, words: str) -> None:
    text = initial_weights(architecture, settings)
    assert words in text
    assert "/home" not in text


def test_an_exported_bundle_holds_its_card(exported: Exported, tiny_run: Any, tmp_path: Path) -> None:
    bundle = read_bundle(exported.path)
    assert "lésion plate" in bundle.card
    assert f"{bundle.manifest.metrics['n']} images that neither" in bundle.card
    assert bundle.manifest.provenance["data_fingerprint"] in bundle.card
    assert "| 7 |" in section(bundle.card, "Metrics")
    assert bundle.manifest.thresholds == tiny_run.metrics["thresholds"]  # the run's, chosen on search
    assert set(bundle.manifest.thresholds) == set(bundle.manifest.labels)
    assert "| groups |" in section(bundle.card, "Data")
    assert 0 <= bundle.manifest.metrics["certain"]["coverage"] <= 1
    assert str(tmp_path.parent.parent) not in bundle.card  # no path of the machine it was made on
