"""From the start of a process to its first result, and the memory it then holds: ours and Ultralytics.

    python benchmarks/start_up.py BUNDLE [--engine NAME] [--peer-python /path/to/python] [--rounds 15]

The frame is 1080p. Every start is a process of its own, in turns; the clock runs in this one, from before the process
is made to the line in which it gives its result. The first start of each is not counted: it brings files into memory
and, with --engine auto, measures the engines. Both run the same network on the same frame. How Ultralytics gets an
interpreter of its own is told in stream_throughput.py. On a busy machine only core seconds and memory mean anything.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gensoup.runtime.device import fingerprint, usable_cores
from gensoup.runtime.sources.synthetic import SyntheticEndoscope

HERE = Path(__file__).parent
GOAL_SECONDS, GOAL_MIB = 1.0, 200
OURS = """
import sys
import numpy as np
from gensoup.runtime import Classifier
bundle, frame, engine = sys.argv[1:]
prediction = Classifier.load(bundle, engine)(np.load(frame))
import json, time
from gensoup.runtime.memory import resident_bytes
core_seconds = time.process_time()
resident, most = resident_bytes()
torch = [name for name in sys.modules if name.partition(".")[0] == "torch"]
assert not torch
print(json.dumps({
    "label": prediction.index, "core_seconds": core_seconds, "resident_kb": resident >> 10, "most_kb": most >> 10
}), flush=True)
"""


def start(command: Sequence[str]) -> dict[str, float]:
    """Seconds until a process answers, and what it answers. Ends the program where it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = (line for line in process.stdout if line.startswith("{"))
    line = next(lines, None)
    seconds = time.perf_counter() - started
    _, errors = process.communicate()
    if line is None:
        raise SystemExit(f"{' '.join(command)} failed:\n{errors}")
    return {"seconds": seconds, **json.loads(line)}


def row(name: str, found: list[dict[str, float]]) -> str:
    """One line of the table: medians, and the slowest."""
    seconds = [one["seconds"] for one in found]
    core, resident, most = (
        statistics.median(one[key] for one in found) for key in ("core_seconds", "resident_kb", "most_kb")
    )
    return (
        f"| {name} | {statistics.median(seconds):.2f} | {max(seconds):.2f} | {core:.2f} | "
        f"{resident / 1024:.0f} | {most / 1024:.0f} |"
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--peer-python", metavar="PATH", help="an interpreter that has Ultralytics")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder) / "frame.npy"
        np.save(frame, SyntheticEndoscope(0, "polyp", 1080, 1920).frame(0.0))
        commands = {"ours": [sys.executable, "-c", OURS, str(options.bundle), str(frame), options.engine]}
        if options.peer_python:
            from classifier_graphs import graph_for_ultralytics

            graph = graph_for_ultralytics(options.bundle, Path(folder) / "bundle.onnx")
            peer = str(HERE / "ultralytics_peer.py")
            commands["Ultralytics"] = [options.peer_python, peer, "first", str(graph), str(frame)]
        found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for number in range(options.rounds + 1):
            for name, command in commands.items():
                answer = start(command)
                if number:
                    found[name].append(answer)
    device = fingerprint(options.engine)
    print(f"{device['cpu']}, {usable_cores()} cores; {options.engine}; load {os.getloadavg()[0]:.1f}\n")
    print("| what | first result, s | slowest | core s | resident, MiB | at most |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, answers in found.items():
        print(row(name, answers))
    seconds = statistics.median(one["seconds"] for one in found["ours"])
    mib = statistics.median(one["resident_kb"] for one in found["ours"]) / 1024
    met = {True: "met", False: "missed"}
    print(f"\nGoals: {GOAL_SECONDS} s {met[seconds <= GOAL_SECONDS]}, {GOAL_MIB} MiB {met[mib <= GOAL_MIB]}.")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
