"""Frames a second from a 1080p file: ours, Ultralytics' ``predict(stream=True)``, a plain loop, and the bound.

    python benchmarks/stream_throughput.py BUNDLE [--peer-python /path/to/python] [--ultralytics] [--rounds 5]

All run one after the other, several rounds, in another order each time, each in a process of its own whose models
are loaded before the clock starts. The bound is the number of cores over the core time that a frame takes in decoding,
resizing and engine, each in its most core-efficient setting. --ultralytics adds Ultralytics' own yolov8n-cls with
random weights, run by all. Ultralytics (AGPL-3.0) is no part of GenSoup; to compare, give it an environment of its own:

    uv venv /tmp/peer
    uv pip install -p /tmp/peer ultralytics onnx onnxruntime      # then --peer-python /tmp/peer/bin/python

The file is made once: 640 frames of the synthetic endoscope, H.264 where this OpenCV can write it, else MPEG-4. --video
takes another. On a busy machine only core milliseconds and their ratios mean anything: a line says how busy it was.
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

import cv2
from idle import print_idle

from gensoup.runtime.bundle import SUFFIX, read_bundle
from gensoup.runtime.device import cpu_times, fingerprint, usable_cores
from gensoup.runtime.sources.synthetic import LABELS, SyntheticEndoscope

HERE = Path(__file__).parent
WORK = Path(tempfile.gettempdir()) / "gensoup-stream-throughput"
FRAMES, RATE_HZ, SCENES = 640, 60.0, 4
GOAL_OVER_PEER, GOAL_OF_BOUND = 4.2, 0.95


def video_file(folder: Path) -> Path:
    """The 1080p recording, made on first use."""
    for codec in ("avc1", "mp4v"):
        path = folder / f"{FRAMES}-{codec}.mp4"
        part = path.with_suffix(".part.mp4")
        if path.exists():
            return path
        writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*codec), RATE_HZ, (1920, 1080))
        if not writer.isOpened():
            continue
        print(f"drawing {path}", file=sys.stderr)
        scenes = [SyntheticEndoscope(number, LABELS[number], 1080, 1920) for number in range(SCENES)]
        for number in range(FRAMES):
            writer.write(scenes[number * SCENES // FRAMES].frame(number / RATE_HZ))
        writer.release()
        part.rename(path)
        return path
    raise SystemExit("this OpenCV writes neither H.264 nor MPEG-4: give a file with --video")


def answer(python: str, script: str, *arguments: object) -> dict[str, object]:
    """The JSON object that one of the scripts beside this one prints last. Ends the program where it fails."""
    command = [python, str(HERE / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(
    bundle: Path, video: Path, engine: str, peer: tuple[str, Path] | None, rounds: int
) -> dict[str, list[dict]]:
    """What every contender answered, round by round. peer: its interpreter and graph."""
    calls = {
        name: (sys.executable, "throughput_contenders.py", name, bundle, video, engine) for name in ("ours", "plain")
    }
    calls["bound"] = (sys.executable, "throughput_contenders.py", "bound", bundle, video, engine)
    if peer is not None:
        calls["Ultralytics"] = (peer[0], "ultralytics_peer.py", "stream", peer[1], video)
    found: dict[str, list[dict]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr)
            found[name].append(answer(*calls[name]))
    return found


def table(title: str, found: dict[str, list[dict]], cores: int) -> str:
    """Markdown: frames a second (median, least and most of the rounds), core milliseconds a frame and ratios."""
    rates = {name: [row["frames"] / row["seconds"] for row in rows] for name, rows in found.items() if name != "bound"}
    core_ms = {
        name: statistics.median(row["core_seconds"] / row["frames"] for row in found[name]) * 1e3 for name in rates
    }
    stages = {
        stage: statistics.median(row["stages"][stage] for row in found["bound"]) * 1e3
        for stage in ("decode", "resize", "engine")
    }
    total = sum(stages.values())
    bounds = [cores / sum(row["stages"].values()) for row in found["bound"]]
    peer = statistics.median(rates["Ultralytics"]) if "Ultralytics" in rates else None
    limit = statistics.median(bounds)
    lines = [
        f"### {title}",
        "",
        "| what | frames/s, median (range) | core ms a frame | × Ultralytics | of the bound |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, values in (*rates.items(), ("bound", bounds)):
        rate = statistics.median(values)
        over = f"{rate / peer:.2f}" if peer else "–"
        core = core_ms.get(name, total)
        spread = f"{rate:.1f} ({min(values):.1f}–{max(values):.1f})"
        lines.append(f"| {name} | {spread} | {core:.2f} | {over} | {rate / limit:.3f} |")
    parts = ", ".join(f"{stage} {value:.2f}" for stage, value in stages.items())
    lines += ["", f"Core milliseconds of the stages: {parts}; {cores} cores."]
    share = statistics.median(rates["ours"]) / limit
    verdict = f"{share:.3f} of the bound (goal {GOAL_OF_BOUND}: {'met' if share >= GOAL_OF_BOUND else 'missed'})"
    if peer:
        over_peer = statistics.median(rates["ours"]) / peer
        met = "met" if over_peer >= GOAL_OVER_PEER else "missed"
        verdict += f", {over_peer:.2f} × Ultralytics (goal {GOAL_OVER_PEER}: {met})"
    lines += ["", f"Ours: {verdict}.", ""]
    return "\n".join(lines)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--peer-python", metavar="PATH", help="an interpreter that has Ultralytics")
    parser.add_argument("--ultralytics", action="store_true", help="its own yolov8n-cls too; needs --peer-python")
    parser.add_argument("--video", type=Path)
    parser.add_argument("--engine", default="onnxruntime-cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.ultralytics and options.peer_python is None:
        parser.error("--ultralytics: needs --peer-python, an interpreter that has it")
    from classifier_graphs import bundle_from_ultralytics, graph_for_ultralytics

    WORK.mkdir(exist_ok=True)
    video = options.video or video_file(WORK)
    python = options.peer_python
    peer = (python, graph_for_ultralytics(options.bundle, WORK / "bundle.onnx")) if python else None
    manifest = read_bundle(options.bundle).manifest
    wanted = [(f"{manifest.architecture}, {manifest.preprocess.size} px", options.bundle, peer)]
    if options.ultralytics:
        graph = WORK / "yolov8n-cls.onnx"
        answer(python, "ultralytics_peer.py", "graph", graph)
        bundle = bundle_from_ultralytics(graph, WORK / f"yolov8n-cls{SUFFIX}")
        wanted.append(("yolov8n-cls, random weights, 224 px", bundle, (python, graph)))
    device = fingerprint(options.engine)
    versions = f"Python {device['python']}, ONNX Runtime {device['onnxruntime']}, OpenCV {device['opencv']}"
    print(
        f"{device['cpu']}, {usable_cores()} cores; {options.engine}; {versions}; {video.name}; "
        f"load {os.getloadavg()[0]:.1f}\n"
    )
    before = cpu_times()
    everything: dict[str, dict[str, list[dict]]] = {}
    for title, bundle, graph in wanted:
        found = measure(bundle, video, options.engine, graph, options.rounds)
        everything[title] = found
        print(table(title, found, usable_cores()), flush=True)
        if graph is not None:
            print(f"{found['Ultralytics'][0]['versions']}\n")
    print_idle(before)
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
