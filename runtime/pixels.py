"""Pixel formats: what a camera or grabber hands over, and the one conversion of each to BGR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import DataError, UsageError

PixelFormat = Literal["bgr", "rgb", "bgra", "rgba", "grey", "yuyv", "nv12"]
MAX_SIDE = 8192  # pixels: 8K and a little; more is a mistake in the shape

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class _Layout:
    """channels: of the last axis, 0 for arrays of two axes. code: OpenCV's conversion. shape: as the error tells it.

    even_width: chroma is shared by neighbours. rows: array rows for two rows of the picture.
    """

    channels: int
    code: int | None
    shape: str
    even_width: bool = False
    rows: int = 2


_LAYOUTS: dict[str, _Layout] = {
    "bgr": _Layout(3, None, "[height, width, 3]"),
    "rgb": _Layout(3, cv2.COLOR_RGB2BGR, "[height, width, 3]"),
    "bgra": _Layout(4, cv2.COLOR_BGRA2BGR, "[height, width, 4]"),
    "rgba": _Layout(4, cv2.COLOR_RGBA2BGR, "[height, width, 4]"),
    "grey": _Layout(0, cv2.COLOR_GRAY2BGR, "[height, width]"),
    "yuyv": _Layout(2, cv2.COLOR_YUV2BGR_YUYV, "[height, width, 2] with an even width", even_width=True),
    "nv12": _Layout(0, cv2.COLOR_YUV2BGR_NV12, "[height × 3/2, width] with even height and width", True, rows=3),
}
assert set(_LAYOUTS) == set(get_args(PixelFormat))


def check_frame(frame: object, pixel_format: str) -> None:
    """Raise DataError, one line with what was given and what is accepted, unless ``frame`` is one of ``pixel_format``.

    Any strides are: views, flipped, of every other pixel. Raises UsageError for a format that does not exist.
    """
    layout = _LAYOUTS.get(pixel_format)
    if layout is None:
        raise UsageError(f"format '{pixel_format}': must be one of {', '.join(_LAYOUTS)}")
    if isinstance(frame, np.ndarray) and frame.dtype == np.uint8:
        shape = frame.shape
        if pixel_format == "grey" and len(shape) == 3 and shape[2] == 1:
            shape = shape[:2]
        if shape[2:] == ((layout.channels,) if layout.channels else ()) and len(shape) >= 2:
            _check_size(shape[0], shape[1], layout, pixel_format)
            return
    got = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, np.ndarray) else type(frame).__name__
    name = pixel_format if pixel_format == "grey" else pixel_format.upper()
    raise DataError(f"a frame must be a {name} uint8 array {layout.shape}, got {got}; format= names other kinds")


def _check_size(rows: int, width: int, layout: _Layout, pixel_format: str) -> None:
    height = rows * 2 // layout.rows
    given = f"got {height} × {width}" if layout.rows == 2 else f"got {rows} rows of {width}"
    if rows == 0 or width == 0:
        raise DataError(f"a frame must have pixels, {given}")
    if height > MAX_SIDE or width > MAX_SIDE:
        raise DataError(f"a frame may have {MAX_SIDE} pixels a side at most, {given}")
    if (layout.rows > 2 and rows % layout.rows) or (layout.even_width and width % 2):
        raise DataError(f"a frame must be a {pixel_format.upper()} uint8 array {layout.shape}, {given}")


def to_bgr(frame: Frame, pixel_format: PixelFormat, scratch: Frame | None = None) -> Frame:
    """The frame as BGR uint8 [height, width, 3]; itself where it is. YUV is taken as BT.601 of limited range.

    scratch: an array that was returned before, used again where its size fits. ``frame`` must have passed
    :func:`check_frame` and be contiguous.
    """
    layout = _LAYOUTS[pixel_format]
    if layout.code is None:
        return frame
    size = (frame.shape[0] * 2 // layout.rows, frame.shape[1], 3)
    if scratch is None or scratch.shape != size:
        scratch = np.empty(size, np.uint8)
    cv2.cvtColor(frame, layout.code, dst=scratch)
    return scratch
