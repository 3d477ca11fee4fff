"""What a search costs, by formula and by measurement at three sizes: images, bytes and seconds.

    python benchmarks/search_cost.py DATA --weights-dir FOLDER [--shares 0.25,0.5,1] [--option=--size=96 …]

One search a share of the groups in DATA, from the smallest. Images and bytes are predicted from the settings and the
numbers of images alone (:func:`planned_images`, :func:`planned_bytes`); seconds from the smallest run's images a
second in each phase, times the larger one's planned images. What is left over in a run (starting, decoding, the soup's
choice, scores, the report) is taken as it was in the smallest.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from search_process import search_parser, search_seconds, search_words

from gensoup.bench.dataset import LabelledFolder
from gensoup.export.batch_norm import BATCH_NORM_IMAGES
from gensoup.runtime.device import fingerprint, usable_cores
from gensoup.train.heats import entries
from gensoup.train.settings import HEAT, Settings

FEWEST_GROUPS = 8  # of a class, two for each role


def planned_images(settings: Settings, roles: Mapping[str, int], architectures: int) -> dict[str, tuple[float, float]]:
    """Passes of an image through a network by phase, least and most, if no individual fails.

    roles: images of each role; what is left of an epoch after whole batches counts. Least: networks without batch norm
    whose parents are not related; most: batch norm everywhere and related parents always. What heats stop is taken off
    where ``halving`` says so.
    """
    train, search, soup = roles["train"], roles["search"], roles.get("soup", 0)
    statistics = min(BATCH_NORM_IMAGES, train)
    heats = 0.0, 0.0
    *halved, first = entries(settings.beginners(architectures), settings)
    for number, entered in enumerate(halved):
        begun, done = settings.part_of(HEAT, number)
        once = settings.epochs * (done - begun) * train + search
        heats = heats[0] + entered * once, heats[1] + entered * (once + statistics)
    begun, done = settings.part_of("search", 0)
    least = first * (settings.epochs * (done - begun) * train + search)
    most = least + first * statistics
    for generation in range(1, settings.generations):
        least += settings.population_of(generation) * (settings.epochs * train + search)
        most += settings.population_of(generation) * (settings.epochs * train + 2 * (search + statistics))
    averaged = 1 + settings.branch_average
    branch = settings.branches * (settings.branch_epochs * train + search)
    refit = settings.refit_epochs * (train + search)
    return {
        HEAT: heats,
        "search": (least, most),
        "branch": (branch, branch + settings.branches * averaged * statistics),
        "refit": (refit, refit + 2 * BATCH_NORM_IMAGES * (soup > 0) + BATCH_NORM_IMAGES),
    }


def planned_bytes(settings: Settings, images: int) -> int:
    """Decoded images of every image size of the run, where all networks have one deploy size."""
    return images * sum(3 * size * size for size in settings.image_sizes(settings.sizes[:1]))


def part_of(data: Path, share: float, out: Path) -> None:
    """Copy a share of the groups, drawn evenly over the classes, with what says which group a file is of."""
    folder = LabelledFolder.open(data)
    groups = np.asarray(folder.groups or folder.files)
    chosen = set()
    for label in range(len(folder.labels)):
        mine = np.unique(groups[np.asarray(folder.targets) == label])
        count = max(FEWEST_GROUPS, round(share * len(mine)))
        chosen |= set(np.random.default_rng(0).permutation(mine)[:count])
    lines = ["file,group"]
    for file, path, group in zip(folder.files, folder.paths, groups, strict=True):
        if group in chosen:
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, out / file)
            lines.append(f'"{file}",{group}')
    (out / "groups.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def measured(data: Path, scratch: Path, options: list[str]) -> dict[str, Any]:
    """One search with an empty cache: what it was planned from, and what it took."""
    out, cache = scratch / "run", scratch / "cache"
    wall = search_seconds(data, out, [*options, "--cache", str(cache)])
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    settings, _ = Settings.load(out)
    return {
        "settings": settings,
        "n": sum(metrics["images_in_role"].values()),
        "roles": metrics["images_in_role"],
        "architectures": len(metrics["admitted"]),
        "phases": {row["phase"]: [row["images"], row["seconds"]] for row in metrics["summary"]["cost"]},
        "bytes": sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()),
        "wall": wall,
        "mcc": metrics["scores"]["test"]["mcc"],
    }


def main() -> None:
    """Run the searches and print the tables."""
    parser = search_parser(__doc__)
    parser.add_argument("--shares", default="0.25,0.5,1")
    options = parser.parse_args()
    words = search_words(options)
    rows = []
    for share in map(float, options.shares.split(",")):
        print(f"{share:g} of the groups", file=sys.stderr)
        with tempfile.TemporaryDirectory() as scratch:
            data = Path(scratch) / "data"
            part_of(options.data, share, data)
            rows.append(measured(data, Path(scratch), words))
    print(
        f"{fingerprint()['cpu']}, {usable_cores()} cores; load {os.getloadavg()[0]:.1f}; {' '.join(options.option)}\n"
    )
    print(
        "| images | passes, planned | passes | decoded, planned MB | MB | seconds, predicted | seconds | MCC on test |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    smallest = rows[0]
    rest = smallest["wall"] - sum(seconds for _, seconds in smallest["phases"].values())
    for row in rows:
        plans = planned_images(row["settings"], row["roles"], row["architectures"])
        low, high = (sum(bounds[index] for bounds in plans.values()) for index in (0, 1))
        passed = sum(images for images, _ in row["phases"].values())
        seconds = rest
        for phase, (images, spent) in smallest["phases"].items():
            seconds += sum(plans[phase]) / 2 * spent / images if images else 0.0
        planned = planned_bytes(row["settings"], row["n"])
        told = "–" if row is smallest else f"{seconds:.0f} ({seconds / row['wall'] - 1:+.0%})"
        decoded = [f"{size / 1e6:.1f}" for size in (planned, row["bytes"])]
        cells = [
            f"{row['n']:,}",
            f"{low:,.0f}–{high:,.0f}",
            f"{passed:,}",
            *decoded,
        ]
        print(f"| {' | '.join([*cells, told, format(row['wall'], '.0f'), format(row['mcc'], '.3f')])} |")
    print("\n| images | phase | passes | seconds | passes a second |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        for phase, (images, seconds) in row["phases"].items():
            if images:
                print(f"| {row['n']:,} | {phase} | {images:,} | {seconds:.1f} | {images / seconds:.0f} |")
    if options.json:
        plain = [{**row, "settings": row["settings"].to_dict()} for row in rows]
        options.json.write_text(json.dumps(plain, indent=1) + "\n")


if __name__ == "__main__":
    main()
