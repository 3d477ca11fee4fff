"""Where frames come from: video files, image folders and the synthetic endoscope behind one small interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import DataError, UsageError
from gensoup.runtime.images import IMAGE_SUFFIXES

SYNTHETIC_SIZES = {"480p": (480, 640), "720p": (720, 1280), "1080p": (1080, 1920), "4k": (2160, 3840)}
SYNTHETIC_RATE_HZ = 60.0
_SCENE_SECONDS = 5.0


class Source(Protocol):
    """Frames, BGR uint8 [height, width, 3], from the beginning each time it is iterated; each is the caller's own.

    name: for messages. rate_hz: at which the frames were recorded, None where there is none.
    frames: how many there are, None if unknown or endless. skipped: files that could not be read, filled on the way.
    """

    name: str
    rate_hz: float | None
    frames: int | None
    skipped: list[str]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]: ...


class SyntheticSource:
    """The synthetic endoscope, endless: one scene a label, five seconds each, in turn."""

    def __init__(self, name: str, seed: int = 0) -> None:
        """``name``: ``synthetic`` (1080p) or ``synthetic:SIZE``, see SYNTHETIC_SIZES. Raises UsageError for others."""
        size = name.partition(":")[2] or "1080p"
        if size not in SYNTHETIC_SIZES:
            raise UsageError(f"source '{name}': sizes of the synthetic endoscope are {', '.join(SYNTHETIC_SIZES)}")
        self.name = name
        self.rate_hz: float | None = SYNTHETIC_RATE_HZ
        self.frames: int | None = None
        self.skipped: list[str] = []
        self.height, self.width = SYNTHETIC_SIZES[size]
        self._seed = seed

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        from gensoup.runtime.sources.synthetic import LABELS, SyntheticEndoscope

        # All scenes are drawn beforehand: one drawn on the way would hold up the frames that are due meanwhile.
        scenes = [SyntheticEndoscope(self._seed + n, label, self.height, self.width) for n, label in enumerate(LABELS)]
        number = 0
        while True:
            seconds = number / SYNTHETIC_RATE_HZ
            yield scenes[int(seconds / _SCENE_SECONDS) % len(scenes)].frame(seconds)
            number += 1


def open_source(spec: str) -> Source:
    """The source that ``spec`` names: a video file, an image or image folder, ``synthetic`` or ``synthetic:SIZE``.

    Raises UsageError for what is no source, DataError, naming the file, for what is missing or holds no frame.
    """
    if spec == "synthetic" or spec.startswith("synthetic:"):
        return SyntheticSource(spec)
    path = Path(spec)
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        from gensoup.runtime.sources.folder import FolderSource

        return FolderSource(path)
    if path.exists():
        from gensoup.runtime.sources.video import VideoSource

        return VideoSource(path)
    if spec.isdigit() or "://" in spec:
        raise UsageError(
            f"source '{spec}': live cameras are not supported yet; give a video file, folder or 'synthetic'"
        )
    raise DataError(f"{spec}: no such file or folder; give a video file, an image folder or 'synthetic'")
