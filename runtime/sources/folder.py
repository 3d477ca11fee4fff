"""The images of a folder, in the order of their names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import DataError
from gensoup.runtime.images import IMAGE_SUFFIXES, read_image


class FolderSource:
    """A folder of images, sub-folders included, or one image. Broken ones are skipped and named in ``skipped``."""

    def __init__(self, path: Path) -> None:
        """Raises DataError, naming the folder, when it is missing or holds no image file."""
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; give a video file, an image folder or 'synthetic'")
        self.name = str(path)
        self.rate_hz: float | None = None
        self.skipped: list[str] = []
        self._paths = [path] if path.is_file() else sorted(filter(_is_image, path.rglob("*")))
        if not self._paths:
            raise DataError(f"{path}: no images in this folder (known: {', '.join(sorted(IMAGE_SUFFIXES))})")
        self.frames: int | None = len(self._paths)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Raises DataError at the end when not one of the images could be read."""
        self.skipped.clear()
        for path in self._paths:
            try:
                frame = read_image(path)
            except DataError as error:
                self.skipped.append(str(error))
                continue
            yield frame
        if len(self.skipped) == len(self._paths):
            raise DataError(f"{self.name}: none of {len(self._paths)} images can be read; first: {self.skipped[0]}")


def _is_image(path: Path) -> bool:
    """Hidden files are left out: copies from a Mac come with a broken ``._name`` beside every image."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
