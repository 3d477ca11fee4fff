"""Reading still images: any common format, depth and channel count becomes BGR uint8, or a clear error."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})

Image = NDArray[np.uint8]

_PNG_END = b"IEND\xaeB`\x82"


def read_image(path: Path) -> Image:
    """Read ``path`` as a BGR uint8 array [height, width, 3].

    Grey becomes three equal channels, alpha is dropped, 16 bits become their upper 8 (TIFF: rounded), EXIF
    orientation is applied. Raises DataError, naming the file, for what is missing, no image, or cut short (OpenCV
    alone would return a truncated JPEG with its lower part grey).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return decode_image(content, str(path))


def decode_image(content: bytes, name: str) -> Image:
    """Decode the bytes of an image file; ``name`` stands in the error. See :func:`read_image`."""
    if not content:
        raise DataError(f"{name}: the file is empty")
    if _is_truncated(content):
        raise DataError(f"{name}: the image is cut short")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None or image.size == 0:
        raise DataError(f"{name}: not an image that can be read")
    return np.asarray(image, np.uint8)


def _is_truncated(content: bytes) -> bool:
    """JPEG without an end marker after its last scan, or PNG without its whole end chunk. OpenCV itself refuses the
    other formats when cut, and a PNG with damage inside."""
    if content.startswith(b"\xff\xd8"):
        return content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda") or b"\xff\xda" not in content
    if content.startswith(b"\x89PNG"):
        return _PNG_END not in content
    return False
