from __future__ import annotations

import cv2
import numpy as np
import pytest

from gensoup.runtime.errors import DataError, UsageError
from gensoup.runtime.pixels import MAX_SIDE, PixelFormat, check_frame, to_bgr

PICTURE = np.ascontiguousarray(
    np.kron(np.random.default_rng(0).integers(0, 256, (4, 6, 3)), np.ones((8, 8, 1)))
).astype(np.uint8)  # blocks of 8 × 8, so that shared chroma loses nothing inside of them


def nv12(bgr: np.ndarray) -> np.ndarray:
    """OpenCV makes planar I420 only; NV12 has the same planes, U and V in turns."""
    height, width = bgr.shape[:2]
    planar = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
    chroma = planar[height:].reshape(2, -1)
    return np.concatenate([planar[:height], chroma.T.reshape(height // 2, width)])


def yuyv(bgr: np.ndarray) -> np.ndarray:
    """Luma of every pixel, U of the even and V of the odd ones, from the planes of NV12."""
    height, width = bgr.shape[:2]
    planes = nv12(bgr)
    packed = np.empty((height, width, 2), np.uint8)
    packed[..., 0] = planes[:height]
    packed[..., 1] = np.repeat(planes[height:], 2, axis=0)
    return packed


MADE = {
    "bgr": PICTURE,
    "rgb": cv2.cvtColor(PICTURE, cv2.COLOR_BGR2RGB),
    "bgra": cv2.cvtColor(PICTURE, cv2.COLOR_BGR2BGRA),
    "rgba": cv2.cvtColor(PICTURE, cv2.COLOR_BGR2RGBA),
    "yuyv": yuyv(PICTURE),
    "nv12": nv12(PICTURE),
}


@pytest.mark.parametrize("name", MADE)
def test_every_format_becomes_the_same_picture(name: PixelFormat) -> None:
    check_frame(MADE[name], name)
    got = to_bgr(MADE[name], name)
    assert got.shape == PICTURE.shape
    # RGB is exact; YUV is rounded to 8 bits, and cannot hold the most vivid colours: the middle is compared
    apart = np.abs(got.astype(int) - PICTURE)
    assert apart.max() == 0 if name in ("bgr", "rgb", "bgra", "rgba") else np.median(apart) <= 2


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1)])
def test_grey_becomes_three_equal_channels(shape: tuple[int, ...]) -> None:
    grey = np.arange(600, dtype=np.uint32).astype(np.uint8).reshape(shape)
    check_frame(grey, "grey")
    got = to_bgr(grey, "grey")
    assert (got == grey.reshape(20, 30, 1)).all() and got.shape == (20, 30, 3)


def test_a_buffer_that_fits_is_used_again() -> None:
    first = to_bgr(MADE["rgb"], "rgb")
    assert to_bgr(MADE["bgra"], "bgra", first) is first
    assert to_bgr(np.zeros((10, 10, 3), np.uint8), "rgb", first) is not first


@pytest.mark.parametrize(
    ("name", "frame", "told"),
    [
        ("bgr", None, "a frame must be a BGR uint8 array [height, width, 3], got NoneType"),
        ("bgr", np.zeros((4, 4), np.uint8), "got uint8 [4, 4]"),
        ("bgr", np.zeros((4, 4, 3), np.float32), "got float32 [4, 4, 3]"),
        ("rgb", np.zeros((4, 4, 4), np.uint8), "a RGB uint8 array [height, width, 3], got uint8 [4, 4, 4]"),
        ("bgra", np.zeros((4, 4, 3), np.uint8), "[height, width, 4], got uint8 [4, 4, 3]"),
        ("grey", np.zeros((4, 4, 3), np.uint8), "a grey uint8 array [height, width], got uint8 [4, 4, 3]"),
        ("grey", np.zeros(4, np.uint8), "got uint8 [4]"),
        ("bgr", np.zeros((0, 4, 3), np.uint8), "must have pixels, got 0 × 4"),
        ("grey", np.zeros((0, 0), np.uint8), "must have pixels, got 0 × 0"),
        ("bgr", np.broadcast_to(np.uint8(0), (MAX_SIDE + 1, 4, 3)), "8192 pixels a side at most, got 8193 × 4"),
        ("grey", np.broadcast_to(np.uint8(0), (4, 10**9)), "8192 pixels a side at most"),
        ("yuyv", np.zeros((4, 5, 2), np.uint8), "with an even width, got 4 × 5"),
        ("nv12", np.zeros((4, 4), np.uint8), "even height and width, got 4 rows of 4"),
        ("nv12", np.zeros((8, 4), np.uint8), "even height and width, got 8 rows of 4"),
        ("nv12", np.zeros((6, 5), np.uint8), "even height and width, got 6 rows of 5"),
        ("nv12", np.zeros((6, 4, 1), np.uint8), "got uint8 [6, 4, 1]"),
    ],
)
def test_what_is_no_frame_is_told_in_one_line(name: PixelFormat, frame: np.ndarray, told: str) -> None:
    with pytest.raises(DataError) as caught:
        check_frame(frame, name)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_format_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="format 'gray': must be one of bgr, rgb, bgra, rgba, grey, yuyv, nv12"):
        check_frame(PICTURE, "gray")
