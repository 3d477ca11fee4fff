"""What tests of training share: images at network size; finished runs drawn at random, for which none is trained."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.metrics import score
from gensoup.runtime.images import read_image
from gensoup.runtime.preprocess import Preprocess
from gensoup.train.learner import Examples
from gensoup.train.summary import enrich

ARCHITECTURES = (
    "shufflenet_v2_x1_0",
    "mobilenet_v3_small",
    "shufflenet_v2_x1_5",
    "regnet_y_400mf",
    "squeezenet1_1",
    "mobilenet_v3_large",
    "shufflenet_v2_x2_0",
    "regnet_x_400mf",
    "mnasnet1_0",
    "efficientnet_v2_s",
    "convnext_tiny",
)
LOSSES = ("cross_entropy", "label_smoothing", "logit_penalty", "logit_normalisation", "sigmoid_cross_entropy")
OPTIMIZERS = ("adam", "adamw", "adamax", "nadam", "radam", "rmsprop", "sgd")
NUMBERS = ("learning_rate", "weight_decay", "augmentation", "strong", "weak")
GROUP = 3


def draw_individual(rng: np.random.Generator, place: tuple[str, int, int], pool: int, best: int) -> dict[str, Any]:
    """One individual whose MCC depends on its architecture, its learning rate and its generation, on nothing else."""
    generation = place[1] if place[0] == "search" else 0
    kind = best if rng.random() < min(0.9, 0.06 * generation) else int(rng.integers(pool))
    genes = {name: float(rng.random()) for name in ("architecture", "loss", "optimizer", *NUMBERS)}
    genes["learning_rate"] = float(np.clip(rng.normal(0.7, 0.3 / (1 + 0.1 * generation)), 0, 1))
    quality = 0.45 + 0.02 * generation - 0.8 * abs(genes["learning_rate"] - 0.7) - 0.25 * (kind != best)
    return {
        "name": f"{place[0]}-{place[1]:02d}-{place[2]:02d}",
        "place": list(place),
        "genes": genes,
        "recipe": {
            "architecture": ARCHITECTURES[kind],
            "learning_rate": 1e-3 * 300 ** genes["learning_rate"] / 100,
            "weight_decay": 0.0 if genes["weight_decay"] < 0.1 else 10 ** (5 * genes["weight_decay"] - 6),
            "loss": LOSSES[int(rng.integers(len(LOSSES)))],
            "optimizer": OPTIMIZERS[int(rng.integers(len(OPTIMIZERS)))],
            "augmentation": genes["augmentation"],
            "strong": 1 + genes["strong"] / 2,
            "weak": 0.5 + genes["weak"] / 2,
        },
        "parents": [],
        "inherited": "",
        "size": 96,
        "macs": int(12e6 * (kind + 1) ** 1.5),
        "images": 1200,
        "seconds": float(rng.uniform(2, 4)),
        "latency_ms": None,
        "mcc": float(min(0.97, quality + rng.normal(0, 0.04))),
        "nll": float(rng.uniform(0.4, 1.5)),
        "temperature": 1.0,
        "reason": None,
    }


def draw_metrics(
    generations: int = 4,
    population: int = 8,
    classes: int = 4,
    architectures: int = 5,
    failed: int = 0,
    timed: bool = False,
    images: int = 120,
    seed: int = 0,
) -> tuple[dict[str, Any], np.ndarray, np.ndarray, list[str]]:
    """``metrics.json`` as a run writes it but for its summary; truth [N], probabilities [N, K] and groups of test."""
    rng = np.random.default_rng(seed)
    places = [("search", generation, index) for generation in range(generations) for index in range(population)]
    places += [("branch", 0, index) for index in range(3)]
    individuals = [draw_individual(rng, place, architectures, min(2, architectures - 1)) for place in places]
    for one in individuals:
        one["latency_ms"] = 2 + one["macs"] / 40e6 if timed else None
    for one in individuals[1 : 1 + failed]:
        one |= {"reason": "DivergedError: the <loss> became nan at step 3 of 9", "mcc": 0.0, "nll": None}
    labels = [
        f"class {number:02d} & a <name> that is quite long"[: 12 if number % 2 else 40] for number in range(classes)
    ]
    truth = np.arange(images) % classes
    groups = [f"scene {label}-{number // classes // GROUP}" for number, label in enumerate(truth)]
    scores = {}
    for role in ("search", "soup", "test"):
        logits = rng.normal(0, 1.2, (images, classes)) + 3 * np.eye(classes)[truth] * rng.uniform(0.2, 2, (images, 1))
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        scores[role] = score(truth, probabilities, groups=groups, resamples=200).to_dict()
    best = min((one for one in individuals if one["reason"] is None), key=lambda one: -one["mcc"])
    steps = [(f"branch-00-0{index}", 0.6 + 0.01 * index, index != 1) for index in range(3)]
    metrics = {
        "schema_version": 1,
        "labels": labels,
        "architecture": best["recipe"]["architecture"],
        "macs": best["macs"],
        "parameters": 1_520_000,
        "size": 96,
        "temperature": 0.9,
        "scores": scores,
        "images_in_role": {"train": 600, "search": images, "soup": images, "test": images},
        "skipped": {},
        "notes": [],
        "admitted": [],
        "excluded": [{"architecture": "efficientnet_v2_s", "reason": "2,900 M multiply-adds, limit 600 M"}],
        "ancestor": best["name"],
        "soup": {
            "ingredients": ["branch-00-00", "branch-00-02"],
            "judge": "likelihood",
            "loss": 0.58,
            "steps": [{"name": name, "loss": nll, "accepted": taken} for name, nll, taken in steps],
        },
        "individuals": individuals,
        "images_trained": sum(one["images"] for one in individuals),
        "images": {"individuals": sum(one["images"] for one in individuals), "soup": 0, "test": images},
        "limit_ms": 15.625 if timed else None,
        "settings": {
            "data": "nowhere",
            "min_fps": 64.0 if timed else None,
            "max_macs": 600.0,
            "refit_epochs": 0.0,
            "score_size": "deploy",
        },
        "latency_ms": {"p50_ms": 3.1, "p95_ms": 4.0, "p99_ms": best["latency_ms"]} if timed else None,
        "over_the_limit_when_fused": [],
        "seconds": sum(one["seconds"] for one in individuals) + 30,
    }
    return metrics, truth, probabilities, groups


def write_run(folder: Path, **shape: Any) -> Path:
    """A run folder with just ``metrics.json`` and ``test_predictions.csv``, of a run of that shape."""
    drawn, truth, probabilities, groups = draw_metrics(**shape)
    metrics = enrich(drawn, truth, probabilities, groups)
    labels = metrics["labels"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    with (folder / "test_predictions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "truth", "predicted", *(f"p({label})" for label in labels)])
        for number, (true, row) in enumerate(zip(truth, probabilities, strict=True)):
            writer.writerow([f"{number:04d}.png", labels[true], labels[int(row.argmax())], *map(float, row)])
    return folder


@pytest.fixture(scope="session")
def make_metrics() -> Callable[..., tuple[dict[str, Any], np.ndarray, np.ndarray, list[str]]]:
    """Draws the metrics and predictions of a run: see :func:`draw_metrics`."""
    return draw_metrics


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """Writes a drawn run: (folder, **shape) → folder."""
    return write_run


@pytest.fixture
def one_thread() -> None:
    """For what must come out the same to the last bit."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def examples(shapes: Path) -> Examples:
    """All images of ``shapes`` at 32 px, in memory."""
    folder = LabelledFolder.open(shapes)
    images = np.stack([Preprocess(32)(read_image(path)) for path in folder.paths])
    return Examples(images, folder.targets, len(folder.labels))
