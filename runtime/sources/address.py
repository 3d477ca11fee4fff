"""How a source is written: the kinds there are, sizes and rates, and what was probably meant by a wrong one."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from gensoup.runtime.errors import UsageError

SIZES = {"480p": (480, 640), "720p": (720, 1280), "1080p": (1080, 1920), "4k": (2160, 3840)}
MAX_RATE_HZ = 1000.0
SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "tcp", "udp")
KINDS = "camera:0, /dev/video0, rtsp://HOST/PATH, gst:PIPELINE, a video file, an image folder or synthetic:1080p@64"
_SIDES = range(32, 8193)


@dataclass(frozen=True)
class Format:
    """What a camera is asked for, or how synthetic frames are drawn; None: not said. Sizes in pixels."""

    height: int | None = None
    width: int | None = None
    rate_hz: float | None = None


def read_format(text: str, spec: str) -> Format:
    """``SIZE``, ``SIZE@HZ`` or ``@HZ``, where SIZE is a name in SIZES or WIDTHxHEIGHT; ``spec`` stands in the error."""
    size, _, rate = text.partition("@")
    height = width = None
    sides = re.fullmatch(r"(\d{1,6})x(\d{1,6})", size)
    if size in SIZES:
        height, width = SIZES[size]
    elif sides and int(sides[1]) in _SIDES and int(sides[2]) in _SIDES:
        width, height = int(sides[1]), int(sides[2])
    elif size:
        raise UsageError(
            f"source '{spec}': size '{size}' must be one of {', '.join(SIZES)} or WIDTHxHEIGHT, 32 to 8192 pixels"
        )
    return Format(height, width, _read_rate(rate, spec) if "@" in text else None)


def _read_rate(text: str, spec: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= MAX_RATE_HZ:
        raise UsageError(f"source '{spec}': rate '{text}' must be a number of frames per second, at most 1000")
    return rate


def without_password(url: str) -> str:
    """``url`` as it may be shown and logged."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return url
    return url if not password else url.replace(f":{password}@", ":***@", 1)


def nearest_kind(spec: str) -> str:
    """What was probably meant by ``spec``, which is no source: "" or ``; did you mean '…'?``."""
    if spec.isdigit():
        return f"; did you mean 'camera:{spec}'?"
    head, mark, rest = spec.partition(":")
    if rest.startswith("//"):
        swapped = [scheme for scheme in SCHEMES if sorted(scheme) == sorted(head.lower())]
        near = swapped or difflib.get_close_matches(head.lower(), SCHEMES, 1)
    else:
        near = difflib.get_close_matches(head.lower(), ("camera", "synthetic", "gst", "webcam", "gstreamer"), 1)
        near = [{"webcam": "camera", "gstreamer": "gst"}.get(kind, kind) for kind in near]
        if near in (["camera"], ["gst"]) and not rest:
            mark, rest = ":", "0" if near == ["camera"] else "PIPELINE"
    return f"; did you mean '{near[0]}{mark}{rest}'?" if near else ""
