"""An annotated video of a stream, in one file."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import GenSoupError, WriteError
from gensoup.runtime.overlay import draw, draw_saliency
from gensoup.runtime.playback import Playback, played_rate
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.result import Result
from gensoup.runtime.video_file import VideoFile, check_video_name

Frame = NDArray[np.uint8]

_FRAMES = 8  # waiting to be drawn: some 50 MB at 1080p


def annotated(frame: Frame, result: Result, preprocess: Preprocess | None) -> Frame:
    """A copy of the frame with what is shown about it. ``preprocess``: the classifier's; None: without saliency."""
    return draw(frame if preprocess is None else draw_saliency(frame, result, preprocess), result)


class AnnotatedVideo:
    """An annotated video file, drawn and encoded in a thread of its own.

    With ``wait``, ``add`` waits while the encoder is behind, and every frame is in it, ``rate_hz`` a second. Without,
    it has :func:`gensoup.runtime.playback.played_rate` pictures a second and plays as long as the stream took: what was
    dropped, or left out because the encoder was behind (counted in ``skipped``), is filled with the picture before.
    All frames get the first one's size. Close it to complete the file.
    """

    def __init__(self, path: Path, rate_hz: float, *, wait: bool, preprocess: Preprocess | None = None) -> None:
        """``path``: ends in .avi (Motion JPEG) or .mp4 (MPEG-4); raises UsageError for anything else.

        preprocess: the classifier's, for :func:`annotated`; None: no saliency is drawn.
        """
        check_video_name(path)
        self.skipped = 0
        self._path = path
        self._rate_hz = rate_hz if wait else played_rate(rate_hz)
        self._wait = wait
        self._playback = None if wait else Playback(self._rate_hz)
        self._preprocess = preprocess
        self._error: GenSoupError | None = None
        self._queue: queue.Queue[tuple[Frame, Result, int] | None] = queue.Queue(_FRAMES)
        self._thread = threading.Thread(target=self._encode, name="gensoup-video", daemon=True)
        self._thread.start()

    def add(self, frame: Frame | None, result: Result) -> None:
        """Queue a frame, which must not be changed any more; None: it is left out, being gone.

        In one thread alone, in the order of the frames. Raises GenSoupError once the file cannot be written.
        """
        if self._error is not None:
            raise self._error
        holds: int | None = 0
        if frame is None or (self._playback is not None and self._queue.full()):
            self.skipped += 1
            return
        if self._playback is not None:
            holds = self._playback.holds(result.captured_at)
        if holds is not None:
            self._queue.put((frame, result, holds))

    def close(self) -> None:
        """Encode what is queued and complete the file. Raises GenSoupError when it could not be written."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _encode(self) -> None:
        video: VideoFile | None = None
        picture: Frame | None = None
        while (item := self._queue.get()) is not None:
            if self._error is not None:
                continue  # keep emptying the queue: whoever adds must not wait for ever
            frame, result, holds = item
            try:
                if video is None:
                    size = (frame.shape[1], frame.shape[0])
                    video = VideoFile(self._path, self._rate_hz, size, f"--video {self._path}")
                if picture is not None:
                    for _ in range(holds):
                        video.write(picture)
                picture = annotated(frame, result, self._preprocess)
                video.write(picture)
            except GenSoupError as error:
                self._error = error
            except Exception as error:  # whatever it is: a thread that died would be waited for, for ever
                self._error = WriteError(f"--video {self._path}: cannot be drawn ({type(error).__name__}: {error})")
        try:
            if video is not None:
                video.close()
        except GenSoupError as error:
            self._error = self._error or error
