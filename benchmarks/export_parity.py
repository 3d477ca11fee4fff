"""Parity of every architecture in every precision on every engine here: labels, MCC, milliseconds, megabytes.

python benchmarks/export_parity.py --data hyperkvasir5 --weights-dir FOLDER --out results.jsonl

The networks are trained here, quickly: ImageNet weights where the folder has them, else random; Adam, cosine, flips,
label smoothing, a given number of images, batch norm estimated again, temperature fitted on `search`. They stand for
networks whose weights and activations have learnt something, not for good classifiers; the table says what each
reached. Roles are dealt as a run deals them; calibration and sensitivity see `train`, parity is over `search` and
`soup`.
Milliseconds are the median of single frames through the engine alone. What parity refuses is in the table with its
numbers. Results are saved architecture by architecture, and what is there already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from quality_pool import open_folder
from torch import nn

from gensoup.bench.metrics import confusion_matrix, summarise
from gensoup.export.architectures import initial_model, pretrained_weights
from gensoup.export.batch_norm import reestimate_batch_norm
from gensoup.export.graph import standardise, to_onnx, to_planes
from gensoup.export.names import ARCHITECTURES, check_names
from gensoup.export.parity import reference_probabilities
from gensoup.export.precisions import build_graph
from gensoup.export.proof import Proof
from gensoup.export.request import PRECISIONS, parse_engines, parse_precisions
from gensoup.export.samples import MAX_CALIBRATION_FRAMES, MAX_PARITY_FRAMES, Samples, evenly
from gensoup.runtime.console import StageProgress, stage_bars
from gensoup.runtime.errors import GenSoupError
from gensoup.runtime.files import write_atomic
from gensoup.train.roles import assign_roles
from gensoup.train.scoring import fitness_on
from gensoup.train.split import Split

CPU = torch.device("cpu")
BATCH, LEARNING_RATE, SMOOTHING = 32, 1e-3, 0.1
TIMED_FRAMES, WARM_UP = 100, 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, then print the table."""
    options = _parser().parse_args(arguments)
    try:
        names = tuple(options.architectures.split(","))
        check_names(names)
        precisions = parse_precisions(options.precision.split(","))
        with stage_bars() as progress, tempfile.TemporaryDirectory(dir=options.cache) as cache:
            torch.set_num_threads(options.threads)
            split = open_folder(options.data, [options.size], Path(cache), progress)
            rows = _read(options.out)
            for name in names:
                known = {row["precision"] for row in rows if row["case"] == _case(name, options)}
                if set(precisions) <= known:
                    continue
                rows = [row for row in rows if row["case"] != _case(name, options)]
                rows += measure(name, precisions, split, options, progress)
                write_atomic(options.out, "".join(json.dumps(row) + "\n" for row in rows))
        print("\n".join(table([row for row in rows if row["case"] in {_case(name, options) for name in names}])))
    except GenSoupError as error:
        sys.exit(f"error: {error}")


