"""How sources are written, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from gensoup.runtime.errors import DataError, UsageError
from gensoup.runtime.sources import SyntheticSource, open_source
from gensoup.runtime.sources.address import Format, nearest_kind, read_format, without_password


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Format()),
        ("720p", Format(720, 1280)),
        ("1080p@59.94", Format(1080, 1920, 59.94)),
        ("@25", Format(rate_hz=25.0)),
        ("1350x1080@64", Format(1080, 1350, 64.0)),
    ],
)
def test_formats(text: str, expected: Format) -> None:
    assert read_format(text, "camera:0:" + text) == expected


@pytest.mark.parametrize(
    "text", ["8k", "1080", "0x0", "99999x10", "720p@", "720p@0", "720p@-5", "720p@nan", "720p@1e9"]
)
def test_formats_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=f"source 'synthetic:{text}'"):
        open_source(f"synthetic:{text}")


def test_the_synthetic_endoscope_has_any_size_and_rate() -> None:
    source = open_source("synthetic:200x100@64")
    assert isinstance(source, SyntheticSource)
    assert source.rate_hz == 64
    assert next(iter(source)).shape == (100, 200, 3)


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("0", "camera:0"),
        ("camera", "camera:0"),
        ("cam:1", "camera:1"),
        ("webcam", "camera:0"),
        ("synthetik:720p", "synthetic:720p"),
        ("rstp://cart/live", "rtsp://cart/live"),
        ("gstreamer:videotestsrc", "gst:videotestsrc"),
    ],
)
def test_the_nearest_kind_is_named(spec: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"^source '{spec}' is none; did you mean '{meant}'"):
        open_source(spec)


def test_what_resembles_nothing_gets_the_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder; give camera:0"):
        open_source(str(tmp_path / "scope.avi"))
    with pytest.raises(UsageError, match="is none; give camera:0"):
        open_source("gopher://cart")


@pytest.mark.parametrize("name", ["0", "camera"])
def test_a_folder_goes_before_a_guess(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    with pytest.raises(DataError, match="no images in this folder"):
        open_source(name)


def test_a_windows_path_is_no_kind() -> None:
    assert nearest_kind("C:\\videos\\scope.avi") == ""


def test_passwords_are_not_shown() -> None:
    assert without_password("rtsp://nurse:s3cret@cart:554/live") == "rtsp://nurse:***@cart:554/live"
    for url in ("rtsp://cart/live", "rtsp://nurse@cart/live", "http://[broken"):
        assert without_password(url) == url
