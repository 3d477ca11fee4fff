"""What it costs per frame to run the engine where it can be given up: in another thread, or in a process of its own.

    python benchmarks/engine_isolation.py BUNDLE [--frames 400] [--rate 64]

One engine a way (called directly, through a thread, through a process with the frame in shared memory and a pipe), in
turns, frame by frame, at a camera's pace. Processor time is that of both processes; memory is what the second one holds
alone (private pages). Most telling with a small network: the engine's own time is the same in all three.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np

from gensoup.runtime.bundle import read_bundle
from gensoup.runtime.engines import load_engine

WARM_UP = 20
PATIENCE_S = 0.5


def serve_frames(pipe: Connection, memory: str, shape: tuple[int, ...], model: bytes) -> None:
    """The process of its own: a byte in means a frame lies ready, the probabilities and its processor time go out."""
    shared = SharedMemory(memory)
    frame = np.ndarray(shape, np.uint8, shared.buf)
    engine = load_engine(model, 1)
    pipe.send_bytes(b"ready")
    while pipe.recv_bytes() == b"frame":
        pipe.send_bytes(np.float64([time.process_time(), *engine.infer(frame)]).tobytes())
    private = sum(
        int(line.split()[1]) for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if "Private" in line
    )
    pipe.send_bytes(str(private).encode())
    del frame
    shared.close()


def main() -> None:
    """Measure the three ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--rate", type=float, default=64.0)
    options = parser.parse_args()
    bundle = read_bundle(options.bundle)
    frames = bundle.golden.frames
    shared = SharedMemory(create=True, size=frames[0].nbytes)
    inside = np.ndarray(frames[0].shape, np.uint8, shared.buf)
    pipe, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    arguments = (theirs, shared.name, frames[0].shape, bundle.model)
    other = context.Process(target=serve_frames, args=arguments, daemon=True)
    other.start()
    assert pipe.recv_bytes() == b"ready"
    direct, threaded = load_engine(bundle.model, 1), load_engine(bundle.model, 1)
    pool = ThreadPoolExecutor(1)
    theirs_s = [0.0]

    def in_thread(frame: np.ndarray) -> None:
        pool.submit(threaded.infer, frame).result(PATIENCE_S)

    def in_process(frame: np.ndarray) -> None:
        np.copyto(inside, frame)
        pipe.send_bytes(b"frame")
        assert pipe.poll(PATIENCE_S)
        theirs_s[0] = float(np.frombuffer(pipe.recv_bytes())[0])

    ways: dict[str, Callable[[np.ndarray], object]] = {
        "direct": direct.infer,
        "thread": in_thread,
        "process": in_process,
    }
    wall: dict[str, list[float]] = {way: [] for way in ways}
    processor: dict[str, list[float]] = {way: [] for way in ways}
    in_process(frames[0])
    rng = np.random.default_rng(0)
    due = time.monotonic()
    for number in range(options.frames + WARM_UP):
        for way in rng.permutation(list(ways)):
            due = max(due + 1 / options.rate, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            child, own, started = theirs_s[0], time.process_time(), time.perf_counter()
            ways[way](frames[number % len(frames)])
            taken, spent = time.perf_counter() - started, time.process_time() - own + theirs_s[0] - child
            if number >= WARM_UP:
                wall[way].append(taken * 1e3)
                processor[way].append(spent * 1e3)
    pipe.send_bytes(b"end")
    private_kib = int(pipe.recv_bytes())
    other.join()
    shared.close()
    shared.unlink()
    print("| way | p50, ms | p99, ms | processor, ms a frame (mean) | more than direct | memory of its own |")
    print("| --- | --- | --- | --- | --- | --- |")
    base = float(np.mean(processor["direct"]))
    for way in ways:
        p50, p99 = np.percentile(wall[way], [50, 99])
        mean = float(np.mean(processor[way]))
        memory = f"{private_kib / 1024:.0f} MiB" if way == "process" else "–"
        print(f"| {way} | {p50:.3f} | {p99:.3f} | {mean:.3f} | {mean - base:+.3f} | {memory} |")


if __name__ == "__main__":
    main()
