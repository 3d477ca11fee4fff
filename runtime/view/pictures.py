"""The camera's frames as small JPEGs, encoded in a thread of their own and only when somebody waits for one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.overlay import draw_saliency
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.result import Result

Frame = NDArray[np.uint8]

RATE_HZ = 15.0
WIDTH, HEIGHT = 960, 720  # frames are made to fit into this
_QUALITY = 80
_EXPECTED = 3


@dataclass(frozen=True)
class Picture:
    """A JPEG and the frame it shows. captured_at: ``time.monotonic()`` seconds."""

    frame_id: int
    captured_at: float
    jpeg: bytes


Deliver = Callable[[Picture], None]


class Pictures:
    """Turns frames into pictures for whoever has asked for one; close it to end its thread.

    The threads that push frames and take results only leave references here. At most ``rate_hz`` frames a second are
    kept and encoded, however many ask, and none when nobody does.
    """

    def __init__(
        self,
        preprocess: Preprocess | None = None,
        rate_hz: float = RATE_HZ,
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        """``preprocess``: the classifier's, for drawing the saliency maps of results that have one.

        on_failure: told once, in this object's thread, why a frame could not be shown.
        """
        self.encoded = 0
        self._on_failure = on_failure
        self._preprocess = preprocess
        self._pause_s = 1 / rate_hz
        self._due = 0.0
        self._changed = threading.Condition()  # guards what follows
        self._waiting: dict[object, Deliver] = {}
        self._expected: dict[int, Frame] = {}
        self._slot: tuple[Frame, Result] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._encode_all, name="gensoup-view-pictures", daemon=True)
        self._thread.start()

    def ask(self, deliver: Deliver) -> object:
        """Ask for the next picture, once; ``deliver(picture)`` is called in this object's thread. Returns a ticket."""
        ticket = object()
        with self._changed:
            self._waiting[ticket] = deliver
        return ticket

    def withdraw(self, ticket: object) -> None:
        """Do not deliver any more; nothing happens where it is done already."""
        with self._changed:
            self._waiting.pop(ticket, None)

    def expect(self, frame_id: int, frame: Frame) -> None:
        """Keep a frame until its result comes, if a picture is wanted now. It must not be changed any more."""
        # Read without the lock, for this is the capture loop; a classifier that hangs must not fill the memory.
        if not self._waiting or len(self._expected) >= _EXPECTED or time.monotonic() < self._due:
            return
        with self._changed:
            self._expected[frame_id] = frame

    def add(self, result: Result) -> None:
        """Take a frame's result; frames before it that have none were dropped, and are let go."""
        if not self._expected:
            return
        with self._changed:
            frame = self._expected.pop(result.frame_id, None)
            for frame_id in [known for known in self._expected if known < result.frame_id]:
                del self._expected[frame_id]
            if frame is not None:
                self._slot = (frame, result)
                self._changed.notify()

    def close(self) -> None:
        """End the thread; nobody is delivered anything any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _encode_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._slot is not None)
                if self._closed:
                    return
                assert self._slot is not None
                (frame, result), self._slot = self._slot, None
                if not self._waiting or time.monotonic() < self._due:
                    continue
                self._due = time.monotonic() + self._pause_s
            try:
                picture = Picture(result.frame_id, result.captured_at, self._jpeg(frame, result))
            except Exception as error:  # a frame that cannot be shown: those after it may be
                tell, self._on_failure = self._on_failure, None
                if tell is not None:
                    tell(f"a frame cannot be shown: {type(error).__name__}: {str(error).strip()}")
                continue
            self.encoded += 1
            with self._changed:
                delivered, self._waiting = list(self._waiting.values()), {}
            for deliver in delivered:
                deliver(picture)

    def _jpeg(self, frame: Frame, result: Result) -> bytes:
        height, width = frame.shape[:2]
        share = min(1.0, WIDTH / width, HEIGHT / height)
        if share < 1:
            size = (max(1, round(width * share)), max(1, round(height * share)))
            frame = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)
        if self._preprocess is not None:
            frame = draw_saliency(frame, result, self._preprocess)
        return cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
