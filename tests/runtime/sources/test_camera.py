"""Cameras up to the point where there is one: how they are written, the missing one, and the choice of a format."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import pytest

from gensoup.runtime.errors import DataError, UsageError
from gensoup.runtime.sources import open_source
from gensoup.runtime.sources.address import Format
from gensoup.runtime.sources.camera import Camera, negotiate


class Modes:
    """A device with raw and motion JPEG modes, which takes the nearest one as drivers do."""

    def __init__(self, raw: list[tuple[int, int, int]], jpeg: list[tuple[int, int, int]]) -> None:
        self.modes = {"raw": raw, "jpeg": jpeg}
        self.asked: dict[int, float] = {}

    def set(self, propId: int, value: float) -> bool:
        self.asked[propId] = value
        return True

    def get(self, propId: int) -> float:
        kind = "jpeg" if self.asked.get(cv2.CAP_PROP_FOURCC) == cv2.VideoWriter.fourcc(*"MJPG") else "raw"
        asked = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS)
        first = self.modes[kind][0]
        wanted = [self.asked.get(prop, value) for prop, value in zip(asked, first, strict=True)]
        mode = min(self.modes[kind], key=lambda mode: sum(abs(a - b) for a, b in zip(mode, wanted, strict=True)))
        return float(dict(zip(asked, mode, strict=True))[propId])


def card() -> Modes:
    return Modes([(640, 480, 30), (1920, 1080, 5)], [(640, 480, 60), (1920, 1080, 60)])


def test_nothing_is_asked_of_a_camera_without_need() -> None:
    device = card()
    assert negotiate(device, Format()) is None
    assert device.asked == {}


def test_a_raw_mode_is_taken_as_it_is() -> None:
    device = card()
    assert negotiate(device, Format(480, 640, 30.0)) is None
    assert cv2.CAP_PROP_FOURCC not in device.asked


@pytest.mark.parametrize("rate", [60.0, 59.94])
def test_motion_jpeg_is_taken_where_raw_is_too_slow(rate: float) -> None:
    device = card()
    assert negotiate(device, Format(1080, 1920, rate)) is None
    assert device.get(cv2.CAP_PROP_FPS) == 60


@pytest.mark.parametrize("wanted", [Format(2160, 3840), Format(1080, 1920, 120.0), Format(rate_hz=120.0)])
def test_a_mode_that_it_lacks_is_told_with_what_it_gives(wanted: Format) -> None:
    given = negotiate(card(), wanted)
    assert given is not None and given.endswith("@60")


@pytest.mark.parametrize("spec", ["camera:", "camera:one", "camera:0,1080p", "camera:-1"])
def test_cameras_written_wrongly(spec: str) -> None:
    with pytest.raises(UsageError, match="write camera:0"):
        open_source(spec)


@pytest.mark.parametrize("spec", ["camera:0:8k", "/dev/video0:1080p@fast"])
def test_formats_written_wrongly(spec: str) -> None:
    with pytest.raises(UsageError, match=r"size|rate"):
        open_source(spec)


@pytest.mark.skipif(sys.platform != "linux", reason="cameras are files on Linux alone")
@pytest.mark.parametrize("spec", ["camera:987", "camera:987:1080p@60", "/dev/video987", "camera:/dev/video987:@30"])
def test_a_missing_camera_is_named_with_those_there_are(spec: str) -> None:
    with pytest.raises(DataError, match=f"{spec}: no camera /dev/video987; (there are /dev/video|this machine has no)"):
        open_source(spec)


@pytest.mark.skipif(sys.platform != "linux", reason="cameras are files on Linux alone")
def test_a_file_that_is_no_camera_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be opened; is another program using it"):
        Camera("/dev/null")()
