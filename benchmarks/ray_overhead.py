"""What Ray costs and gains: one worker against inline, two workers against one.

    python benchmarks/ray_overhead.py DATA [--rounds 3] [--option=--generations=3 …] [--weights-dir FOLDER] [--json F]

Each is the whole command, ``gensoup train`` with the same data, seed and options in a new run folder, in turns.
``--threads 1`` for all, so that two workers have a core each on two cores; one worker is one that takes all cores. All
must end in the same weights to the last bit, or the program ends. Images are decoded by a first run, which is not
counted, and found in the cache by the rest.

Told are the seconds of the whole command, with the start of Ray and of its workers, and beside them what the
individuals took by themselves, summed: how far that grows is what workers take from each other.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from search_process import search_parser, search_seconds, search_words

from gensoup.runtime.device import fingerprint, usable_cores

GOAL = 0.10
OPTIONS = ("--architectures=mobilenet_v3_small,shufflenet_v2_x1_0", "--size=96", "--generations=3")


def contenders(cores: int) -> dict[str, list[str]]:
    """Options by name; the first is what the others are held against."""
    return {
        "inline": [],
        "ray, 1 worker": ["--executor=ray", f"--worker-cpus={cores}"],
        "ray, 2 workers": ["--executor=ray", f"--worker-cpus={max(1, cores // 2)}"],
    }


def search(data: Path, out: Path, cache: Path, options: list[str]) -> dict[str, Any]:
    """One run: seconds of the command, seconds of its individuals' training, the final weights."""
    seconds = search_seconds(data, out, ["--cache", str(cache), "--threads=1", *options])
    individuals = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["individuals"]
    trained = sum(one["seconds"] for one in individuals if one["place"][0] != "refit")
    weights = (out / "model.safetensors").read_bytes()
    return {"seconds": seconds, "trained": trained, "weights": weights}


def main() -> None:
    """Measure and print the table."""
    parser = search_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    names = contenders(usable_cores())
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        cache, common = Path(folder) / "cache", [*OPTIONS, *search_words(options)]
        weights = search(options.data, Path(folder) / "first", cache, common)["weights"]
        for number in range(options.rounds):
            for name, own in names.items():
                out = Path(folder) / f"{number}-{name.replace(' ', '')}"
                one = search(options.data, out, cache, [*common, *own])
                if one.pop("weights") != weights:
                    raise SystemExit(f"{name}: other weights than inline")
                found[name].append({key: float(value) for key, value in one.items()})
    device = fingerprint("none")
    print(f"{device['cpu']}, {usable_cores()} cores; load {os.getloadavg()[0]:.1f}; all ended in the same weights\n")
    print("| what | whole command, s | to inline's | individuals' own seconds, summed | to inline's |")
    print("| --- | --- | --- | --- | --- |")
    base = {key: statistics.median(one[key] for one in found["inline"]) for key in ("seconds", "trained")}
    for name, rounds in found.items():
        whole, trained = (statistics.median(one[key] for one in rounds) for key in ("seconds", "trained"))
        ratios = whole / base["seconds"], trained / base["trained"]
        print(f"| {name} | {whole:.1f} | {ratios[0]:.2f} | {trained:.1f} | {ratios[1]:.2f} |")
    single = statistics.median(one["seconds"] for one in found["ray, 1 worker"])
    double = statistics.median(one["seconds"] for one in found["ray, 2 workers"])
    over = single / base["seconds"] - 1
    print(f"\nGoal: at most {GOAL:.0%} over inline with one worker: {over:.1%}, {'met' if over <= GOAL else 'missed'}.")
    print(f"Two workers against one: {single / double:.2f} times as fast.")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
