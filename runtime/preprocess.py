"""The one home of preprocessing: from a camera frame of any size to the bytes the network takes.

Training caches, calibration, parity checks and the cart all call :meth:`Preprocess.__call__`, so training and
serving cannot drift apart. Normalisation, layout and channel order live in the network's graph.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import DataError

Fit = Literal["stretch", "crop", "letterbox"]
Resize = Literal["fast-area", "area"]
Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Preprocess:
    """How a frame becomes the network's input.

    size: height and width of the network's input, in pixels.
    fit: ``stretch`` ignores the aspect ratio, ``crop`` cuts the longer side's ends off, ``letterbox`` pads with black.
    crop_box: part of the frame that is used, as (left, top, right, bottom) fractions in [0, 1]; cuts off overlays.
    resize: ``area`` is the exact area mean; ``fast-area`` goes bilinearly to twice the size and takes 2 × 2 means
        (1080p to 224 px: 0.2 ms instead of 4.7 ms).
    """

    size: int
    fit: Fit = "stretch"
    crop_box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    resize: Resize = "fast-area"

    def __post_init__(self) -> None:
        if not isinstance(self.size, Integral) or not 8 <= self.size <= 4096:
            raise ValueError(f"size {self.size}: must lie in 8…4096 pixels")
        if self.fit not in get_args(Fit) or self.resize not in get_args(Resize):
            raise ValueError(f"unknown fit '{self.fit}' or resize '{self.resize}'")
        left, top, right, bottom = self.crop_box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(f"crop_box {self.crop_box}: must be left, top, right, bottom fractions in 0…1")

    def __call__(self, frame: Frame) -> Frame:
        """Turn a BGR uint8 frame [height, width, 3] of any size into the network's input, uint8 [size, size, 3].

        The result is contiguous and never shares memory with the frame, which the camera may overwrite.
        Raises DataError for anything else than such a frame.
        """
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            got = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise DataError(f"a frame must be a BGR uint8 array [height, width, 3], got {got}")
        if frame.size == 0:
            raise DataError(f"a frame must have pixels, got {list(frame.shape)}")
        frame = self._crop(frame)
        if self.fit == "letterbox":
            return self._letterbox(frame)
        return self._shrink(frame, self.size, self.size)

    def view(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Where the network's input lies in a frame of that size: left, top, right, bottom in its pixels.

        With ``letterbox`` it reaches over :meth:`used` by what is padded.
        """
        x0, y0, x1, y1 = self.used(height, width)
        if self.fit != "letterbox":
            return x0, y0, x1, y1
        top, left, inner_height, inner_width = self._inner(y1 - y0, x1 - x0)
        across, down = (x1 - x0) / inner_width, (y1 - y0) / inner_height
        left_edge, top_edge = x0 - left * across, y0 - top * down
        return left_edge, top_edge, left_edge + self.size * across, top_edge + self.size * down

    def _crop(self, frame: Frame) -> Frame:
        x0, y0, x1, y1 = self.used(*frame.shape[:2])
        return frame[y0:y1, x0:x1]

    def used(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The part of a frame that the network sees: left, top, right, bottom in pixels."""
        left, top, right, bottom = self.crop_box
        x0, x1 = _span(left, right, width)
        y0, y1 = _span(top, bottom, height)
        if self.fit == "crop":
            side = min(y1 - y0, x1 - x0)
            y0, x0 = y0 + (y1 - y0 - side) // 2, x0 + (x1 - x0 - side) // 2
            y1, x1 = y0 + side, x0 + side
        return x0, y0, x1, y1

    def _inner(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Where the letterbox puts a picture of that size: top, left, height, width in the network's input."""
        scale = self.size / max(height, width)
        inner_height, inner_width = max(1, round(height * scale)), max(1, round(width * scale))
        return (self.size - inner_height) // 2, (self.size - inner_width) // 2, inner_height, inner_width

    def _letterbox(self, frame: Frame) -> Frame:
        top, left, inner_height, inner_width = self._inner(*frame.shape[:2])
        out = np.zeros((self.size, self.size, 3), np.uint8)
        out[top : top + inner_height, left : left + inner_width] = self._shrink(frame, inner_height, inner_width)
        return out

    def _shrink(self, frame: Frame, height: int, width: int) -> Frame:
        if frame.shape[:2] == (height, width):
            return frame.copy()
        shrinks = frame.shape[0] >= height and frame.shape[1] >= width
        if not shrinks:
            return _resized(frame, height, width, cv2.INTER_LINEAR)
        if self.resize == "fast-area" and frame.shape[0] > 2 * height and frame.shape[1] > 2 * width:
            frame = _resized(frame, 2 * height, 2 * width, cv2.INTER_LINEAR)
        return _resized(frame, height, width, cv2.INTER_AREA)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and YAML."""
        return {**asdict(self), "crop_box": list(self.crop_box)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        """The inverse of :meth:`to_dict`. Raises ValueError or TypeError for anything else."""
        return cls(**{**values, "crop_box": tuple(values["crop_box"])})


def _span(start: float, stop: float, length: int) -> tuple[int, int]:
    """Pixels [first, last) of a fractional span; at least one."""
    first = min(int(start * length), length - 1)
    return first, max(first + 1, round(stop * length))


def _resized(frame: Frame, height: int, width: int, method: int) -> Frame:
    return np.asarray(cv2.resize(frame, (width, height), interpolation=method), np.uint8)
