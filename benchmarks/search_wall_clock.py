"""One whole default search, before and after: wall time, core time and what came of it.

    python benchmarks/search_wall_clock.py DATA --before REVISION [--weights-dir FOLDER] [--rounds 3] [--halving]
                                           [--option=--generations=2 …] [--json FILE]

Before is the code of REVISION itself, checked out beside this one (``git worktree``) and run by the same interpreter;
nothing is switched off to imitate it. After is this code, first with an empty cache of decoded images, then with the
one that the first left. All get the same data, seed and options, and their test images are the same; since random
numbers are used in another way, the networks differ as two seeds' would, and the MCC with its interval says whether the
result is the same. Which networks a search trains is luck as well, and some take ten times as long: so beside the wall
time stands how much faster the same ones are trained, those of ``before`` at the rate of each network, image size and
phase that both had. --halving adds a run with ``--halving 1``. Rounds go through seeds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from search_process import search_parser, search_seconds, search_words

ROOT = Path(__file__).resolve().parent.parent


def search(code: Path, data: Path, out: Path, cache: Path, options: list[str]) -> dict[str, Any]:
    """A search by the code in a folder."""
    # An installed checkout comes after PYTHONPATH, so that this very code is what runs; caches are not shared.
    environment = {**os.environ, "PYTHONPATH": str(code), "XDG_CACHE_HOME": str(cache)}
    before = os.times()
    wall = search_seconds(data, out, ["--json", f"{out}.json", *options], code=code, environment=environment)
    after = os.times()
    metrics = json.loads(Path(f"{out}.json").read_text(encoding="utf-8"))
    test = metrics["scores"]["test"]
    core = after.children_user + after.children_system - before.children_user - before.children_system
    found = {"wall": wall, "core": core, "images": metrics["images_trained"]}
    found |= {"mcc": test["mcc"], "interval": test["intervals"]["mcc"], "network": metrics["architecture"]}
    return {**found, "trained": trained(metrics["individuals"])}


def trained(individuals: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Images and seconds by phase, network and image size."""
    totals: dict[str, list[float]] = {}
    for one in individuals:
        if one["reason"] is None:
            total = totals.setdefault(f"{one['place'][0]} {one['recipe']['architecture']} {one['size']}", [0, 0.0])
            total[0] += one["images"]
            total[1] += one["seconds"]
    return totals


def alike(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    """How many times as fast the same images would have passed the same networks."""
    both = before["trained"].keys() & after["trained"].keys()
    pairs = [(before["trained"][key], after["trained"][key]) for key in both]
    return float(sum(one[1] for one, _ in pairs) / sum(one[0] * two[1] / two[0] for one, two in pairs))


def main() -> None:
    """Measure and print a table."""
    parser = search_parser(__doc__)
    parser.add_argument("--before", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--halving", action="store_true")
    options = parser.parse_args()
    shared = search_words(options)
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        old = Path(scratch) / "before"
        subprocess.run(["git", "worktree", "add", "--detach", str(old), options.before], cwd=ROOT, check=True)
        try:
            for number in range(options.rounds):
                cache = Path(scratch) / f"cache{number}"
                runs = [("before", old, []), ("after", ROOT, []), ("after, images kept", ROOT, [])]
                runs += [("after, images kept, one heat", ROOT, ["--halving", "1"])] * options.halving
                if number % 2:  # before and after in turns; what is kept needs one that kept it
                    runs = [*runs[1:], runs[0]]
                for name, code, more in runs:
                    print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr)
                    out = Path(scratch) / f"{name.replace(', ', '-').replace(' ', '-')}-{number}"
                    row = search(
                        code,
                        options.data.resolve(),
                        out,
                        cache,
                        [*shared, "--seed", str(options.first_seed + number), *more],
                    )
                    found.setdefault(name, []).append(row)
                    if options.json:  # as far as it has come
                        options.json.write_text(json.dumps(found, indent=1) + "\n")
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(old)], cwd=ROOT, check=True)
    print("| what | wall s | core s | images | wall, before over it | times as fast, alike | MCC on test by seed |")
    print("| --- " * 7 + "|")
    for name, rows in found.items():
        wall, core, images = (statistics.median(row[key] for row in rows) for key in ("wall", "core", "images"))
        pairs = list(zip(found["before"], rows, strict=True))
        over = statistics.median(one["wall"] / row["wall"] for one, row in pairs)
        faster = statistics.median(alike(one, row) for one, row in pairs)
        scores = ", ".join(f"{row['mcc']:.3f} [{row['interval'][0]:.3f}, {row['interval'][1]:.3f}]" for row in rows)
        print(f"| {name} | {wall:.0f} | {core:.0f} | {images:,.0f} | {over:.2f} | {faster:.2f} | {scores} |")


if __name__ == "__main__":
    main()
