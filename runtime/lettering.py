"""Text in pictures: any script where OpenCV has fonts for it, sized to fit, never cut off.

OpenCV 5 brings TrueType fonts (Latin, Cyrillic, Greek, Hebrew, Arabic, Chinese, Japanese, Korean). OpenCV 4 has
Hershey's alone, which are ASCII: there accents are taken off, and what is left over becomes question marks.
"""

from __future__ import annotations

import threading
import unicodedata
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
Color = tuple[int, int, int]

_cv2: Any = cv2
TRUETYPE = hasattr(cv2, "FontFace")
_SEMIBOLD = 500
_HERSHEY, _HERSHEY_HEIGHT = cv2.FONT_HERSHEY_SIMPLEX, 30  # pixels of its capitals and descenders at scale 1
_ELLIPSIS = "…" if TRUETYPE else "..."
_LOCK = threading.Lock()  # one font for all threads: nothing says that two may draw with it at once
_FONTS: list[Any] = []


@dataclass(frozen=True)
class Line:
    """Text that fits: ``size`` is the font's height in pixels, ``width`` the pixels it takes."""

    text: str
    size: int
    width: int


def drawable(text: str) -> str:
    """The text as the fonts at hand can show it."""
    if TRUETYPE:
        return text
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
    return plain.encode("ascii", "replace").decode()


def text_width(text: str, size: int) -> int:
    """Pixels that ``text`` takes at a font height of ``size``."""
    with _LOCK:
        if not TRUETYPE:
            return int(cv2.getTextSize(text, _HERSHEY, size / _HERSHEY_HEIGHT, _stroke(size))[0][0])
        left, _, width, _ = _cv2.getTextSize((1, 1), text, (0, 0), _font(), size, _SEMIBOLD)
        return int(left + width)


def fitted(text: str, width: int, size: int, smallest: int) -> Line:
    """The text, as large as ``width`` pixels allow: from ``size`` down to ``smallest``, then with its middle left out.

    The middle, for names of findings often differ in their ends alone (grade 1, grade 2). A font height of ``smallest``
    is gone below only where not even one letter would fit.
    """
    text = drawable(text)
    takes = text_width(text, size)
    while takes > width and size > smallest:
        size = max(smallest, min(size - 1, size * width // max(1, takes)))
        takes = text_width(text, size)
    if takes <= width:
        return Line(text, size, takes)
    for kept in range(len(text) - 1, 0, -1):
        tail = kept // 2
        shorter = text[: kept - tail].rstrip() + _ELLIPSIS + text[len(text) - tail :].lstrip()
        takes = text_width(shorter, size)
        if takes <= width:
            return Line(shorter, size, takes)
    return Line("", size, 0) if size <= 4 else fitted(text, width, size - 1, size - 1)


def draw_line(picture: Frame, line: Line, left: int, baseline: int, color: Color) -> None:
    """Draw into ``picture``, BGR uint8 [height, width, 3]; left, baseline: pixels of the first letter's foot."""
    if not line.text:
        return
    with _LOCK:
        if TRUETYPE:
            _cv2.putText(picture, line.text, (left, baseline), color, _font(), line.size, _SEMIBOLD)
            return
        scale, stroke = line.size / _HERSHEY_HEIGHT, _stroke(line.size)
        cv2.putText(picture, line.text, (left, baseline), _HERSHEY, scale, color, stroke, cv2.LINE_AA)


def _font() -> Any:
    if not _FONTS:
        _FONTS.append(_cv2.FontFace("sans"))
    return _FONTS[0]


def _stroke(size: int) -> int:
    return max(1, round(size / 15))
