from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from gensoup.runtime.errors import DataError, GenSoupError, UsageError
from gensoup.runtime.sources import SyntheticSource, open_source


def cut_short(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: len(content) // 2]


def test_synthetic_is_endless_paced_and_moves() -> None:
    source = open_source("synthetic:64x48")
    assert source.rate_hz == 60
    assert source.frames is None
    first, second = islice(source, 2)
    assert first.shape == (48, 64, 3)
    assert first.dtype == np.uint8
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, next(iter(source)))


@pytest.mark.parametrize(("name", "size"), [("synthetic", (1080, 1920)), ("synthetic:480p", (480, 640))])
def test_synthetic_is_1080p_unless_told_otherwise(name: str, size: tuple[int, int]) -> None:
    source = open_source(name)
    assert isinstance(source, SyntheticSource)
    assert (source.height, source.width) == size


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [("synthetic:8k", "1080p"), ("0", "camera:0"), ("rtps://cart/live", "rtsp://cart/live")],
)
def test_what_is_no_source_is_refused(spec: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=remedy) as caught:
        open_source(spec)
    assert spec in str(caught.value)


def test_video_gives_every_frame_at_its_rate(video_file: Path) -> None:
    source = open_source(str(video_file))
    assert source.rate_hz == pytest.approx(20)
    assert source.frames == 12
    strongest = [int(frame.mean((0, 1)).argmax()) for frame in source]
    assert strongest == [0] * 4 + [1] * 4 + [2] * 4
    assert len(list(source)) == 12


def test_a_video_that_breaks_off_ends_with_what_it_had(video_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.avi"
    cut.write_bytes(cut_short(video_file))
    assert 1 <= len(list(open_source(str(cut)))) < 12


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("text.mp4", b"this is a text file\n" * 20, "not a video"),
        ("frame_001.mp4", b"\0" * 5000, "not a video"),
        ("empty.mp4", b"", "empty"),
        ("notes.txt", b"hello", "not a video"),
    ],
)
def test_a_file_that_is_no_video_is_one_line(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        open_source(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_decoders_do_not_write_to_stderr(video_file: Path, tmp_path: Path) -> None:
    for name, content in [("text.mp4", b"text" * 99), ("x_001.mp4", b"\0" * 5000), ("cut.avi", cut_short(video_file))]:
        (tmp_path / name).write_bytes(content)
    script = """
import sys
from gensoup.runtime.errors import DataError
from gensoup.runtime.sources import SyntheticSource, open_source
for name in sys.argv[1:]:
    try:
        print(len(list(open_source(name))))
    except DataError:
        print("refused")
"""
    names = ["text.mp4", "x_001.mp4", "cut.avi"]
    done = subprocess.run([sys.executable, "-c", script, *names], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.split()[:2] == ["refused", "refused"]


@pytest.mark.parametrize("name", ["missing.mp4", "missing.png", "missing"])
def test_a_missing_source_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no such file or folder") as caught:
        open_source(str(tmp_path / name))
    assert name in str(caught.value)


def test_folder_is_sorted_recursive_and_skips_broken_images(tmp_path: Path) -> None:
    for number, name in enumerate(["b/2.png", "a/1.PNG", "c.bmp"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(path), np.full((20, 30 + number, 3), 50, np.uint8))
    (tmp_path / "a" / "broken.jpg").write_bytes(b"\xff\xd8 no jpeg")
    (tmp_path / "._c.bmp").write_bytes(b"Mac")
    (tmp_path / "notes.txt").write_text("no image")
    source = open_source(str(tmp_path))
    assert source.rate_hz is None
    assert source.frames == 4
    for _ in range(2):
        assert [frame.shape[1] for frame in source] == [31, 30, 32]
        assert len(source.skipped) == 1
        assert "broken.jpg" in source.skipped[0]


def test_one_image_is_a_source_of_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    assert cv2.imwrite(str(path), np.zeros((20, 30, 3), np.uint8))
    assert len(list(open_source(str(path)))) == 1


def test_a_folder_without_images_and_one_with_broken_ones_only_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images"):
        open_source(str(tmp_path))
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(GenSoupError, match=r"none of 1 images can be read.*x\.png"):
        list(open_source(str(tmp_path)))
