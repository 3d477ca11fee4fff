"""Where frames come from and where they are shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from gensoup.bench.doctor import Line, Mark

SECTION = "capture"


def may_read_and_write(path: Path) -> bool:
    """Whether this user may use a device file."""
    return os.access(path, os.R_OK | os.W_OK)


def camera_lines(devices: Path, may: Callable[[Path], bool] = may_read_and_write) -> list[Line]:
    """Video4Linux' devices and this user's rights to them. devices: "/dev"; elsewhere than on Linux there are none."""
    found = sorted(path for path in devices.glob("video*") if path.name.removeprefix("video").isdigit())
    if not found:
        return [Line(SECTION, "cameras", Mark.NOTE, "no /dev/video*: connect one, or take a file, folder or stream")]
    lines = []
    if allowed := [str(path) for path in found if may(path)]:
        lines.append(Line(SECTION, "cameras", Mark.GOOD, ", ".join(allowed)))
    if refused := [str(path) for path in found if str(path) not in allowed]:
        text = f"{', '.join(refused)}: this user has no rights to it"
        lines.append(Line(SECTION, "cameras", Mark.RED, text, "sudo usermod -aG video $USER, then log in again"))
    return lines


def gstreamer_line(built_in: bool) -> Line:
    """Whether OpenCV can run GStreamer pipelines; its packages from PyPI cannot."""
    if built_in:
        return Line(SECTION, "GStreamer", Mark.GOOD, "in this OpenCV: --source gst:PIPELINE works")
    remedy = "only for --source gst: take Debian's python3-opencv, or push from an appsink (docs/runtime-sources.md)"
    return Line(SECTION, "GStreamer", Mark.NOTE, "not in this OpenCV, as in all from PyPI", remedy)
