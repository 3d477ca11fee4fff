"""What saliency costs: engine time with and without, and whether it is within a twentieth, for every architecture.

    python benchmarks/saliency_cost.py [--size 224] [--frames 60] [--json FILE] [NAME …]

A graph made without saliency, and ``infer`` and ``explain`` of one that has it, are timed in turns, frame by frame.
What counts is the processor time of the calling thread, in which an engine of one thread does all its work: other
processes hardly touch it. Weights are random: they do not change the time.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from gensoup.export.architectures import initial_model
from gensoup.export.graph import to_onnx
from gensoup.export.names import ARCHITECTURES
from gensoup.export.saliency import SaliencyRange
from gensoup.runtime.engines import load_engine

CLASSES = 5
LIMIT = 1.05
WARM_UP = 5


def measure(name: str, size: int, frames: int) -> dict[str, object]:
    """Medians of one network on ONNX Runtime, in ms of processor time, and their ratio with its 95% interval."""
    model = initial_model(name, CLASSES, 0, None).eval()
    shown = SaliencyRange((0.0,) * CLASSES, (1.0,) * CLASSES, (0, 0), 0)
    without = load_engine(to_onnx(model, 1.0, size), 1)
    engine = load_engine(to_onnx(model, 1.0, size, shown), 1)
    paths = {"without": without.infer, "infer": engine.infer, "explain": engine.explain}
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (8, size, size, 3), dtype=np.uint8)
    times: dict[str, list[float]] = {path: [] for path in paths}
    for number in range(frames + WARM_UP):
        for path in rng.permutation(list(paths)):
            started = time.thread_time()
            paths[path](pictures[number % len(pictures)])
            if number >= WARM_UP:
                times[path].append((time.thread_time() - started) * 1e3)
    taken = {path: np.array(values) for path, values in times.items()}
    places = rng.integers(0, frames, (2000, frames))
    ratios = np.median(taken["explain"][places], axis=1) / np.median(taken["without"][places], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    medians = {f"{path}_ms": round(float(np.median(values)), 3) for path, values in taken.items()}
    ratio = float(np.median(taken["explain"]) / np.median(taken["without"]))
    bounds = {"ratio": round(ratio, 4), "low": round(float(low), 4), "high": round(float(high), 4)}
    return {"architecture": name, "size": size, "frames": frames, **medians, **bounds, "within": ratio <= LIMIT}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=ARCHITECTURES, metavar="NAME")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print(f"{'architecture':20} {'without':>9} {'infer':>9} {'explain':>9}   ratio (95%), ms at {options.size} px")
    for name in options.names:
        row = measure(name, options.size, options.frames)
        rows.append(row)
        numbers = " ".join(f"{row[path]:9.3f}" for path in ("without_ms", "infer_ms", "explain_ms"))
        verdict = "" if row["within"] else "  over a twentieth"
        print(f"{name:20} {numbers}   {row['ratio']:.3f} ({row['low']:.3f}–{row['high']:.3f}){verdict}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
