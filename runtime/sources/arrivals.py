"""Any source as it would come from a camera: each frame with the time at which it arrived."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.sources import Source
from gensoup.runtime.sources.live import LiveSource
from gensoup.runtime.sources.pacing import Pacer

DEFAULT_RATE_HZ = 30.0  # for images, which have no rate of their own


def arrivals(source: Source, pace_hz: float | None = None) -> Generator[tuple[float, NDArray[np.uint8]], None, None]:
    """Frames, BGR uint8 [height, width, 3], with the ``time.monotonic()`` at which they arrived.

    Those of a live source come as they come. Others are held back to ``pace_hz``; None is the source's own rate, 30 Hz
    where it has none. Close it when you stop early, so that a camera is let go at once.
    """
    if isinstance(source, LiveSource):
        with closing(source.arrivals()) as live:
            yield from live
        return
    pacer = Pacer(pace_hz or source.rate_hz or DEFAULT_RATE_HZ)
    for frame in source:
        yield pacer.wait(), frame
