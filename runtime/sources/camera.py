"""Cameras and capture cards: Video4Linux, DirectShow or AVFoundation, whichever this system has."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Protocol

import cv2

from gensoup.runtime.errors import DataError, UsageError
from gensoup.runtime.sources.address import Format, read_format
from gensoup.runtime.sources.opencv import OpenCVCapture

_BACKENDS = {"linux": cv2.CAP_V4L2, "win32": cv2.CAP_DSHOW, "darwin": cv2.CAP_AVFOUNDATION}
_RATE_SHORTFALL = 0.02  # 59.94 Hz will do for 60


class Device(Protocol):
    """What :func:`negotiate` needs of ``cv2.VideoCapture``."""

    def get(self, propId: int) -> float: ...

    def set(self, propId: int, value: float) -> bool: ...


class Camera:
    """A camera by number or, on Linux, by device file; calling it opens the camera."""

    def __init__(self, spec: str) -> None:
        """``camera:N``, ``camera:/dev/videoN``, ``/dev/videoN``, each with ``:SIZE@HZ`` behind it or not.

        Raises UsageError for what is written otherwise, DataError where there is no such device file.
        """
        match = re.fullmatch(r"(?:camera:)?(/dev/[^:]+|\d{1,3})(?::(.+))?", spec)
        if match is None:
            raise UsageError(f"source '{spec}': write camera:0, camera:0:1080p@60 or /dev/video0:1080p@60")
        self._spec = spec
        self._device: str | int = match[1] if match[1].startswith("/") else int(match[1])
        self._format = read_format(match[2] or "", spec)
        self._check()

    def __call__(self) -> OpenCVCapture:
        """Open the camera and set its format. Raises DataError when it is away, busy, or lacks the format."""
        self._check()
        backend = _BACKENDS.get(sys.platform, cv2.CAP_ANY)
        try:
            capture = OpenCVCapture(self._device, backend)
        except DataError as error:
            raise DataError("cannot be opened; is another program using it, may this user read it?") from error
        given = negotiate(capture.device, self._format)
        if given is not None:
            capture.release()
            raise DataError(f"the camera gives {given} instead; ask for a format that it has, or for none")
        return capture

    def _check(self) -> None:
        """On Linux a camera is a file, so that a missing one can be told from a busy one."""
        if sys.platform != "linux":
            return
        path = Path(self._device if isinstance(self._device, str) else f"/dev/video{self._device}")
        if not path.exists():
            others = sorted(str(other) for other in Path("/dev").glob("video*"))
            here = f"there are {', '.join(others)}" if others else "this machine has no camera at all"
            raise DataError(f"{self._spec}: no camera {path}; {here}")


def negotiate(device: Device, wanted: Format) -> str | None:
    """Ask for a format, as it is and then as motion JPEG (USB 2 has no room for 1080p without).

    Returns None when the camera took it, else what it gives instead, ``640x480@30``.
    """
    if wanted == Format():
        return None
    _ask(device, wanted)
    if _given(device, wanted) is not None:
        device.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        _ask(device, wanted)
    return _given(device, wanted)


def _ask(device: Device, wanted: Format) -> None:
    asked = (
        (cv2.CAP_PROP_FRAME_WIDTH, wanted.width),
        (cv2.CAP_PROP_FRAME_HEIGHT, wanted.height),
        (cv2.CAP_PROP_FPS, wanted.rate_hz),
    )
    for prop, value in asked:
        if value is not None:
            device.set(prop, value)


def _given(device: Device, wanted: Format) -> str | None:
    """None when it is what was wanted. A rate of 0 is one that the driver does not tell."""
    width, height = (round(device.get(prop)) for prop in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    rate = device.get(cv2.CAP_PROP_FPS)
    size_given = wanted.width is None or (width, height) == (wanted.width, wanted.height)
    rate_given = wanted.rate_hz is None or rate <= 0 or rate >= wanted.rate_hz * (1 - _RATE_SHORTFALL)
    return None if size_given and rate_given else f"{width}x{height}@{rate:g}"
