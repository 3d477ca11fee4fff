"""Who runs in ``stream_throughput``, each in a process of its own:

    python throughput_contenders.py ours|plain|bound BUNDLE VIDEO ENGINE

Prints one JSON object: frames, seconds and core seconds (of all threads) of one pass over the file, opened anew; models
are loaded and have run one frame beforehand. ``bound`` gives seconds of core time a frame, stage by stage.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from gensoup.runtime import Classifier
from gensoup.runtime.bundle import read_bundle
from gensoup.runtime.device import usable_cores
from gensoup.runtime.engines.graph_outputs import keep_outputs
from gensoup.runtime.sources import open_source
from gensoup.runtime.throughput import classify_all

_FEW = 240


def ours(bundle: Path, video: Path, engine: str) -> dict[str, object]:
    """What ``gensoup run --mode throughput`` does."""
    classifier = Classifier.load(bundle, engine, "fp32", threads=1)
    source = open_source(str(video))
    classifier(next(iter(source)))
    states: list[str] = []
    cores, started = time.process_time(), time.perf_counter()
    classify_all(classifier, source, lambda result: states.append(result.state.value))
    taken = {"seconds": time.perf_counter() - started, "core_seconds": time.process_time() - cores}
    assert set(states) == {"OK"}, set(states)
    return {"frames": len(states), **taken}


def plain(bundle: Path, video: Path, engine: str) -> dict[str, object]:
    """The loop one writes first: read, resize, run, with every library's own settings."""
    import onnxruntime

    content = read_bundle(bundle)
    size = content.manifest.preprocess.size
    model = keep_outputs(content.model, ["probabilities"])
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    session.run(["probabilities"], {"frame": np.zeros((1, size, size, 3), np.uint8)})
    frames = 0
    cores, started = time.process_time(), time.perf_counter()
    capture = cv2.VideoCapture(str(video))
    while True:
        decoded, frame = capture.read()
        if not decoded:
            break
        session.run(["probabilities"], {"frame": cv2.resize(frame, (size, size))[None]})
        frames += 1
    return {"frames": frames, "seconds": time.perf_counter() - started, "core_seconds": time.process_time() - cores}


def bound(bundle: Path, video: Path, engine: str) -> dict[str, object]:
    """Core seconds a frame of each stage in its most core-efficient setting, from passes of one thread.

    Every stage in turn on every frame, with one thread each; then decoding and engine alone with all cores' threads,
    which on no machine seen so far took less.
    """
    classifier = Classifier.load(bundle, engine, "fp32", threads=1)
    wide = Classifier.load(bundle, engine, "fp32", threads=usable_cores())
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    taken = {"decode": 0.0, "resize": 0.0, "engine": 0.0}
    frames = 0
    network_input = np.zeros(0, np.uint8)
    while True:
        times = [time.process_time()]
        decoded, frame = capture.read()
        if not decoded:
            break
        times.append(time.process_time())
        network_input = classifier.preprocess(frame)
        times.append(time.process_time())
        classifier.engine.infer(network_input)
        times.append(time.process_time())
        for stage, seconds in zip(taken, np.diff(times), strict=True):
            taken[stage] += float(seconds)
        frames += 1
    taken = {stage: seconds / frames for stage, seconds in taken.items()}
    all_threads = cv2.VideoCapture(str(video))
    alone = {
        "decode": _core_seconds(all_threads.read, frames),
        "engine": _core_seconds(lambda: wide.engine.infer(network_input), min(frames, _FEW)),
    }
    return {"stages": {stage: min(seconds, alone.get(stage, seconds)) for stage, seconds in taken.items()}}


def _core_seconds(call: Callable[[], object], times: int) -> float:
    started = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - started) / times


if __name__ == "__main__":
    name, bundle, video, engine = sys.argv[1:]
    contenders = {"ours": ours, "plain": plain, "bound": bound}
    print(json.dumps(contenders[name](Path(bundle), Path(video), engine)))
