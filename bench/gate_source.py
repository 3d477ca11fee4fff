"""Frames for the gate: in memory, from a recording or drawn, or a camera that is read live."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.measurement import GateSource
from gensoup.bench.paced import fill_ring, ring_length
from gensoup.runtime.errors import DataError, UsageError
from gensoup.runtime.sources import Source, SyntheticSource, open_source
from gensoup.runtime.sources.address import SIZES, without_password
from gensoup.runtime.sources.live import LiveSource

Frame = NDArray[np.uint8]
RESOLUTIONS = ("720p", "1080p", "4K")
_DRAWN = "synthetic"
_SIZED = re.compile(r"(synthetic|camera:\d+|(?:camera:)?/dev/[^:]+)(?::([^@]*)(@.*)?)?")


@dataclass(frozen=True)
class GateFrames:
    """``ring``: frames in memory, all of one size; or ``live``: a source that brings them. facts: for reports; height
    and width of a live source are 0 until it was read."""

    facts: GateSource
    ring: tuple[Frame, ...] = ()
    live: LiveSource | None = None


def open_frames(source: str | None = None, resolution: str | None = None) -> GateFrames:
    """What :func:`find_source` finds, with frames in memory where it is not live: recordings are decoded beforehand.

    The ring is larger than the last-level cache, 1 GiB at most. Raises DataError for a source without frames, and as
    :func:`find_source`.
    """
    return take_frames(find_source(source, resolution), resolution)


def find_source(source: str | None = None, resolution: str | None = None) -> Source:
    """What :func:`gensoup.runtime.sources.open_source` finds; None: synthetic frames, 1080p.

    resolution: 720p, 1080p or 4K; of synthetic frames, or what a camera is asked for. Raises UsageError for one that is
    none or that the source cannot have.
    """
    spec = source or _DRAWN
    return open_source(spec if resolution is None else sized(spec, _side(resolution)), reconnect=False)


def take_frames(opened: Source, resolution: str | None = None) -> GateFrames:
    """See :func:`open_frames`."""
    if isinstance(opened, LiveSource):
        return GateFrames(GateSource(opened.name, "camera", 0, 0), live=opened)
    frames: list[Frame] = []
    length = 1
    for frame in opened:
        length = length if frames else ring_length(frame.nbytes)
        if frames and frame.shape != frames[0].shape:
            continue  # images of mixed sizes: a camera has one
        frames.append(frame)
        if len(frames) >= length:
            break
    if not frames:
        raise DataError(f"{opened.name}: holds no frames")
    height, width = frames[0].shape[:2]
    ring = tuple(fill_ring(frames))
    kind = "synthetic" if isinstance(opened, SyntheticSource) else "file"
    # Drawn frames have no rate of their own, whatever the address says: they are sent at the limit's.
    stated = None if isinstance(opened, SyntheticSource) else opened.rate_hz
    facts = GateSource(opened.name, kind, height, width, len(ring), stated)  # type: ignore[arg-type]
    if resolution is not None and kind == "file" and (height, width) != SIZES[_side(resolution)]:
        raise UsageError(
            f"--resolution {resolution}: {opened.name} is {width}×{height} and is not enlarged; leave the option out"
        )
    return GateFrames(facts, ring)


def seen(frames: GateFrames, size: tuple[int, int]) -> GateSource:
    """The facts of a live source, now that it was read."""
    stated = frames.live.rate_hz if frames.live is not None else None
    return replace(frames.facts, height=size[0], width=size[1], stated_hz=stated)


def _side(resolution: str) -> str:
    if resolution.lower() not in {name.lower() for name in RESOLUTIONS}:
        raise UsageError(f"--resolution '{resolution}': must be one of {', '.join(RESOLUTIONS)}")
    return resolution.lower()


def sized(spec: str, side: str) -> str:
    """The source ``spec`` with the size put in, where it is drawn or a camera's and has none yet, or is a recording's.

    Raises UsageError for others.
    """
    match = _SIZED.fullmatch(spec)
    if match is None:
        if Path(spec).exists():
            return spec  # its size is known once it is decoded
        raise UsageError(f"--resolution: {without_password(spec)} sends the size that it has; leave the option out")
    head, given, rate = match[1], match[2], match[3]
    if given and given != side:
        raise UsageError(f"--resolution: --source {spec} names a size already; leave one of them out")
    return f"{head}:{side}{rate or ''}"
