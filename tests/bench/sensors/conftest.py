"""Logs made up for what is judged about them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from gensoup.bench.sensors.log import DeviceLog, Phase


@pytest.fixture
def make_log() -> Callable[..., DeviceLog]:
    """Makes logs of a look before, 30 during, one after: (sensors, series: name → one value or a list, **changes)."""

    def make(sensors: tuple[str, ...] = ("cpu",), series: dict[str, Any] | None = None, **changes: Any) -> DeviceLog:
        phase: tuple[Phase, ...] = ("before", *["during"] * 30, "after")  # type: ignore[assignment]
        everything = {"cpu_load_percent": 40.0, **(series or {})}
        told = {
            name: tuple(value) if isinstance(value, list) else (value,) * len(phase)
            for name, value in everything.items()
        }
        values: dict[str, Any] = {"jetson": "jtop" in sensors, **changes}
        return DeviceLog(
            100.0, 1.0, sensors, at_s=tuple(map(float, range(len(phase)))), phase=phase, series=told, **values
        )

    return make
