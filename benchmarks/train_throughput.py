"""Images a second for one network in training: a plain loop, a good ordinary one, and ours.

    python benchmarks/train_throughput.py DATA [--architectures mobilenet_v3_small,shufflenet_v2_x1_0] [--size 112]
                                               [--steps 30] [--rounds 5] [--json FILE]

plain                   decodes and transforms each image in a DataLoader with one worker; the loss is summed up sample
                        by sample in Python, as the thesis' published code does
ordinary                torchvision's v2 transforms in a DataLoader with a worker a core; the loss of a whole batch
ordinary-channels-last  the same with channels last, which a careful programmer may do
ours                    ``gensoup.train.learner`` from the cache of decoded images, with half of the cores as by
                        default; and ours-all, with as many threads as cores

All make the same augmentation, train with AdamW in batches of 32 and take torch's own number of threads but where it
says otherwise. Each is timed three ways: its loader alone, its step alone (on one batch again and again) and all
together, each time in a process of its own, in turns, after three steps that do not count. Ours decodes everything
once before; that is told by itself. The share of the peak: three passes' multiply-adds, two operations each, against
what a large product of matrices reaches here. On a busy machine core milliseconds and ratios within a round say more
than rates.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from idle import print_idle

from gensoup.bench.dataset import LabelledFolder
from gensoup.export.architectures import count_cost
from gensoup.runtime.device import cpu_times, default_threads, fingerprint, usable_cores

HERE = Path(__file__).parent
CONTENDERS = ("plain", "ordinary", "ordinary-channels-last", "ours", "ours-all")
PARTS = ("loader", "step", "all")
# On a CPU of two cores and on a GPU: how much faster than the plain and the ordinary loop ours should be.
GOALS = {"cpu": (2.5, 1.3), "cuda": (40.0, 5.0)}


def answer(contender: str, part: str, architecture: str, options: argparse.Namespace, cache: str) -> dict[str, Any]:
    """What one process measured."""
    name = contender.removesuffix("-all")
    threads = usable_cores() if contender == "ours-all" else default_threads()
    command = [sys.executable, str(HERE / "train_contenders.py"), name, part, str(options.data)]
    command += ["--architecture", architecture, "--size", str(options.size), "--steps", str(options.steps)]
    command += ["--batch-size", str(options.batch_size), "--threads", str(threads), "--cache", cache]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def rate(row: dict[str, Any]) -> float:
    """Images a second."""
    return float(row["images"] / row["seconds"])


def table(found: dict[str, dict[str, list[dict[str, Any]]]], flops: float, peak: float) -> list[str]:
    """Markdown. found: contender → part → rounds. flops: of an image, there and back; peak: of the device."""
    lines = [
        "| what | loader alone | step alone | all, images/s (range) | core ms an image | of the peak | ours over it |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for contender, parts in found.items():
        alone = [f"{statistics.median(map(rate, parts[part])):.0f}" for part in ("loader", "step")]
        rates = [rate(row) for row in parts["all"]]
        core = statistics.median(row["core_seconds"] / row["images"] for row in parts["all"]) * 1e3
        middle = statistics.median(rates)
        spread = f"{middle:.0f} ({min(rates):.0f}–{max(rates):.0f})"
        over = ratio(found, contender)
        share = middle * flops / peak
        lines.append(f"| {contender} | {alone[0]} | {alone[1]} | {spread} | {core:.2f} | {share:.1%} | {over:.2f} |")
    return lines


def ratio(found: dict[str, dict[str, list[dict[str, Any]]]], contender: str) -> float:
    """How many times ours is as fast, the median over the rounds."""
    pairs = zip(found["ours"]["all"], found[contender]["all"], strict=True)
    return statistics.median(rate(ours) / rate(other) for ours, other in pairs)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--architectures", default="mobilenet_v3_small,shufflenet_v2_x1_0")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    contenders, parts = options.contenders.split(","), options.parts.split(",")
    folder, kind = LabelledFolder.open(options.data), "cuda" if torch.cuda.is_available() else "cpu"
    device, before = fingerprint(), cpu_times()
    what = f"{len(folder)} images of {options.data.name} at {options.size} px, batch {options.batch_size}"
    where = f"{device['cpu']}, {usable_cores()} cores; torch {torch.__version__} on {kind}"
    print(f"{where}; {what}; load {os.getloadavg()[0]:.1f}")
    everything: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache:
        decoding = answer("ours", "loader", options.architectures.split(",")[0], options, cache)["decoding_s"]
        print(f"Decoding all of them, once for all runs: {decoding:.1f} s ({len(folder) / decoding:.0f} a second).\n")
        for architecture in options.architectures.split(","):
            found: dict[str, dict[str, list[dict[str, Any]]]] = {
                name: {part: [] for part in PARTS} for name in contenders
            }
            peaks = []
            for number in range(options.rounds):
                turn = number % len(contenders)
                for name in contenders[turn:] + contenders[:turn]:
                    for part in parts:
                        print(
                            f"{architecture}, round {number + 1} of {options.rounds}: {name}, {part}", file=sys.stderr
                        )
                        found[name][part].append(answer(name, part, architecture, options, cache))
                peaks.append(answer("peak", "all", architecture, options, cache)["flops"])
            everything[architecture] = {"found": found, "peaks": peaks}
            macs, _ = count_cost(architecture, len(folder.labels), options.size)
            print(f"### {architecture}: {macs / 1e6:.0f} M multiply-adds, peak {max(peaks) / 1e9:.0f} GFLOP/s\n")
            for part in PARTS:
                for name in contenders:
                    found[name][part] = found[name][part] or [{"images": float("nan"), "seconds": 1, "core_seconds": 0}]
            print("\n".join(table(found, 3 * 2 * macs, max(peaks))))
            if {"ours", "plain", "ordinary"} <= set(contenders):
                goals = dict(zip(("plain", "ordinary"), GOALS[kind], strict=True))
                told = (
                    f"{ratio(found, name):.2f} × {name} (goal {goal:g}: "
                    f"{'met' if ratio(found, name) >= goal else 'missed'})"
                    for name, goal in goals.items()
                )
                print(f"\nOurs: {', '.join(told)}.\n", flush=True)
    print_idle(before)
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
