from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from gensoup.bench import paced
from gensoup.bench.gate_source import open_frames, sized
from gensoup.runtime.errors import DataError, UsageError


def test_rings_come_from_videos_folders_and_synthetic_frames(
    video_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paced, "last_level_cache_bytes", lambda: 1 << 20)
    drawn = open_frames("synthetic", "720p")
    assert drawn.ring[0].shape == (720, 1280, 3)
    assert (drawn.facts.kind, drawn.facts.width, drawn.facts.ring_frames) == ("synthetic", 1280, len(drawn.ring))
    recorded = open_frames(str(video_file))
    assert all(frame.shape == (120, 160, 3) for frame in recorded.ring)
    assert (recorded.facts.kind, recorded.facts.stated_hz) == ("file", 20.0)
    for number, size in enumerate([*[(60, 80)] * 6, (90, 90)]):
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((*size, 3), number, np.uint8))
    folder = open_frames(str(tmp_path))
    assert {frame.shape for frame in folder.ring} == {(60, 80, 3)}
    assert [frame.mean() for frame in folder.ring[:6]] == [0, 1, 2, 3, 4, 5]  # all there are, before they are shifted
    assert len(folder.ring) > 6


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("synthetic", "synthetic:4k"),
        ("synthetic:@30", "synthetic:4k@30"),
        ("synthetic:4k", "synthetic:4k"),
        ("camera:0", "camera:0:4k"),
        ("camera:0:@60", "camera:0:4k@60"),
        ("/dev/video1", "/dev/video1:4k"),
        ("camera:/dev/video1:@60", "camera:/dev/video1:4k@60"),
    ],
)
def test_a_resolution_is_drawn_or_asked_for(source: str, asked: str) -> None:
    assert sized(source, "4k") == asked


def test_a_network_stream_is_live_and_not_opened_yet() -> None:
    frames = open_frames("rtsp://user:secret@127.0.0.1:9/live")
    assert frames.live is not None
    assert frames.facts.kind == "camera"
    assert "secret" not in frames.facts.spec


@pytest.mark.parametrize(
    ("source", "resolution", "error", "said"),
    [
        ("synthetic", "8K", UsageError, r"--resolution '8K': must be one of 720p, 1080p, 4K"),
        ("synthetic:720p", "1080p", UsageError, "names a size already"),
        ("camera:3:720p@60", "4K", UsageError, "names a size already"),
        ("camera:987", "4K", DataError, r"camera:987:4k: no camera"),
        ("/dev/video987:@60", "4K", DataError, r"/dev/video987:4k@60: no camera"),
        ("rtsp://127.0.0.1:9/live", "4K", UsageError, "sends the size that it has"),
    ],
)
def test_a_resolution_that_cannot_be_is_refused(source: str, resolution: str, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        open_frames(source, resolution)


def test_a_recording_is_not_enlarged(video_file: Path) -> None:
    with pytest.raises(UsageError, match=r"--resolution 720p: .*clip\.avi is 160×120"):
        open_frames(str(video_file), "720p")
