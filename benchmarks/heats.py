"""What do heats (``--halving``) do to a search's result? The same searches without and with them, seed by seed.

    python benchmarks/heats.py DATA --out FOLDER [--seeds 8] [--halving 1] [--option=--size=64 …] [--weights-dir FOLDER]

Each is ``gensoup train`` with one thread, as many at once as there are cores; both of a seed have the same split of the
images and the same initial individuals. Runs are kept in FOLDER, by all that they were called with: called again, what
is finished is not run again, and what was cut off goes on. Differences are paired by seed: their means with 95%
bootstrap intervals and Wilcoxon's p.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from quality_results import bootstrap_interval, digest, signed_rank
from search_process import search_parser, search_seconds, search_words

from gensoup.export.run_files import METRICS_FILE
from gensoup.runtime.device import fingerprint, usable_cores
from gensoup.train.run_folder import CONFIG_FILE

Row = dict[str, Any]


def search(data: Path, out: Path, words: list[str], cache: Path) -> Row:
    """One search, from where it is: MCC and loss on the sealed test, images, seconds at work."""
    run = out / digest([str(data.resolve()), *words])
    if not (run / METRICS_FILE).exists():
        resumed = ["--resume"] if (run / CONFIG_FILE).exists() else []
        search_seconds(data, run, [*words, "--cache", str(cache), *resumed])
    values = json.loads((run / METRICS_FILE).read_text(encoding="utf-8"))
    test = values["scores"]["test"]
    return {
        "mcc": test["mcc"],
        "loss": test["negative_log_likelihood"],
        "images": values["images_trained"],
        "seconds": sum(one["seconds"] for one in values["individuals"]),
        "network": values["architecture"],
    }


def table(without: Sequence[Row], with_heats: Sequence[Row]) -> list[str]:
    """Markdown: a line for each, then one of their differences; both in the order of the seeds."""
    lines = ["| heats | seeds | MCC on test, mean | loss | images | seconds at work | networks |", "| --- " * 7 + "|"]
    for name, rows in (("without", without), ("with", with_heats)):
        mean = {key: np.mean([row[key] for row in rows]) for key in ("mcc", "loss", "images", "seconds")}
        networks = [row["network"] for row in rows]
        counts = ", ".join(f"{network} {networks.count(network)}" for network in sorted(set(networks)))
        lines.append(
            f"| {name} | {len(rows)} | {mean['mcc']:.4f} | {mean['loss']:.4f} | {mean['images']:,.0f} | "
            f"{mean['seconds']:.0f} | {counts} |"
        )
    pairs = list(zip(with_heats, without, strict=True))
    mcc, loss = (np.array([one[key] - other[key] for one, other in pairs]) for key in ("mcc", "loss"))
    told = ["{:+.4f} [{:+.4f}, {:+.4f}]".format(by.mean(), *bootstrap_interval(by)) for by in (mcc, loss)]
    ratio = np.exp(np.mean([np.log(one["seconds"] / other["seconds"]) for one, other in pairs]))
    return [
        *lines,
        "",
        "| with less without: MCC, mean [95%] | wins–losses | Wilcoxon p | loss, mean [95%] | seconds, ratio |",
        "| --- " * 5 + "|",
        f"| {told[0]} | {(mcc > 0).sum()}–{(mcc < 0).sum()} | {signed_rank(mcc):.3f} | {told[1]} | {ratio:.2f} |",
    ]


def main() -> None:
    """Run what is missing and print the table."""
    parser = search_parser(__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--halving", type=int, default=1, help="number of heats")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    common = [*search_words(options), "--threads=1"]
    found: dict[tuple[int, int], Row] = {}
    pool = ThreadPoolExecutor(usable_cores())
    try:
        jobs = {
            pool.submit(
                search,
                options.data,
                options.out,
                [*common, f"--seed={seed}", f"--halving={heats}"],
                options.out / "cache",
            ): (heats, seed)
            for seed in range(options.seeds)
            for heats in (0, options.halving)
        }
        for done, job in enumerate(as_completed(jobs), 1):
            found[jobs[job]] = job.result()
            print(f"{done} of {len(jobs)}: {jobs[job]} {found[jobs[job]]}", file=sys.stderr)
    finally:
        pool.shutdown(cancel_futures=True)  # a search that fails ends it all
    rows = [[found[heats, seed] for seed in range(options.seeds)] for heats in (0, options.halving)]
    print(f"{fingerprint()['cpu']}, {usable_cores()} searches at once; {' '.join(options.option)}\n")
    print("\n".join(table(*rows)))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
