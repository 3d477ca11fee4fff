"""An OpenCV capture loop that shows what a bundle says, and never waits for it.

python opencv_capture.py polyp.gensoup 0              # a camera by number
python opencv_capture.py polyp.gensoup scope.avi      # a video, at its own rate
python opencv_capture.py polyp.gensoup rtsp://… --headless
"""

from __future__ import annotations

import argparse
import time

import cv2

from gensoup.runtime import Classifier, Result, State, Stream
from gensoup.runtime.errors import GenSoupError


def caption(result: Result | None) -> str:
    """What may be shown as current now: a label only while it is one, with its state unless all is well."""
    if result is None or result.prediction is None or result.state is State.STALE:
        return "no current result" if result is None else f"no current result ({result.state.value})"
    text = f"{result.prediction.label} {result.prediction.probability:.0%}"
    return text if result.state is State.OK else f"{text} ({result.state.value})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("source")
    parser.add_argument("--headless", action="store_true", help="print the caption when it changes; no window")
    options = parser.parse_args()

    classifier = Classifier.load(options.bundle)  # checks the bundle and its engine, before the first frame
    capture = cv2.VideoCapture(int(options.source) if options.source.isdigit() else options.source)
    if not capture.isOpened():
        raise SystemExit(f"{options.source}: cannot be opened")
    recorded = capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0
    period = 1 / (capture.get(cv2.CAP_PROP_FPS) or 25.0) if recorded else 0.0

    shown, frames = "", 0
    with Stream(classifier) as stream:
        while True:
            began = time.monotonic()
            grabbed = capture.grab()
            captured_at = time.monotonic()  # before the frame is decoded: ages count from here
            if not grabbed:
                break
            decoded, frame = capture.retrieve()
            if not decoded:
                continue  # a broken frame; the next one may be whole
            stream.push(frame, captured_at=captured_at)  # copies the frame and returns at once
            frames += 1
            # The newest result there is, of this frame or an earlier one; its state is judged at this moment.
            text = caption(stream.latest())
            if options.headless:
                if text != shown:
                    print(text, flush=True)
                time.sleep(max(0.0, period - (time.monotonic() - began)))
            else:
                cv2.putText(frame, text, (16, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (0, 0, 0), 5, cv2.LINE_AA)
                cv2.putText(frame, text, (16, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 2, cv2.LINE_AA)
                cv2.imshow("gensoup", frame)
                wait = period - (time.monotonic() - began)
                if cv2.waitKey(max(1, round(wait * 1e3))) in (27, ord("q")):
                    break
            shown = text
        stream.drain(timeout=1.0)
    capture.release()
    print(f"{frames} frames, {stream.drops} dropped")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass  # the stream was closed in order
    except GenSoupError as error:  # one line that names the file or option and the way out
        raise SystemExit(f"error: {error}") from None
