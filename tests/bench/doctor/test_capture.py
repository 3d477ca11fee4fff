from __future__ import annotations

from pathlib import Path

from gensoup.bench.doctor import Mark
from gensoup.bench.doctor.capture import camera_lines, gstreamer_line


def test_cameras_and_rights(tmp_path: Path) -> None:
    assert [line.mark for line in camera_lines(tmp_path)] == [Mark.NOTE]
    for name in ("video0", "video1", "video-dec0", "video"):
        (tmp_path / name).touch()
    good, red = camera_lines(tmp_path, lambda path: path.name == "video0")
    assert (good.mark, good.text) == (Mark.GOOD, str(tmp_path / "video0"))
    assert red.mark is Mark.RED and red.text.startswith(str(tmp_path / "video1")) and "usermod -aG video" in red.remedy


def test_gstreamer_is_no_fault() -> None:
    assert gstreamer_line(True).mark is Mark.GOOD
    assert gstreamer_line(False).mark is Mark.NOTE and gstreamer_line(False).remedy
