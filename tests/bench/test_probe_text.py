"""A device profile on the terminal."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from gensoup.bench.device_profile import Detail, DeviceProfile, KitTold, LatencyEstimate, profile_key
from gensoup.bench.probe_text import print_profile

KEY = profile_key("mobilenet_v3_small", 224, "fp32", "onnxruntime-cpu")
DETAIL = Detail(
    intervals={"p50_ms": (6.9, 7.3), "p95_ms": (8.0, 8.9), "p99_ms": (8.5, math.inf)},
    load_ms=1493.1,
    first_frame_ms=30.5,
    build_ms=None,
    engine_ms={"p50_ms": 5.0, "p95_ms": 6.0, "p99_ms": 7.0},
    lateness_ms=0.1,
    taken_fraction=0.4,
    settled=False,
    measured_at="2025-01-02T03:04:05+00:00",
)
KIT = KitTold("ab", 1, {"224": "stretch"}, ("onnxruntime-cpu",), 13.3, 1080, 1920, None, {"torch": "2"})
PROFILE = DeviceProfile({}, 64.0, {KEY: LatencyEstimate(7.1, 8.2, 9.3, 256, 0, DETAIL)}, kit=KIT)


def shown(width: int, terminal: bool) -> str:
    file = io.StringIO()
    print_profile(
        PROFILE, Path("cart.json"), Console(file=file, width=width, force_terminal=terminal, color_system=None)
    )
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 110, 200])
def test_a_terminal_gets_the_columns_that_it_has_room_for(width: int) -> None:
    (row,) = [line for line in shown(width, terminal=True).splitlines() if KEY in line]
    assert len(row) <= width and "…" not in row
    assert " 9.3 " in row and row.rstrip().endswith("admitted, in doubt")
    assert ("1493.1" in row) == (width == 200)


def test_a_file_has_no_width() -> None:
    assert shown(80, terminal=False) == shown(200, terminal=False)
    assert "1493.1   30.5  7.1  8.2     9.3  8.5–∞     256  admitted, in doubt" in shown(80, terminal=False)


def test_a_busy_machine_is_told_with_what_to_do() -> None:
    text = shown(200, terminal=False)
    assert "others took more than 10% of the cores, 40% at most, while 1 of 1 graphs were measured" in text
    assert "remove cart.json and probe again" in text
