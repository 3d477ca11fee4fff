from __future__ import annotations

from typing import Any

import pytest

from gensoup.bench.same_device import device_name, differences, told
from gensoup.runtime.device import fingerprint

ORIN = {
    "model": "NVIDIA Jetson Orin Nano",
    "cpu": "ARM",
    "cores": 6,
    "usable_cores": 6,
    "gpus": [],
    "governor": "schedutil",
    "power_mode": "2 MAXN_SUPER",
    "opencv": "4.10",
    "onnxruntime": "1.20",
    "openvino": None,
    "tensorrt": "10.3",
    "nvidia_driver": "540",
}


@pytest.mark.parametrize(
    ("change", "engine", "kinds"),
    [
        ({}, "tensorrt", []),
        ({"memory_bytes": 1, "os": "newer"}, "tensorrt", []),
        ({"model": "NVIDIA Jetson AGX Orin", "cores": 12}, "tensorrt", ["device", "device"]),
        ({"power_mode": "0 15W"}, "tensorrt", ["power"]),
        ({"governor": "powersave"}, "onnxruntime-cpu", ["power"]),
        ({"tensorrt": "10.7"}, "tensorrt", ["version"]),
        ({"tensorrt": "10.7"}, "onnxruntime-cpu", []),  # not what runs
        ({"onnxruntime": "1.23"}, "onnxruntime-cpu", ["version"]),
        ({"openvino": "2026.1"}, "onnxruntime-cpu", []),
        ({"opencv": "5.0"}, "tensorrt", ["version"]),  # resizes every frame
        ({"nvidia_driver": "550"}, "onnxruntime-cuda", ["version"]),
    ],
)
def test_only_what_matters_for_the_engine_differs(change: dict[str, Any], engine: str, kinds: list[str]) -> None:
    assert [one.kind for one in differences(ORIN, {**ORIN, **change}, [engine])] == kinds


def test_what_was_not_recorded_is_not_compared() -> None:
    assert differences({"gpu": "somewhere else"}, fingerprint(), ["onnxruntime-cpu"]) == []
    assert differences(fingerprint(), fingerprint(), ["onnxruntime-cpu", "openvino-cpu"]) == []


def test_one_line_tells_what_was_and_what_is() -> None:
    found = differences(ORIN, {**ORIN, "power_mode": "0 15W", "gpus": ["A"], "tensorrt": None}, ["tensorrt"])
    assert told(found) == (
        "another device (gpus none then, A now), another version (tensorrt 10.3 then, none now), "
        "another power mode (power_mode 2 MAXN_SUPER then, 0 15W now)"
    )
    assert device_name(ORIN) == "NVIDIA Jetson Orin Nano, power mode 2 MAXN_SUPER"
    assert device_name({}) == "a device that is not told"
