"""Where frames come from: cameras, streams, video files, image folders and the synthetic endoscope, behind one small
interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import DataError, UsageError
from gensoup.runtime.images import IMAGE_SUFFIXES
from gensoup.runtime.sources.address import KINDS, SCHEMES, SIZES, nearest_kind, read_format, without_password

if TYPE_CHECKING:
    from gensoup.runtime.sources.live import Capture, SourceEvent

SYNTHETIC_RATE_HZ = 60.0
OPEN_S = 10.0
STALL_S = 2.0
_SCENE_SECONDS = 5.0


class Source(Protocol):
    """Frames, BGR uint8 [height, width, 3], from the beginning each time it is iterated; each is the caller's own.

    name: for messages. rate_hz: at which the frames were recorded, None where there is none.
    frames: how many there are, None if unknown or endless. skipped: files that could not be read, filled on the way.
    Cameras and streams are a :class:`gensoup.runtime.sources.live.LiveSource`, which waits for nobody.
    """

    name: str
    rate_hz: float | None
    frames: int | None
    skipped: list[str]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]: ...


class SyntheticSource:
    """The synthetic endoscope, endless: one scene a label, five seconds each, in turn."""

    def __init__(self, name: str, seed: int = 0) -> None:
        """``name``: ``synthetic`` (1080p, 60 Hz), ``synthetic:SIZE``, ``synthetic:SIZE@HZ``, see :func:`read_format`.

        Raises UsageError for others.
        """
        drawn = read_format(name.partition(":")[2], name)
        self.name = name
        self.rate_hz: float | None = drawn.rate_hz or SYNTHETIC_RATE_HZ
        self.frames: int | None = None
        self.skipped: list[str] = []
        self.height, self.width = drawn.height or SIZES["1080p"][0], drawn.width or SIZES["1080p"][1]
        self._seed = seed

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        from gensoup.runtime.sources.pacing import exact_rate
        from gensoup.runtime.sources.synthetic import LABELS, SyntheticEndoscope

        rate = exact_rate(self.rate_hz or SYNTHETIC_RATE_HZ)
        # All scenes are drawn beforehand: one drawn on the way would hold up the frames that are due meanwhile.
        scenes = [SyntheticEndoscope(self._seed + n, label, self.height, self.width) for n, label in enumerate(LABELS)]
        number = 0
        while True:
            seconds = float(number / rate)
            yield scenes[int(seconds / _SCENE_SECONDS) % len(scenes)].frame(seconds)
            number += 1


def open_source(spec: str, *, reconnect: bool = True, on_event: Callable[[SourceEvent], None] | None = None) -> Source:
    """The source that ``spec`` names; what is written and what it means is in docs/runtime-sources.md.

    ``camera:N``, ``/dev/videoN``, a URL and ``gst:PIPELINE`` are live: they are connected once they are iterated, and
    again when they are lost, unless ``reconnect`` is false; ``on_event`` is told. See
    :class:`gensoup.runtime.sources.live.LiveSource`.
    Raises UsageError for what is no source, DataError, naming it, for what is missing or holds no frame.
    """
    connect = _connection(spec)
    if connect is not None:
        from gensoup.runtime.sources.live import LiveSource

        return LiveSource(
            without_password(spec), connect, reconnect=reconnect, on_event=on_event, open_s=OPEN_S, stall_s=STALL_S
        )
    if spec == "synthetic" or spec.startswith("synthetic:"):
        return SyntheticSource(spec)
    path = Path(spec)
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        from gensoup.runtime.sources.folder import FolderSource

        return FolderSource(path)
    if path.exists():
        from gensoup.runtime.sources.video import VideoSource

        return VideoSource(path)
    near = nearest_kind(spec)
    if near or "://" in spec:
        raise UsageError(f"source '{without_password(spec)}' is none{near or f'; give {KINDS}'}")
    raise DataError(f"{spec}: no such file or folder; give {KINDS}")


def _connection(spec: str) -> Callable[[], Capture] | None:
    """What opens the live source ``spec``; None for what is none."""
    if spec.startswith(("camera:", "/dev/video")):
        from gensoup.runtime.sources.camera import Camera

        return Camera(spec)
    if spec.startswith("gst:"):
        from gensoup.runtime.sources.gstreamer import GStreamerPipeline

        return GStreamerPipeline(spec[len("gst:") :])
    scheme, mark, _ = spec.partition("://")
    if mark and scheme.lower() in SCHEMES:
        from gensoup.runtime.sources.network import NetworkStream

        return NetworkStream(spec, OPEN_S, STALL_S)
    return None
