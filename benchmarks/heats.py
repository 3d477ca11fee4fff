"""What do heats (``--halving``) do to a search's result? The same searches without and with them, seed by seed.

    python benchmarks/heats.py DATA --out FOLDER [--seeds 8] [--halving 1,2] [--option=--size=64 …] [--weights-dir W]

Each is ``gensoup train`` with one thread, as many at once as there are cores; those of a seed have the same split of
the images and the same initial individuals. Runs are kept in FOLDER: called again, what is finished is not run again,
and what was cut off goes on. Differences are paired by seed: their means with 95% bootstrap intervals and Wilcoxon's p.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from quality_results import bootstrap_interval, signed_rank
from search_process import search_parser, search_seconds, search_words

from gensoup.runtime.device import fingerprint, usable_cores


def search(data: Path, out: Path, words: list[str]) -> dict[str, Any]:
    """One search, from where it is: MCC and loss on the sealed test, images, seconds at work."""
    metrics = out / "metrics.json"
    if not metrics.exists():
        search_seconds(data, out, [*words, *(["--resume"] if out.exists() else [])])
    values = json.loads(metrics.read_text(encoding="utf-8"))
    test = values["scores"]["test"]
    return {
        "mcc": test["mcc"],
        "loss": test["negative_log_likelihood"],
        "images": values["images_trained"],
        "seconds": sum(one["seconds"] for one in values["individuals"]),
        "network": values["architecture"],
    }


def table(found: dict[int, list[dict[str, Any]]]) -> list[str]:
    """Markdown: a row for each number of heats, then each less none. found: rows in the order of the seeds."""
    lines = ["| heats | seeds | MCC on test, mean | loss | images | seconds at work | networks |", "| --- " * 7 + "|"]
    for heats, rows in found.items():
        mean = {key: np.mean([row[key] for row in rows]) for key in ("mcc", "loss", "images", "seconds")}
        names = sorted({row["network"] for row in rows})
        counts = ", ".join(f"{name} {sum(row['network'] == name for row in rows)}" for name in names)
        lines.append(
            f"| {heats} | {len(rows)} | {mean['mcc']:.4f} | {mean['loss']:.4f} | {mean['images']:,.0f} | "
            f"{mean['seconds']:.0f} | {counts} |"
        )
    lines += ["", "| heats, less none | MCC, mean [95%] | wins–losses | p | loss, mean [95%] | seconds, ratio |"]
    lines.append("| --- " * 6 + "|")
    for heats in [heats for heats in found if heats]:
        pairs = list(zip(found[heats], found[0], strict=True))
        mcc, loss = (np.array([one[key] - none[key] for one, none in pairs]) for key in ("mcc", "loss"))
        ratio = np.exp(np.mean([np.log(one["seconds"] / none["seconds"]) for one, none in pairs]))
        told = ["{:+.4f} [{:+.4f}, {:+.4f}]".format(by.mean(), *bootstrap_interval(by)) for by in (mcc, loss)]
        wins = f"{(mcc > 0).sum()}–{(mcc < 0).sum()}"
        lines.append(f"| {heats} | {told[0]} | {wins} | {signed_rank(mcc):.3f} | {told[1]} | {ratio:.2f} |")
    return lines


def main() -> None:
    """Run what is missing and print the table."""
    parser = search_parser(__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--halving", default="1", help="numbers of heats, with commas")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    common = [*search_words(options), "--threads=1", "--cache", str(options.out / "cache")]
    numbers = [0, *map(int, options.halving.split(","))]
    found: dict[tuple[int, int], dict[str, Any]] = {}
    with ThreadPoolExecutor(usable_cores()) as pool:
        jobs = {
            pool.submit(
                search,
                options.data,
                options.out / f"seed{seed}-heats{heats}",
                [*common, f"--seed={seed}", f"--halving={heats}"],
            ): (heats, seed)
            for seed in range(options.seeds)
            for heats in numbers
        }
        for done, job in enumerate(as_completed(jobs), 1):
            found[jobs[job]] = job.result()
            print(f"{done} of {len(jobs)}: {jobs[job]} {found[jobs[job]]}", file=sys.stderr)
    rows = {heats: [found[heats, seed] for seed in range(options.seeds)] for heats in numbers}
    print(f"{fingerprint()['cpu']}, {usable_cores()} searches at once; {' '.join(options.option)}\n")
    print("\n".join(table(rows)))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
