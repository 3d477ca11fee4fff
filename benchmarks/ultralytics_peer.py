"""Ultralytics' side of the benchmarks, for an interpreter that has it; GenSoup never imports it.

    python ultralytics_peer.py graph OUT.onnx         its yolov8n-cls with random weights, 224 px, as it exports it
    python ultralytics_peer.py stream MODEL VIDEO     every frame through predict(stream=True), after one to warm up
    python ultralytics_peer.py first MODEL FRAME.npy  one frame, from the start of the process

Prints one JSON object. It is told to stay offline, to report nothing to its makers and to install nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

SIZE = 224

_settings = tempfile.mkdtemp(prefix="ultralytics-settings-")
os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_CONFIG_DIR=_settings, YOLO_VERBOSE="false")


def graph(out: str) -> dict[str, object]:
    """Export its architecture; no weights are fetched."""
    from ultralytics import YOLO

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        made = YOLO("yolov8n-cls.yaml", task="classify").export(
            format="onnx", imgsz=SIZE, simplify=False, verbose=False
        )
        shutil.copyfile(made, out)
    return {"graph": out}


def stream(model: str, video: str) -> dict[str, object]:
    """Frames, seconds and core seconds of one pass over a file."""
    import cv2
    import onnxruntime
    import ultralytics
    from ultralytics import YOLO, settings

    settings.update({"sync": False})
    network = YOLO(model, task="classify")
    capture = cv2.VideoCapture(video)
    network.predict(capture.read()[1], imgsz=SIZE, verbose=False)
    capture.release()
    cores, started = time.process_time(), time.perf_counter()
    frames = sum(result.probs is not None for result in network.predict(video, stream=True, imgsz=SIZE, verbose=False))
    seconds, core_seconds = time.perf_counter() - started, time.process_time() - cores
    versions = (
        f"Ultralytics {ultralytics.__version__}, ONNX Runtime {onnxruntime.__version__}, OpenCV {cv2.__version__}"
    )
    return {"frames": frames, "seconds": seconds, "core_seconds": core_seconds, "versions": versions}


def first(model: str, frame: str) -> dict[str, object]:
    """Memory after one result, in kB as Linux says: now, and at most."""
    import numpy as np
    from ultralytics import YOLO, settings

    settings.update({"sync": False})
    (result,) = YOLO(model, task="classify").predict(np.load(frame), imgsz=SIZE, verbose=False)
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    memory = {name: int(rows[row].split()[0]) for name, row in (("resident_kb", "VmRSS"), ("most_kb", "VmHWM"))}
    return {"label": int(result.probs.top1), "core_seconds": time.process_time(), **memory}


if __name__ == "__main__":
    try:
        print(json.dumps({"graph": graph, "stream": stream, "first": first}[sys.argv[1]](*sys.argv[2:])), flush=True)
    finally:
        shutil.rmtree(_settings, ignore_errors=True)
