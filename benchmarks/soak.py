"""A million frames through a fast engine, with faults at random: is each answered, and is nothing left behind?

    python benchmarks/soak.py [--frames 1000000] [--faults-every 4000] [--seed 0]

Faults: the source is gone, the engine raises, hangs or is slow, the frames change in size and format, the clock jumps,
the consumer is slow, frames come in bursts. Each is checked on the spot; every label is checked against the frame it
came from. At the end memory, threads and open files are compared. Exits with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gensoup.runtime import Classifier, Guarded, Result, State, Stream
from gensoup.runtime.bundle import Golden, read_bundle, write_bundle
from gensoup.runtime.engines import Engine, Layer, load_engine
from gensoup.runtime.errors import EngineError
from gensoup.runtime.failover import golden_proof
from gensoup.runtime.manifest import Manifest
from gensoup.runtime.pixels import PixelFormat
from gensoup.runtime.preprocess import Preprocess

SIZE, LABELS = 16, ("blue", "green", "red")
STALE_MS, SLOW_MS = 250.0, 20.0
FLAT_MIB = 8.0
FAULTS = (
    "source gone",
    "engine raises",
    "engine hangs",
    "engine slow",
    "size changes",
    "clock jumps",
    "consumer slow",
    "burst",
)


def write_fast_bundle(path: Path) -> None:
    """A bundle that names the strongest colour channel."""
    weights = (np.eye(3) * 0.05).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float", "axes"], ["means"], keepdims=0),
            helper.make_node("MatMul", ["means", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "fast",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.int64([1, 2]), "axes"), numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    content = bytes(onnx.ModelProto.SerializeToString(model))
    preprocess, engine = Preprocess(SIZE), load_engine(content, 1)
    cameras = tuple(picture(number) for number in range(3))
    frames = np.stack([preprocess(camera) for camera in cameras])
    golden = Golden(cameras, frames, np.stack([engine.infer(frame) for frame in frames]))
    precisions = {"fp32": {"member": "model.onnx", "engine": engine.name, "reference": "itself", "tolerance": 1e-5}}
    write_bundle(path, Manifest(LABELS, preprocess, "fast", 9, 9, precisions), {"fp32": content}, golden)


def picture(color: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A BGR frame of one colour."""
    frame = np.full((height, width, 3), 30, np.uint8)
    frame[..., color] = 200
    return frame


