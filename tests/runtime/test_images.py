"""Reading images of every common kind, and refusing what is broken."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gensoup.runtime.errors import DataError
from gensoup.runtime.images import IMAGE_SUFFIXES, decode_image, read_image

HEIGHT, WIDTH = 120, 160


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    """Smooth colours over the whole range."""
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 8)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)  # type: ignore[call-overload]


def encoded(suffix: str, image: NDArray, *options: int) -> bytes:
    return cv2.imencode(suffix, image, list(options))[1].tobytes()


def apart(one: NDArray, other: NDArray) -> int:
    return int(np.abs(one.astype(int) - other).max())


def refusal(content: bytes) -> str:
    with pytest.raises(DataError) as caught:
        decode_image(content, "folder/the file.img")
    message = str(caught.value)
    assert message.startswith("folder/the file.img: ")
    assert "\n" not in message
    return message


def with_exif_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Put an EXIF segment that holds the orientation alone behind the start marker."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    payload = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_reads_every_suffix_it_names(suffix: str, picture: NDArray, tmp_path: Path) -> None:
    path = tmp_path / f"Ösophagus 1 – 食道{suffix.upper()}"
    path.write_bytes(encoded(suffix, picture))
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.shape == (HEIGHT, WIDTH, 3)
    lossy = suffix in (".jpg", ".jpeg")
    assert apart(image, picture) <= (20 if lossy else 0)


def test_grey_becomes_three_equal_channels(picture: NDArray) -> None:
    grey = picture[..., 1].copy()
    image = decode_image(encoded(".png", grey), "grey")
    assert all(np.array_equal(image[..., channel], grey) for channel in range(3))


def test_alpha_is_dropped(picture: NDArray) -> None:
    transparent = np.dstack([picture, np.zeros((HEIGHT, WIDTH), np.uint8)])
    assert np.array_equal(decode_image(encoded(".png", transparent), "rgba"), picture)


@pytest.mark.parametrize(("suffix", "tolerance"), [(".png", 0), (".tif", 1)])
def test_16_bits_become_their_upper_8(suffix: str, tolerance: int, picture: NDArray) -> None:
    deep = picture.astype(np.uint16) * 256 + 200
    assert apart(decode_image(encoded(suffix, deep), "deep"), picture) <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, picture: NDArray) -> None:
    turned = {
        1: lambda image: image,
        2: lambda image: image[:, ::-1],
        3: lambda image: image[::-1, ::-1],
        4: lambda image: image[::-1],
        5: lambda image: image.transpose(1, 0, 2),
        6: lambda image: np.rot90(image, -1),
        7: lambda image: image.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda image: np.rot90(image),
    }[orientation]
    jpeg = encoded(".jpg", picture)
    upright = decode_image(jpeg, "upright")
    assert np.array_equal(decode_image(with_exif_orientation(jpeg, orientation), "turned"), turned(upright))


def test_cmyk_jpeg_is_read(picture: NDArray) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="only Pillow writes CMYK")
    import io

    buffer = io.BytesIO()
    pillow.fromarray(np.ascontiguousarray(picture[..., ::-1])).convert("CMYK").save(buffer, "JPEG", quality=95)
    assert apart(decode_image(buffer.getvalue(), "cmyk"), picture) <= 12


@pytest.mark.parametrize("kept", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, -12, -2, -1])
@pytest.mark.parametrize("kind", [*sorted(IMAGE_SUFFIXES), "progressive", "thumbnail"])
def test_a_file_cut_short_is_refused(kind: str, kept: float, picture: NDArray) -> None:
    if kind == "progressive":
        content = encoded(".jpg", picture, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    elif kind == "thumbnail":  # a whole JPEG, with an end marker of its own, inside a segment
        content = encoded(".jpg", picture)
        small = encoded(".jpg", picture[::4, ::4].copy())
        content = content[:2] + b"\xff\xe2" + struct.pack(">H", len(small) + 2) + small + content[2:]
    else:
        content = encoded(kind, picture)
    assert decode_image(content, "whole").shape == picture.shape
    refusal(content[: int(len(content) * kept) if kept > 0 else int(kept)])


def test_a_damaged_png_is_refused(picture: NDArray) -> None:
    content = bytearray(encoded(".png", picture))
    content[len(content) // 2] ^= 4
    refusal(bytes(content))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("tail", [b"\0" * 10, b"\0" * 5000, b"appended by a camera " * 30])
def test_bytes_after_the_end_do_no_harm(suffix: str, tail: bytes, picture: NDArray) -> None:
    content = encoded(suffix, picture)
    assert np.array_equal(decode_image(content + tail, "tail"), decode_image(content, "whole"))


def test_refuses_what_is_no_image() -> None:
    assert "empty" in refusal(b"")
    assert "not an image" in refusal(b"this is a text named .jpg\n")
    assert "not an image" in refusal(bytes(1000))
    refusal(b"\xff\xd8\xff\xd9")
    refusal(b"\x89PNG\r\n\x1a\n")


def test_refuses_what_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.png", tmp_path):
        with pytest.raises(DataError, match="cannot be read") as caught:
            read_image(path)
        assert str(path) in str(caught.value)
