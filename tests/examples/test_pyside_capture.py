"""The capture window, offscreen: what it shows while frames come, and that it shows no label when they stop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# Captures from a file until a label is shown, then until the file has ended and the label is gone; then closes.
DRIVER = """
import sys, threading, time
from gensoup.runtime import Classifier
from PySide6.QtWidgets import QApplication
from pyside_capture import Window
bundle, source, shot = sys.argv[1:]
application = QApplication([])
window = Window(Classifier.load(bundle, threads=1))
window.show()
print("before:", window.text.text())
window.start(source)

def until(text):
    deadline = time.monotonic() + 30
    while text not in window.text.text() and time.monotonic() < deadline:
        application.processEvents()
        time.sleep(0.005)
    print("shown:", window.text.text())

until("blue")
until("red")
window.grab().save(shot)
until("STALE")
print("title:", window.windowTitle())
window.close()
print("threads:", threading.active_count())
before = sys.getrefcount(True), sys.getrefcount(None)
for number in range(200):
    window.source_ended.emit("ended")
    window.text.setText(str(number))
print("lost:", max(before[0] - sys.getrefcount(True), before[1] - sys.getrefcount(None)))
"""


def test_the_window_shows_labels_while_they_are_current(tiny_bundle: Path, video_file: Path, tmp_path: Path) -> None:
    probe = subprocess.run([sys.executable, "-c", "import PySide6.QtWidgets"], capture_output=True, text=True)
    if probe.returncode != 0:
        pytest.skip(f"needs PySide6 (extra 'examples'): {probe.stderr.strip().splitlines()[-1]}")
    shot = tmp_path / "window.png"
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "PYTHONPATH": str(EXAMPLES)}
    command = [sys.executable, "-c", DRIVER, str(tiny_bundle), str(video_file), str(shot)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "before: no current result"
    assert lines[1].startswith("shown: blue ")
    assert lines[2].startswith("shown: red ")
    assert lines[3] == "shown: no current result (STALE)"
    assert lines[4] == f"title: {video_file}: ended"
    assert lines[5] == "threads: 1"
    # A binding that gives back more references than it took ends the process when True has none left: in a minute.
    assert int(lines[6].removeprefix("lost: ")) < 100, "this PySide6 does not go with this Python"
    window = cv2.imread(str(shot))
    assert window is not None
    height, width = window.shape[:2]
    blue, _, red = window[height // 3, width // 2].astype(int)
    assert red > blue + 100  # the frame, and its channels in the right order