def measure(
    name: str, precisions: Sequence[str], split: Split, options: argparse.Namespace, progress: StageProgress
) -> Iterator[dict[str, Any]]:
    """A row a precision and engine of one architecture."""
    folder, images = split.folder, split.store.by_size[options.size][split.rows]
    roles = assign_roles(folder.files, folder.targets, split.groups, folder.labels, options.seed)
    weights = pretrained_weights(name, len(folder.labels), options.weights_dir, download=False)
    model = initial_model(name, len(folder.labels), options.seed, weights)
    _train(model, images[roles["train"]], folder.targets[roles["train"]], options, lambda *step: progress(name, *step))
    temperature = fitness_on(model, images[roles["search"]], folder.targets[roles["search"]], CPU).temperature
    samples = _samples(split, images, roles)
    expected = reference_probabilities(model, temperature, samples.frames)
    network = {
        "case": _case(name, options),
        "architecture": name,
        "weights": "ImageNet" if weights else "random",
        "trained_images": options.images,
        "size": options.size,
        "test_mcc": _mcc(model, images[roles["test"]], folder.targets[roles["test"]]),
    }
    graph = to_onnx(model, temperature, options.size)
    proof = Proof(expected, samples, folder.labels, parse_engines(options.engines and options.engines.split(",")))
    calibration = images[roles["train"]][evenly(len(roles["train"]), MAX_CALIBRATION_FRAMES)]
    for precision in precisions:
        built = build_graph(precision, graph, calibration, proof, progress)
        times = {engine.name: _milliseconds(engine, samples.frames) for engine in proof.open(built.model, precision)}
        for one in proof.compared(built.model, precision):
            yield {
                **network,
                **asdict(one.parity),
                "holds": one.parity.holds,
                "built": built.built,
                "milliseconds": times.get(one.parity.engine),
                "megabytes": len(built.model) / 1e6,
            }


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The results in Markdown."""
    lines = [
        "| network (weights, test MCC) | precision: built | engine | parity | labels agree | largest, mean difference "
        "| MCC: fp32 in PyTorch, engine | loss, 95% bound | ms | MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        built = ", ".join(f"{count} {kind}" for kind, count in row["built"].items())
        spent = "" if row["milliseconds"] is None else f"{row['milliseconds']:.2f}"
        lines.append(
            f"| {row['architecture']} ({row['weights']}, {row['test_mcc']:.3f}) | {row['precision']}: {built} "
            f"| {row['engine']} | {'holds' if row['holds'] else 'fails'} | {row['label_agreement']:.1%} "
            f"| {row['largest_difference']:.1e}, {row['mean_difference']:.1e} "
            f"| {row['mcc_reference']:.3f}, {row['mcc_engine']:.3f} | {row['mcc_loss_upper']:+.4f} | {spent} "
            f"| {row['megabytes']:.1f} |"
        )
    return lines


def _train(
    model: nn.Module, images: NDArray[np.uint8], targets: NDArray[np.int64], options: argparse.Namespace, step: Any
) -> None:
    """Adam with a cosine over ``options.images`` images, flipped at random."""
    rng = np.random.default_rng(options.seed)
    torch.manual_seed(options.seed)
    steps = max(1, options.images // BATCH)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for number in range(steps):
        chosen = rng.integers(len(images), size=BATCH)
        planes = standardise(to_planes(torch.from_numpy(images[chosen])))
        planes = planes.flip(3) if rng.random() < 0.5 else planes
        logits = model(planes)
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(targets[chosen]), label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        step(number + 1, steps)
    model.eval()
    reestimate_batch_norm(model, images, CPU)


def _samples(split: Split, images: NDArray[np.uint8], roles: dict[str, NDArray[np.int64]]) -> Samples:
    role_of = {int(row): role for role in ("search", "soup") for row in roles[role]}
    rows = sorted(role_of)
    rows = rows[evenly(len(rows), MAX_PARITY_FRAMES)]
    return Samples(
        tuple(split.folder.files[row] for row in rows),
        images[rows],
        split.folder.targets[rows],
        tuple(role_of[row] for row in rows),
        tuple(split.groups[row] for row in rows),
    )


def _mcc(model: nn.Module, images: NDArray[np.uint8], targets: NDArray[np.int64]) -> float:
    answers = reference_probabilities(model, 1.0, images).argmax(1)
    return summarise(confusion_matrix(targets, answers, int(targets.max()) + 1))["mcc"]


def _milliseconds(engine: Any, frames: NDArray[np.uint8]) -> float:
    """The median time of single frames."""
    spent = []
    for number in range(WARM_UP + TIMED_FRAMES):
        started = time.perf_counter()
        engine.infer(frames[number % len(frames)])
        spent.append(time.perf_counter() - started)
    return float(np.median(spent[WARM_UP:]) * 1e3)


def _case(name: str, options: argparse.Namespace) -> str:
    return f"{options.data.name}/{name}/{options.size}/{options.images}/{options.seed}/{options.engines or 'all'}"


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labelled folder")
    parser.add_argument("--weights-dir", type=Path, help="NAME.safetensors or NAME.pth with ImageNet weights")
    parser.add_argument("--architectures", default=",".join(ARCHITECTURES))
    parser.add_argument("--precision", default=",".join(PRECISIONS))
    parser.add_argument("--engines", help="default: all usable here")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--images", type=int, default=6000, help="passed through each network in training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="results, a line each, kept between calls")
    parser.add_argument(
        "--cache", type=Path, help="folder for decoded images; default: the system's for temporary files"
    )
    return parser


if __name__ == "__main__":
    main()