class FaultyEngine:
    """A real engine that raises, hangs until it is released, or takes its time, as ``fault`` says."""

    def __init__(self, real: Engine, name: str) -> None:
        self.real, self.name = real, name
        self.fault = ""
        self.release = threading.Event()

    def infer(self, frame: np.ndarray) -> np.ndarray:
        """See :class:`gensoup.runtime.engines.Engine`, and so the others."""
        if self.fault == "raises":
            raise EngineError("device lost")
        if self.fault == "hangs":
            self.release.wait()
        if self.fault == "slow":
            time.sleep(1.5 * SLOW_MS / 1e3)
        return self.real.infer(frame)

    def explain(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.real.explain(frame)

    def close(self) -> None:
        self.real.close()

    def layers(self) -> Sequence[Layer]:
        return self.real.layers()


class Soak:
    """One stream, the engines behind it, and what is known about the frames under way."""

    def __init__(self, bundle: Path, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.bundle = read_bundle(bundle)
        self.first = self._engine("first")
        self.guard = Guarded(
            self._classifier(self.first),
            self._classifier(self._engine("second")),
            golden_proof(self.bundle),
            reload_first=self._reload,
            slow_ms=SLOW_MS,
            patience_s=0.4,
            retry_s=0.02,
            longest_retry_s=0.1,
        )
        self.frames = [picture(color) for color in range(3)]
        self.states: Counter[State] = Counter()
        self.wrong: list[str] = []
        self.last: Result | None = None
        self.consumer_waits = threading.Event()
        self.consumer_waits.set()
        self.faults: Counter[str] = Counter()
        self.pushed = 0
        self.stream = Stream(
            self.guard, self._take, limit_ms=1e4, stale_after_ms=STALE_MS, sink_size=4, on_event=lambda event: None
        )

    def _engine(self, name: str) -> FaultyEngine:
        return FaultyEngine(load_engine(self.bundle.model, 1), name)

    def _classifier(self, engine: FaultyEngine) -> Classifier:
        return Classifier(LABELS, self.bundle.manifest.preprocess, engine, self.bundle.sha256)

    def _reload(self) -> Classifier:
        self.first = self._engine("first")
        return self._classifier(self.first)

    def _take(self, result: Result) -> None:
        self.consumer_waits.wait()
        self.states[result.state] += 1
        if result.prediction is not None and result.prediction.label != LABELS[result.frame_id % 3]:
            self.wrong.append(f"frame {result.frame_id} was called {result.prediction.label}")
        self.last = result

    def expect(self, held: bool, what: str) -> None:
        """Note what does not hold."""
        if not held:
            self.wrong.append(f"after {self.pushed} frames: {what} (last: {self.last})")

    def push(self, captured_at: float | None = None, wait: bool = True) -> None:
        """One frame, and its result unless ``wait`` is off."""
        self.stream.push(self.frames[self.pushed % 3], captured_at)
        self.pushed += 1
        if wait:
            self.expect(self.stream.drain(10), "no result in ten seconds")

    def push_until(self, state: State, seconds: float, what: str) -> None:
        """Push until a result has that state."""
        deadline = time.monotonic() + seconds
        while self.last is None or self.last.state is not state:
            self.push()
            if time.monotonic() > deadline:
                self.expect(False, what)
                return

    def fault(self, name: str) -> None:
        """Let one happen, see it answered and gone."""
        self.faults[name] += 1
        answers: dict[str, Callable[[], None]] = {
            "source gone": self._source_gone,
            "engine raises": lambda: self._engine_fails("raises", lossless=True),
            "engine hangs": lambda: self._engine_fails("hangs", lossless=False),
            "engine slow": lambda: self._engine_fails("slow", lossless=True),
            "size changes": self._size_changes,
            "clock jumps": self._clock_jumps,
            "consumer slow": self._consumer_slow,
            "burst": self._burst,
        }
        answers[name]()
        self.push_until(State.OK, 10.0, f"no OK result after: {name}")

    def _source_gone(self) -> None:
        time.sleep(1.2 * STALE_MS / 1e3)
        latest = self.stream.latest()
        self.expect(latest is not None and latest.state is State.STALE, "an old result is shown as current")

    def _engine_fails(self, fault: str, lossless: bool) -> None:
        engine, failed = self.first, self.states[State.FAILED]
        engine.fault = fault
        self.push_until(State.DEGRADED, 1.0, f"{fault}: no other engine within a second")
        self.expect(self.last is not None and self.last.engine == "second", f"{fault}: the first still answers")
        lost = self.states[State.FAILED] - failed
        self.expect(lost == (0 if lossless else 1), f"{fault}: {lost} frames lost")
        for _ in range(int(self.rng.integers(0, 200))):
            self.push()
        engine.fault = ""
        engine.release.set()
        engine.release = threading.Event()

    def _size_changes(self) -> None:
        height, width = (2 * int(side) for side in self.rng.integers(8, 120, 2))
        frames = [picture(color, height, width) for color in range(3)]
        name: PixelFormat = "bgr" if self.rng.random() < 0.5 else "rgb"
        self.frames = frames if name == "bgr" else [frame[::-1, :, ::-1][::-1] for frame in frames]
        for _ in range(6):
            self.stream.push(self.frames[self.pushed % 3], format=name)
            self.pushed += 1
            self.expect(self.stream.drain(10), "no result in ten seconds")
        self.frames = frames

    def _clock_jumps(self) -> None:
        before = self.stream.clock_faults
        self.push(time.monotonic() + float(self.rng.uniform(1, 1e5)))
        self.expect(self.last is not None and 0 <= self.last.age_ms < 1e4, "a frame is younger than nothing")
        self.expect(self.stream.clock_faults == before + 1, "a jump forward was not counted")
        self.push(time.monotonic() - float(self.rng.uniform(1, 1e5)))
        self.expect(self.last is not None and self.last.state is State.STALE, "a jump back is shown as current")

    def _consumer_slow(self) -> None:
        before = self.stream.undelivered
        self.consumer_waits.clear()
        for _ in range(12):
            self.push(wait=False)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                latest = self.stream.latest()
                if latest is not None and latest.frame_id == self.pushed - 1:
                    break
                time.sleep(0)
            else:
                self.expect(False, "a slow consumer holds inference up")
        self.expect(self.stream.undelivered >= before + 7, "what a slow consumer leaves was not dropped")
        self.consumer_waits.set()
        self.expect(self.stream.drain(10), "the queue does not empty")

    def _burst(self) -> None:
        before = self.stream.drops
        for _ in range(50):
            self.push(wait=False)
        self.expect(self.stream.drain(10), "a burst is not done in ten seconds")
        self.expect(self.last is not None and self.last.frame_id == self.pushed - 1, "the newest did not win")
        self.expect(self.stream.drops >= before, "drops were uncounted")

    def close(self) -> None:
        """End all."""
        self.stream.close()
        self.guard.close(engines=True)


def resident_mib() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def held() -> tuple[int, int]:
    """Threads and open files of this process."""
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def left(before: tuple[int, int]) -> tuple[int, int]:
    """Threads and open files that there are more than before; what others closed meanwhile is no matter."""
    threads, files = held()
    return max(0, threads - before[0]), max(0, files - before[1])


def run(frames: int, faults_every: int, seed: int, report: Callable[[str], None]) -> list[str]:
    """The whole soak; what was wrong, a line each."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "fast.gensoup"
        write_fast_bundle(bundle)
        before = held()
        soak = Soak(bundle, seed)
        wanted = [str(name) for name in soak.rng.permutation(FAULTS)]  # each once, then any
        memory: list[float] = []
        started = time.monotonic()
        while soak.pushed < frames and len(soak.wrong) < 20:
            if soak.pushed >= len(memory) * frames / 20:
                memory.append(resident_mib())
                report(f"{soak.pushed} frames, {soak.faults.total()} faults, {memory[-1]:.1f} MiB")
            soak.push()
            if soak.rng.random() < 1 / faults_every or (wanted and soak.pushed > (8 - len(wanted)) * frames / 16):
                soak.fault(wanted.pop() if wanted else str(soak.rng.choice(FAULTS)))
        memory.append(resident_mib())
        seconds = time.monotonic() - started
        soak.close()
    deadline = time.monotonic() + 10
    while any(left(before)) and time.monotonic() < deadline:
        time.sleep(0.05)
    threads, files = left(before)
    # Half of the run warms up: every fault has happened, and the allocator has its arenas.
    half = len(memory) // 2
    growth = max(memory[half:]) - max(memory[2:half], default=memory[0])
    if threads or files:
        soak.wrong.append(f"{threads} threads and {files} open files are left")
    if growth > FLAT_MIB:
        soak.wrong.append(f"memory grew by {growth:.1f} MiB in the second half: {[round(mib, 1) for mib in memory]}")
    if soak.guard.hanging:
        soak.wrong.append(f"{soak.guard.hanging} threads hang")
    stream, states = soak.stream, {state.value: count for state, count in sorted(soak.states.items())}
    report(
        "| frames | seconds | results | dropped | undelivered | faults | memory, 2nd half | threads, files left |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
        f"| {soak.pushed} | {seconds:.0f} | {states} | {stream.drops} | {stream.undelivered} | {dict(soak.faults)} | "
        f"{growth:+.1f} MiB | {threads}, {files} |"
    )
    if sum(soak.states.values()) + stream.drops + stream.undelivered != soak.pushed:
        soak.wrong.append("frames are unaccounted for")
    return soak.wrong


def main() -> None:
    """Run, print, exit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--faults-every", type=int, default=4000, metavar="N", help="one fault in N frames on average")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    wrong = run(options.frames, options.faults_every, options.seed, lambda line: print(line, flush=True))
    for line in wrong:
        print(f"WRONG: {line}")
    print("every fault was answered" if not wrong else f"{len(wrong)} things were wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
