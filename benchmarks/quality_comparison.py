"""One comparison: which methods, on which images, on what budget; runs what is not in the results yet."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from quality_meter import TOLERANCE, ImageMeter
from quality_methods import run_method
from quality_pool import Pool, deal, open_folder
from quality_results import Row, append, digest, key_of, read
from quality_workbench import DEVICE, Found, Workbench, admission_of

import gensoup.train
from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.metrics import confusion_matrix, summarise
from gensoup.export.batch_norm import BATCH_NORM_IMAGES
from gensoup.runtime.console import StageProgress, stage_bars
from gensoup.runtime.errors import GenSoupError, UsageError
from gensoup.train.breeding import GOOD_LOSS, GOOD_OPTIMIZER, GOOD_RECIPE
from gensoup.train.constraint import Admission
from gensoup.train.presets import compose, preset_values
from gensoup.train.scoring import fitness_of, predict_logits
from gensoup.train.settings import Settings

ARCHITECTURES = ("squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x1_0")
BATCH_SIZE = 32
LIMITS = ("max_macs", "min_fps", "max_latency_ms")  # every network of a comparison is within all of them


@dataclass(frozen=True)
class Comparison:
    """methods: name → settings, the first is ours. shares: of the roles. images: the budget of each run."""

    methods: Mapping[str, Mapping[str, Any]]
    shares: Mapping[str, float]
    images: int
    size: int
    architectures: tuple[str, ...]
    weights_dir: Path | None

    def base(self, seed: int) -> dict[str, Any]:
        """Settings that no method may choose."""
        return {
            "architectures": self.architectures,
            "sizes": (self.size,),
            "init": "random",  # where there are no weights in the folder
            "weights_dir": None if self.weights_dir is None else str(self.weights_dir),
            "batch_size": BATCH_SIZE,
            "threads": 1,
            "seed": seed,
        }

    def settings_hash(self, method: str, fingerprint: str, admission: Admission) -> str:
        """Of all that decides a result, but for the seed and the code (for which a method's ``revision`` stands)."""
        settings = self.methods[method]
        preset = preset_values(settings["preset"]) if "preset" in settings else {}
        shared = {
            "preset": {name: repr(value) for name, value in preset.items() if name not in LIMITS},
            "recipe": [GOOD_RECIPE, GOOD_LOSS, GOOD_OPTIMIZER],
            "statistics": BATCH_NORM_IMAGES,
            "shares": dict(self.shares),
            "images": self.images,
            "size": self.size,
            "batch_size": BATCH_SIZE,
            "data": fingerprint,
            "networks": admission.identity(),
        }
        return digest({**shared, "method": dict(settings)})

    def sizes(self) -> set[int]:
        """Image sizes that any method trains at."""
        sizes = {self.size}
        for settings in self.methods.values():
            if settings["kind"] == "genetic":
                chosen = compose("", settings["preset"], None, {**settings["changed"], **self.base(0)})
                sizes |= {chosen.size_of(number, self.size) for number in range(chosen.generations)}
        return sizes


def parser(description: str | None, images: int, size: int, seeds: int) -> argparse.ArgumentParser:
    """Options that every comparison has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, nargs="+", required=True, help="labelled folders")
    made.add_argument("--weights-dir", type=Path, help="ImageNet weights, NAME.safetensors; others start from random")
    made.add_argument(
        "--out", type=Path, required=True, help="results, a JSON line each; what is there is not run again"
    )
    made.add_argument("--only", help="comma-separated methods; default: all")
    made.add_argument("--seeds", type=int, default=seeds, help="splits, each with its own initial weights")
    made.add_argument("--first-seed", type=int, default=0)
    made.add_argument("--images", type=int, default=images, help="images a run passes through networks, all told")
    made.add_argument("--size", type=int, default=size, help="deploy size in pixels")
    made.add_argument("--architectures", default=",".join(ARCHITECTURES), help="comma-separated alphabet")
    made.add_argument("--report", action="store_true", help="print what is there, run nothing")
    return made


def comparison_of(
    options: argparse.Namespace, methods: Mapping[str, Mapping[str, Any]], shares: Mapping[str, float]
) -> tuple[Comparison, list[str]]:
    """The comparison that options ask for, and the methods to run. Raises UsageError."""
    for name in ("seeds", "images", "size"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name} {getattr(options, name)}: must be at least 1")
    if options.weights_dir is not None and not options.weights_dir.is_dir():
        raise UsageError(f"--weights-dir {options.weights_dir}: no such folder")
    chosen = list(methods) if options.only is None else [name.strip() for name in options.only.split(",")]
    for name in chosen:
        if name not in methods:
            raise UsageError(f"--only: '{name}' is unknown; known are {', '.join(methods)}")
    names = tuple(name.strip() for name in options.architectures.split(","))
    return Comparison(methods, shares, options.images, options.size, names, options.weights_dir), chosen


def run(comparison: Comparison, options: argparse.Namespace, chosen: Sequence[str]) -> dict[str, list[Row]]:
    """Run what ``--out`` lacks, seed by seed, and return all results of this comparison, by data set.

    A run that fails is named and left out, the others go on; at the end that is a GenSoupError.
    """
    torch.set_num_threads(1)
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as scratch, stage_bars() as progress:
        benches = [
            _Bench(comparison, path, Path(scratch) / str(number), progress) for number, path in enumerate(options.data)
        ]
        if not options.report:
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                for bench in benches:
                    failures += bench.run_missing(seed, chosen, options.out)
    rows = read(options.out)
    kept = {bench.name: [row for row in rows.values() if bench.belongs(row)] for bench in benches}
    if failures:
        raise GenSoupError(f"{len(failures)} runs failed: {'; '.join(failures)}")
    return kept


class _Bench:
    """One data set of a comparison; decoded when the first run needs it."""

    def __init__(self, comparison: Comparison, path: Path, scratch: Path, progress: StageProgress) -> None:
        self._comparison, self._path, self._scratch, self._progress = comparison, path, scratch, progress
        folder = LabelledFolder.open(path)
        self.name = path.resolve().name
        scratch.mkdir(parents=True)
        self._admission = admission_of(self._settings(0), len(folder.labels), scratch, progress)
        if self._admission.excluded:
            out = self._admission.excluded[0]
            raise UsageError(f"--architectures: {out.name} cannot take part ({out.reason})")
        fingerprint = folder.fingerprint()
        self._hashes = {
            method: comparison.settings_hash(method, fingerprint, self._admission) for method in comparison.methods
        }
        self._split: Any = None

    def belongs(self, row: Row) -> bool:
        """Whether a result is of this data set and of the settings of today."""
        return row["data"] == self.name and self._hashes.get(row["method"]) == row["settings"]

    def run_missing(self, seed: int, methods: Sequence[str], out: Path) -> list[str]:
        """Run the methods that have no result under a seed; returns what failed."""
        failures = []
        for method in methods:
            identity = {"data": self.name, "method": method, "seed": seed, "settings": self._hashes[method]}
            if key_of(identity) in read(out):
                continue
            try:
                row = {**identity, **self._run(method, seed)}
            except GenSoupError as error:
                failures.append(f"{self.name}, {method}, seed {seed}: {error}")
                print(f"failed: {failures[-1]}", file=sys.stderr, flush=True)
                continue
            append(out, row)
            print(
                f"{time.strftime('%H:%M:%S')} {self.name} seed {seed} {method}: mcc {row['mcc']:.4f} "
                f"nll {row['nll']:.4f} images {row['images']} in {row['seconds']:.0f} s",
                flush=True,
            )
        return failures

    def _run(self, method: str, seed: int) -> dict[str, Any]:
        if self._split is None:
            sizes = sorted(self._comparison.sizes())
            self._split = open_folder(self._path, sizes, self._scratch / "cache", self._progress)
        pool, sealed = deal(self._split, seed, self._comparison.shares)
        meter = ImageMeter(self._comparison.architectures, self._comparison.images)
        place = self._scratch / "run"
        place.mkdir()
        bench = Workbench(pool, self._admission, self._comparison.base(seed), meter, place, self._progress)
        started, cpu = time.monotonic(), time.process_time()
        try:
            with meter:
                found = run_method(bench, self._comparison.methods[method])
        finally:
            shutil.rmtree(place, ignore_errors=True)
        meter.check(method)
        return {
            **_scores(found, sealed, self._comparison.size),
            "images": meter.spent,
            "budget": meter.budget,
            "within_budget": abs(meter.left) <= TOLERANCE * meter.budget,
            "seconds": round(time.monotonic() - started, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "notes": found.notes,
            "code": CODE,
        }

    def _settings(self, seed: int) -> Settings:
        return compose("", None, None, self._comparison.base(seed))


def _scores(found: Found, sealed: Pool, size: int) -> dict[str, Any]:
    """The sealed test, opened: the last thing of a run, outside of its budget."""
    test = sealed.load("test", size)
    logits = predict_logits(found.model.to(DEVICE), test.images, DEVICE)
    fitness = fitness_of(logits, test.targets, found.temperature)
    confusion = confusion_matrix(test.targets, logits.argmax(1), test.classes)
    return {
        "mcc": fitness.mcc,
        "accuracy": float(summarise(confusion)["accuracy"]),
        "nll": fitness.nll,
        "nll_untempered": fitness_of(logits, test.targets, 1.0).nll,
        "temperature": found.temperature,
        "test_images": len(test),
    }


def code_note(rows: Sequence[Row]) -> list[str]:
    """A line where results of one table come from different code."""
    versions = sorted({str(row["code"]) for row in rows})
    return ["", f"Made by {len(versions)} versions of the code: {', '.join(versions)}."] if len(versions) > 1 else []


def _sources() -> Iterator[Path]:
    yield from sorted(Path(gensoup.train.__file__).parent.glob("*.py"))
    yield from sorted(Path(__file__).parent.glob("quality_*.py"))


CODE = digest([path.read_text(encoding="utf-8") for path in _sources()])
