"""Do astrocytes help? The same trainings without them, with them, and with counters permuted among a layer's filters.

python benchmarks/astrocytes.py DATA --out FOLDER                  one labelled folder, split by its groups
python benchmarks/astrocytes.py TRAIN --test TEST --out FOLDER     two folders of the same classes

The recipe is table 4.1's (Adam at 1e-4, weight decay .01, label smoothing) at a size and batch that two cores bear. The
three kinds share initial weights, batches and augmentation seed by seed, so differences are paired. Every finished
training is written to FOLDER; called again with the same options, it goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from gensoup.bench.dataset import LabelledFolder
from gensoup.export.architectures import initial_model, pretrained_weights
from gensoup.export.batch_norm import reestimate_batch_norm
from gensoup.export.names import check_names
from gensoup.runtime.console import StageProgress, stage_bars
from gensoup.runtime.errors import DataError, GenSoupError, UsageError
from gensoup.runtime.files import write_atomic
from gensoup.runtime.preprocess import Preprocess
from gensoup.train.astrocytes import AstrocyteFactors, AstrocyteSettings
from gensoup.train.failure import DivergedError
from gensoup.train.genes import Recipe
from gensoup.train.images import decode
from gensoup.train.learner import Course, Examples, train
from gensoup.train.roles import assign_roles, near_duplicate_groups
from gensoup.train.scoring import fitness_on

KINDS = ("without", "with", "shuffled")
PAIRS = (("with", "without"), ("shuffled", "without"), ("with", "shuffled"))
CONFIDENCE = 0.95
SETTINGS_FILE = "settings.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is not there yet, then print each kind's scores and the paired differences."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except GenSoupError as error:
        sys.exit(f"error: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="labelled folder to train on")
    parser.add_argument("--test", type=Path, help="labelled folder to score on; default: a share of DATA, by groups")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=15_000, help="images that each training passes")
    parser.add_argument("--architecture", default="shufflenet_v2_x1_0")
    parser.add_argument("--weights-dir", type=Path, help="ImageNet weights, NAME.safetensors; default: random ones")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--augmentation", type=float, default=0.3, help="strength from 0 to 1")
    parser.add_argument("--form", default="mean", choices=("mean", "thesis"))
    parser.add_argument("--strong", type=float, default=1.25)
    parser.add_argument("--weak", type=float, default=0.75)
    parser.add_argument("--threads", type=int, default=1)
    return parser


def _run(options: argparse.Namespace) -> None:
    check_names((options.architecture,))
    for name in ("seeds", "images", "size", "batch_size", "threads"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name)}: must be at least 1")
    factors = AstrocyteFactors(options.strong, options.weak)
    torch.set_num_threads(options.threads)
    kept = _claim(options)
    todo = [
        (kind, seed)
        for seed in range(options.seeds)
        for kind in KINDS
        if not _result_path(options, kind, seed).exists()
    ]
    with stage_bars() as progress:
        if todo:
            learn, test = _examples(options, progress)
            pretrained = pretrained_weights(options.architecture, learn.classes, options.weights_dir, download=False)
        for done, (kind, seed) in enumerate(todo):
            astrocytes = None
            if kind != "without":
                astrocytes = AstrocyteSettings(factors, options.form, shuffled=kind == "shuffled")
            result = _training(options, learn, test, pretrained, astrocytes, seed)
            write_atomic(_result_path(options, kind, seed), json.dumps({"kind": kind, **result}, indent=1))
            progress("trainings", done + 1, len(todo))
    results = {
        kind: [json.loads(_result_path(options, kind, seed).read_text("utf-8")) for seed in range(options.seeds)]
        for kind in KINDS
    }
    print("\n".join(_report(results, kept)))


def _claim(options: argparse.Namespace) -> dict[str, Any]:
    """Write what decides the results into the folder, or check that it is the same; returns it."""
    settings = {
        name: str(value.resolve()) if isinstance(value, Path) else value
        for name, value in vars(options).items()
        if name not in ("out", "seeds")
    }
    path = options.out / SETTINGS_FILE
    if not path.exists():
        write_atomic(path, json.dumps(settings, indent=1))
        return settings
    before = json.loads(path.read_text("utf-8"))
    if different := [
        f"{name}: {before.get(name)} → {value}" for name, value in settings.items() if before.get(name) != value
    ]:
        raise UsageError(
            f"--out {options.out}: holds results of other settings ({'; '.join(different)}); name a new one"
        )
    return settings


def _result_path(options: argparse.Namespace, kind: str, seed: int) -> Path:
    return options.out / f"{kind}-{seed:02d}.json"


def _training(
    options: argparse.Namespace,
    learn: Examples,
    test: Examples,
    pretrained: dict[str, torch.Tensor] | None,
    astrocytes: AstrocyteSettings | None,
    seed: int,
) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = initial_model(options.architecture, learn.classes, seed, pretrained).to(device)
    recipe = Recipe(
        options.architecture,
        options.learning_rate,
        options.weight_decay,
        "label_smoothing",
        "adam",
        options.augmentation,
    )
    started = time.monotonic()
    try:
        lesson = train(
            model,
            learn,
            recipe,
            Course(options.images / len(learn), options.batch_size, seed, astrocytes=astrocytes),
            device,
        )
    except DivergedError as error:
        return {"seed": seed, "mcc": 0.0, "nll": None, "reason": str(error)}
    reestimate_batch_norm(model, learn.images, device)
    fitness = fitness_on(model, test.images, test.targets, device)
    return {
        "seed": seed,
        "mcc": fitness.mcc,
        "nll": fitness.nll if np.isfinite(fitness.nll) else None,
        "images": lesson.images,
        "seconds": round(time.monotonic() - started, 1),
        "astrocytes": None if lesson.astrocytes is None else asdict(lesson.astrocytes),
    }


def _examples(options: argparse.Namespace, progress: StageProgress) -> tuple[Examples, Examples]:
    """What is trained on, and what is scored."""
    folder = LabelledFolder.open(options.data)
    if options.test is None:
        images, folder, hashes = _decoded(folder, options.size, folder.groups is None, progress)
        groups = folder.groups if hashes is None else near_duplicate_groups(hashes)
        assert groups is not None
        roles = assign_roles(folder.files, folder.targets, groups, folder.labels, seed=0)
        learn = np.sort(np.concatenate([rows for role, rows in roles.items() if role != "test"]))
        of_folder = Examples(images, folder.targets, len(folder.labels))
        return _chosen(of_folder, learn), _chosen(of_folder, roles["test"])
    other = LabelledFolder.open(options.test)
    if other.labels != folder.labels:
        raise DataError(f"{options.test}: its classes ({', '.join(other.labels)}) are not those of {options.data}")
    images, folder, _ = _decoded(folder, options.size, False, progress)
    images_of_other, other, _ = _decoded(other, options.size, False, progress)
    return (
        Examples(images, folder.targets, len(folder.labels)),
        Examples(images_of_other, other.targets, len(folder.labels)),
    )


def _decoded(
    folder: LabelledFolder, size: int, hashed: bool, progress: StageProgress
) -> tuple[NDArray[np.uint8], LabelledFolder, NDArray[np.bool_] | None]:
    """The readable images of a folder, in memory."""
    with tempfile.TemporaryDirectory() as cache:
        store = decode(folder, [Preprocess(size)], Path(cache), hashed, progress)
        rows = np.array([index for index, file in enumerate(folder.files) if file not in store.skipped], np.int64)
        images = np.array(store.by_size[size][rows])
    return images, folder.subset(rows), None if store.hashes is None else store.hashes[rows]


def _chosen(examples: Examples, rows: NDArray[np.int64]) -> Examples:
    return Examples(examples.images[rows], examples.targets[rows], examples.classes)


def _report(results: dict[str, list[dict[str, Any]]], settings: dict[str, Any]) -> list[str]:
    """A table in Markdown."""
    count = len(results["with"])
    shown = {**settings, "weights_dir": "random" if settings["weights_dir"] is None else "ImageNet"}
    names = {"weights_dir": "initial weights"}
    lines = [
        ", ".join(f"{names.get(name, name)} {value}" for name, value in shown.items() if name not in ("data", "test")),
        "",
    ]
    lines += [
        "| kind | MCC, mean of seeds | each seed | filters strengthened, weakened | failed |",
        "|---|---|---|---|---|",
    ]
    for kind, runs in results.items():
        each = ", ".join(f"{one['mcc']:.3f}" for one in runs)
        counts = [one["astrocytes"] for one in runs if one.get("astrocytes")]
        shares = "—"
        if counts:
            watched = sum(one["rounds"] * one["filters"] for one in counts)
            parts = (sum(one[name] for one in counts) / max(watched, 1) for name in ("potentiated", "attenuated"))
            shares = ", ".join(f"{part:.2%}" for part in parts)
        failed = sum(one["nll"] is None for one in runs)
        mean = np.mean([one["mcc"] for one in runs])
        lines.append(f"| {kind} | {mean:.4f} | {each} | {shares} | {failed} |")
    lines += ["", f"| paired over {count} seeds | mean difference | 95% interval | Wilcoxon p |", "|---|---|---|---|"]
    for first, second in PAIRS:
        difference = np.array(
            [one["mcc"] - two["mcc"] for one, two in zip(results[first], results[second], strict=True)]
        )
        lines.append(
            f"| {first} − {second} | {difference.mean():+.4f} | {_interval(difference)} | {_wilcoxon(difference)} |"
        )
    lines += ["", f"The smallest p that {count} seeds can give is {2.0 ** (1 - count):.3g}."]
    return lines


def _interval(difference: NDArray[np.float64]) -> str:
    """Student's, over seeds."""
    if len(difference) < 2:
        return "—"
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(difference) - 1) * stats.sem(difference)
    return f"[{difference.mean() - half:+.4f}, {difference.mean() + half:+.4f}]"


def _wilcoxon(difference: NDArray[np.float64]) -> str:
    if len(difference) < 2 or not difference.any():
        return "—"
    return f"{stats.wilcoxon(difference).pvalue:.3f}"


if __name__ == "__main__":
    main()
