"""Peak resident memory of a training run against the size of the data set: 1, 4 and 16 times.

    python benchmarks/memory.py [--images 2000] [--size 96] [--factors 1,4,16] [--json FILE]

The smallest set is drawn; the larger ones are the same images under more names, each of which is decoded, kept, dealt
into roles and scored like any other (groups are given, so that none is a duplicate). Each run trains as many images in
all: two individuals of SqueezeNet 1.1, no branches, no refit. Its peak is what the system says of the ended process.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
from pathlib import Path

from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.synth import write_dataset
from gensoup.runtime.sources.synthetic import LABELS

TRAINED = 1_200  # images that one individual trains, whatever the data set
MOST_GROWTH = 1.1


def multiplied(source: Path, out: Path, factor: int) -> None:
    """The images of ``source`` ``factor`` times over, as hard links, each copy's groups its own."""
    folder = LabelledFolder.open(source)
    assert folder.groups is not None
    out.mkdir()
    with (out / "groups.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "group"])
        for copy in range(factor):
            for name, path, group in zip(folder.files, folder.paths, folder.groups, strict=True):
                target = out / Path(name).parent / f"{copy}-{Path(name).name}"
                target.parent.mkdir(exist_ok=True)
                os.link(path, target)
                rows.writerow([target.relative_to(out).as_posix(), f"{copy}-{group}"])


def peak_mib(data: Path, size: int, run: Path) -> tuple[float, float]:
    """Peak resident MiB of ``gensoup train``, and MiB of decoded images."""
    folder = LabelledFolder.open(data)
    epochs = TRAINED / (0.6 * len(folder))
    command = [sys.executable, "-m", "gensoup", "train", str(data), "--out", str(run), "--size", str(size)]
    command += ["--architectures", "squeezenet1_1", "--init", "random", "--generations", "1", "--population", "2"]
    command += ["--epochs", f"{epochs:g}", "--refit-epochs", "0", "--threads", "1", "--no-cache"]
    config = run.with_suffix(".yaml")
    config.write_text("branches: 0\nfirst_size: 1.0\n", encoding="utf-8")
    child = os.posix_spawn(sys.executable, [*command, "--config", str(config)], os.environ)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_maxrss / 1024, len(folder) * size * size * 3 / 2**20


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--factors", default="1,4,16")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "drawn"
        write_dataset(source, options.images // len(LABELS))
        for factor in map(int, options.factors.split(",")):
            data = Path(scratch) / f"times{factor}"
            multiplied(source, data, factor)
            peak, decoded = peak_mib(data, options.size, Path(scratch) / f"run{factor}")
            rows.append({"factor": factor, "images": len(LabelledFolder.open(data)), "peak": peak, "decoded": decoded})
    print("\n| data set | images | decoded, MiB | peak resident, MiB | over the smallest |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        over = row["peak"] / rows[0]["peak"]
        print(f"| {row['factor']} × | {row['images']:,} | {row['decoded']:.0f} | {row['peak']:.0f} | {over:.2f} |")
    growth = max(row["peak"] for row in rows) / rows[0]["peak"]
    print(f"\nFlat (at most {MOST_GROWTH} ×): {'yes' if growth <= MOST_GROWTH else 'no'}, {growth:.2f}.")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
