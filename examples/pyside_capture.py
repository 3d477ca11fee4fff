"""A capture window in PySide6: the picture at its own pace, and beside it what a bundle says about it now.

    pip install 'gensoup[cpu,examples]'
    python pyside_capture.py polyp.gensoup camera:0       # or a file, rtsp://…, synthetic:1080p@64

Widgets belong to this thread alone: one more captures and pushes, the stream's own classifies, and a timer here shows
the newest frame with the newest result.
"""

from __future__ import annotations

import argparse
import os
import threading
from contextlib import closing

import numpy as np
from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QImage, QPixmap
from PySide6.QtWidgets import QApplication, QLabel, QVBoxLayout, QWidget

from gensoup.runtime import Classifier, Result, State, Stream
from gensoup.runtime.errors import GenSoupError
from gensoup.runtime.sources import open_source
from gensoup.runtime.sources.arrivals import arrivals

# OpenCV's wheel brings plugins of Qt 5 and points every Qt in the process to them: PySide6 must not follow.
os.environ.pop("QT_QPA_PLATFORM_PLUGIN_PATH", None)

# Told apart by lightness as well as by hue.
COLOURS = {State.OK: "#a5d8ff", State.FAILED: "#ff8787"}
OTHER_COLOUR = "#ffe066"


class Window(QWidget):
    """Shows frames and results; ``start`` begins to capture from a source."""

    source_ended = Signal(str)

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.setWindowTitle("GenSoup")
        self.picture = QLabel(alignment=Qt.AlignmentFlag.AlignCenter, minimumWidth=640, minimumHeight=480)
        self.text = QLabel("no current result", wordWrap=True)
        self.text.setStyleSheet("font-size: 24px; padding: 8px; background: black; color: white")
        layout = QVBoxLayout(self)
        layout.addWidget(self.picture, 1)
        layout.addWidget(self.text)

        self._newest: np.ndarray | None = None
        self._stopped = threading.Event()
        self._capturing: threading.Thread | None = None
        self.source_ended.connect(self.setWindowTitle)  # across threads Qt queues it: this runs in the window's own
        self.stream = Stream(classifier)
        # Frame and label together, no faster than an eye sees; a label also ages while the source is silent.
        self._timer = QTimer(self, interval=33)
        self._timer.timeout.connect(self.tick)
        self._timer.start()

    def start(self, spec: str) -> None:
        """Capture from what ``spec`` names, in a thread of its own."""
        self._capturing = threading.Thread(target=self._capture, args=(spec,), daemon=True)
        self._capturing.start()

    def push(self, frame: np.ndarray, captured_at: float | None) -> None:
        """Hand a frame to the stream, which copies it and returns at once, and keep it for the next repaint."""
        self._newest = frame  # first: a label is never shown before its frame
        self.stream.push(frame, captured_at=captured_at)

    def show_result(self, result: Result | None) -> None:
        """Show a label only while it is current."""
        if result is None or result.prediction is None or result.state is State.STALE:
            self.text.setText("no current result" if result is None else f"no current result ({result.state.value})")
        else:
            prediction = result.prediction
            state = "" if result.state is State.OK else f" ({result.state.value})"
            self.text.setText(f"{prediction.label} {prediction.probability:.0%}{state}, {result.age_ms:.0f} ms")
        colour = COLOURS.get(result.state, OTHER_COLOUR) if result is not None else OTHER_COLOUR
        self.text.setStyleSheet(f"font-size: 24px; padding: 8px; background: black; color: {colour}")

    def tick(self) -> None:
        """Show the newest frame, and the newest result as it counts now."""
        frame, self._newest = self._newest, None
        if frame is not None:
            image = QImage(frame.data, frame.shape[1], frame.shape[0], frame.strides[0], QImage.Format.Format_BGR888)
            mode = Qt.AspectRatioMode.KeepAspectRatio
            self.picture.setPixmap(QPixmap.fromImage(image).scaled(self.picture.size(), mode))
        self.show_result(self.stream.latest())

    def closeEvent(self, event: QCloseEvent) -> None:
        """End capture and stream with the window."""
        self._timer.stop()
        self._stopped.set()
        if self._capturing is not None:
            self._capturing.join(2.0)
        self.stream.close()
        event.accept()

    def _capture(self, spec: str) -> None:
        try:
            source = open_source(spec, on_event=lambda event: self.source_ended.emit(event.text))
            with closing(arrivals(source)) as arriving:
                for captured_at, frame in arriving:
                    if self._stopped.is_set():
                        return
                    self.push(frame, captured_at)
            self.source_ended.emit(f"{spec}: ended")
        except Exception as error:
            self.source_ended.emit(str(error))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("source")
    options = parser.parse_args()
    try:
        classifier = Classifier.load(options.bundle)
    except GenSoupError as error:  # one line that names the file and the way out
        raise SystemExit(f"error: {error}") from None
    application = QApplication([])
    window = Window(classifier)
    window.show()
    window.start(options.source)
    raise SystemExit(application.exec())


if __name__ == "__main__":
    main()
