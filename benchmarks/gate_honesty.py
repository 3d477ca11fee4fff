"""The same engine judged by the common ways and by the gate, healthy and with each fault: who notices?

    python benchmarks/gate_honesty.py BUNDLE [--engine onnxruntime-cpu] [--threads 1] [--json FILE] [--only FAULT …]

engine mean: the engine alone, back to back, on one input: keeps up if the mean is at most a frame's time.
closed loop: 1080p frames back to back, resize and all: keeps up at 64 frames a second or more.
end-to-end mean: frames come at 64 Hz: keeps up if the mean from arrival to result is at most a frame's time.
the gate: ``gensoup bench``, tier quick, at its full length.

Each fault has a process of its own and is in force from beginning to end; some three quarters of a minute each.
The clock's jump is made where the gate reads the clocks, the process is stopped for a second in the middle of each way,
the cores are taken by stress-ng, or shell loops where there is none.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gensoup.bench import pacer
from gensoup.bench.gate import capacity_fps, measure
from gensoup.bench.gate_source import GateFrames, open_frames
from gensoup.bench.judge import judge
from gensoup.bench.measurement import GateSource, Measurement
from gensoup.bench.paced import run_live, run_paced
from gensoup.bench.tier import QUICK
from gensoup.runtime.classifier import Classifier, FrameClassifier
from gensoup.runtime.device import fingerprint, usable_cores
from gensoup.runtime.engines import Engine, Layer
from gensoup.runtime.errors import EngineError
from gensoup.runtime.guard import Guarded
from gensoup.runtime.sources.live import LiveSource

RATE_HZ = 64.0
LIMIT_MS = 1e3 / RATE_HZ
WAY_S = 6.0
STALL_EVERY_S, STALL_S, SLOW_S, RESTED_S, PAUSE_S = 5.0, 0.1, 0.02, 3e-3, 1.0
FAULTS = {
    "healthy": "healthy",
    "slow": "slowed to 20 ms",
    "stall": "stalls 100 ms every 5 s",
    "idle": "quick back to back, slow when paced",
    "cores": "cores taken away",
    "swap": "bundle swapped under it",
    "fallback": "falls back to another engine",
    "camera": "camera of 60 Hz",
    "pause": "process paused for 1 s",
    "clock": "clock jumps by 2 s",
}


class Faulty:
    """The engine, with a fault."""

    def __init__(self, real: Engine, fault: str) -> None:
        self.real, self.name, self.fault = real, real.name, fault
        self._stall_at = time.monotonic() + STALL_EVERY_S
        self._done_at = 0.0
        self._calls = 0

    def infer(self, frame: np.ndarray) -> np.ndarray:
        self._calls += 1
        now = time.monotonic()
        if self.fault == "slow" or (self.fault == "idle" and now - self._done_at > RESTED_S):
            time.sleep(SLOW_S)
        elif self.fault == "stall" and now >= self._stall_at:
            self._stall_at += STALL_EVERY_S
            time.sleep(STALL_S)
        elif self.fault == "fallback" and self._calls > 100:
            raise EngineError("device lost")
        probabilities = self.real.infer(frame)
        self._done_at = time.monotonic()
        return probabilities

    def explain(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.real.explain(frame)

    def close(self) -> None:
        self.real.close()

    def layers(self) -> Sequence[Layer]:
        return self.real.layers()


class Camera:
    """Shows frames of the ring at its own pace."""

    frames = None

    def __init__(self, ring: Sequence[np.ndarray], rate_hz: float) -> None:
        self.rate_hz = rate_hz
        self._ring, self._count, self._start = ring, 0, time.monotonic()

    def read(self) -> tuple[float, np.ndarray]:
        self._count += 1
        time.sleep(max(0.0, self._start + self._count / self.rate_hz - time.monotonic()))
        return time.monotonic(), self._ring[self._count % len(self._ring)]

    def release(self) -> None: ...


def classifier_with(bundle: Path, engine: str, threads: int, fault: str) -> FrameClassifier:
    """The bundle on a faulty engine; where that fails, another one stands by, as in ``gensoup run``."""

    def loaded(of: str) -> Classifier:
        classifier = Classifier.load(bundle, engine, threads=threads)
        classifier.engine = Faulty(classifier.engine, of)
        return classifier

    if fault == "fallback":
        return Guarded(loaded(fault), loaded("healthy"), lambda classifier: 1.0, slow_ms=None, retry_s=60.0)
    return loaded(fault)


@contextmanager
def meddling(fault: str, seconds: float, bundle: Path) -> Iterator[None]:
    """What goes on outside of the engine while one way of measuring takes ``seconds``."""
    helpers: list[subprocess.Popen[bytes]] = []
    if fault == "cores":
        spin = ["stress-ng", "--cpu", "1"] if shutil.which("stress-ng") else ["sh", "-c", "while :; do :; done"]
        helpers += [subprocess.Popen(spin, stdout=subprocess.DEVNULL) for _ in range(4 * usable_cores())]
    elif fault == "pause":
        script = f"sleep {seconds / 2}; kill -STOP {os.getpid()}; sleep {PAUSE_S}; kill -CONT {os.getpid()}"
        helpers.append(subprocess.Popen(["sh", "-c", script]))
    elif fault == "swap":
        helpers.append(subprocess.Popen(["sh", "-c", f"sleep {seconds / 2}; printf other > '{bundle}'"]))
    try:
        yield
    finally:
        for helper in helpers:
            if fault == "cores":
                helper.kill()
            helper.wait()


def engine_mean_ms(classifier: FrameClassifier) -> float:
    """The engine alone, back to back, on one input."""
    inner = getattr(classifier, "current", classifier)
    frame, taken = np.full((inner.preprocess.size, inner.preprocess.size, 3), 90, np.uint8), []
    end = time.monotonic() + WAY_S
    while time.monotonic() < end:
        before = time.perf_counter()
        try:
            classifier.engine.infer(frame)
        except EngineError:
            classifier(frame)  # the one standing by takes over
        taken.append((time.perf_counter() - before) * 1e3)
    return float(np.mean(taken))


def end_to_end_mean_ms(classifier: FrameClassifier, frames: GateFrames) -> float:
    """Mean from arrival to result, of the frames that have one."""
    if frames.live is not None:
        trace, _ = run_live(classifier, frames.live, RATE_HZ, WAY_S)
    else:
        trace = run_paced(classifier, frames.ring, RATE_HZ, WAY_S)
    latency = (trace.done - trace.pushed) * 1e3
    return float(np.nanmean(latency))


def judged(bundle: Path, engine: str, threads: int, fault: str) -> dict[str, Any]:
    """All four ways with one fault."""
    ring = open_frames("synthetic", "1080p").ring
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / bundle.name

        def fresh() -> FrameClassifier:
            shutil.copy(bundle, copy)
            return classifier_with(copy, engine, threads, fault)

        def frames() -> GateFrames:
            facts = GateSource("synthetic:1080p", "synthetic", 1080, 1920, len(ring))
            if fault != "camera":
                return GateFrames(facts, ring)
            return GateFrames(facts, live=LiveSource("camera", lambda: Camera(ring, 60.0), reconnect=False))

        def way(seconds: float, work: Callable[[FrameClassifier], Any]) -> Any:
            classifier = fresh()
            with meddling(fault, seconds, copy):
                return work(classifier)

        mean = way(WAY_S, engine_mean_ms)
        loop = way(WAY_S, lambda classifier: capacity_fps(classifier, ring, WAY_S))
        end_to_end = way(WAY_S, lambda classifier: end_to_end_mean_ms(classifier, frames()))
        if fault == "clock":
            _jumping_clock()
        verdict = way(QUICK.warmup_s + QUICK.seconds, lambda classifier: _gate(classifier, frames(), copy))
    return {
        "fault": fault,
        "engine_mean_ms": mean,
        "closed_loop_fps": loop,
        "end_to_end_mean_ms": end_to_end,
        "verdict": verdict["verdict"],
        "reason": verdict["reason"],
        "latency_ms": verdict["latency_ms"],
        "misses": verdict["misses"],
        "taken_fraction": verdict["taken_fraction"],
    }


def _gate(classifier: FrameClassifier, frames: GateFrames, bundle: Path) -> dict[str, Any]:
    sha256 = str(getattr(classifier, "sha256", ""))
    start = Measurement(QUICK, RATE_HZ, frames.facts, classifier.engine.name, "fp32", sha256, {}, capacity_fps=1.0)
    return judge(measure(classifier, frames, start, bundle)).to_dict()


def _jumping_clock() -> None:
    read, start = pacer.read_clocks, time.monotonic()

    def jumping() -> tuple[float, float, float]:
        monotonic, boot, real = read()
        return monotonic, boot, real + 2.0 * (monotonic - start > QUICK.seconds / 2)

    pacer.read_clocks = jumping


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown; what is bold noticed."""
    lines = [
        "| | engine mean, ms | closed loop, frames/s | end-to-end mean, ms | the gate |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [
            _marked(f"{row['engine_mean_ms']:.1f}", row["engine_mean_ms"] > LIMIT_MS),
            _marked(f"{row['closed_loop_fps']:.0f}", row["closed_loop_fps"] < RATE_HZ),
            _marked(f"{row['end_to_end_mean_ms']:.1f}", row["end_to_end_mean_ms"] > LIMIT_MS),
            f"{_marked(row['verdict'], row['verdict'] != 'PASS')}: {row['reason']}",
        ]
        lines.append(f"| {FAULTS[row['fault']]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _marked(text: str, noticed: bool) -> str:
    return f"**{text}**" if noticed else text


def main() -> None:
    """Each fault in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--engine", default="onnxruntime-cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--here", choices=FAULTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here is not None:
        print(json.dumps(judged(options.bundle, options.engine, options.threads, options.here)), flush=True)
        os._exit(0)  # an engine given up may hang still
    rows = []
    for fault in options.only:
        command = [sys.executable, __file__, str(options.bundle), "--here", fault]
        command += ["--engine", options.engine, "--threads", str(options.threads)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{FAULTS[fault]}: {rows[-1]['verdict']}", file=sys.stderr, flush=True)
    print(table(rows))
    if options.json is not None:
        values = {"device": fingerprint(options.engine), "bundle": options.bundle.name, "rows": rows}
        options.json.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
