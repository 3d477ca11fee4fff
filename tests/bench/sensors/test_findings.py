"""What a log says for a verdict."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from gensoup.bench.finding import Kind
from gensoup.bench.sensors.findings import findings
from gensoup.bench.sensors.log import DeviceLog

Make = Callable[..., DeviceLog]
GPU = {"gpu_clock_mhz": 1900.0, "gpu_temperature_c": 60.0, "gpu_load_percent": 30.0}
CPU_ENGINE, GPU_ENGINE = "onnxruntime-cpu", "tensorrt"


def told(log: DeviceLog, engine: str = GPU_ENGINE) -> list[tuple[Kind, str]]:
    return [(finding.kind, finding.text) for finding in findings(log, engine)]


def test_a_quiet_device_gives_rise_to_nothing(make_log: Make) -> None:
    assert told(make_log(), CPU_ENGINE) == []
    assert told(make_log(("cpu", "nvml"), GPU)) == []
    assert told(make_log(("cpu", "jtop"), {**GPU, "gpu_load_percent": [0.0, *[40.0] * 30, 1.0]})) == []


@pytest.mark.parametrize(
    ("sensors", "engine", "jetson", "missing"),
    [
        (("cpu",), GPU_ENGINE, False, "nvml"),
        (("cpu",), "onnxruntime-cuda", False, "nvml"),
        (("cpu",), GPU_ENGINE, True, "jtop"),
        (("cpu",), CPU_ENGINE, True, "jtop"),
        ((), CPU_ENGINE, False, "cpu"),
    ],
)
def test_a_sensor_that_should_be_there_and_is_not(
    make_log: Make, sensors: tuple[str, ...], engine: str, jetson: bool, missing: str
) -> None:
    log = make_log(sensors, jetson=jetson, missing={missing: f"{missing} is away: install it"})
    assert told(log, engine) == [(Kind.INVALID, f"{missing} is away: install it")]


def test_a_sensor_that_fell_silent(make_log: Make) -> None:
    some = [60.0, *[60.0] * 26, *[None] * 4, 60.0]
    log = make_log(("cpu", "nvml"), {**GPU, "gpu_temperature_c": some}, errors={"nvml": "GPU is lost"})
    text = "gpu_temperature_c was read 26 of 30 times (GPU is lost); a verdict needs it"
    assert told(log) == [(Kind.INVALID, text)]
    fewer = [60.0, *[60.0] * 27, *[None] * 3, 60.0]
    assert told(make_log(("cpu", "nvml"), {**GPU, "gpu_temperature_c": fewer})) == []


def test_looks_that_did_not_happen(make_log: Make) -> None:
    log = make_log()
    sparse = DeviceLog(**{**vars(log), "at_s": tuple(3.0 * at for at in log.at_s)})
    assert told(sparse, CPU_ENGINE) == [(Kind.INVALID, "the sensors were read only 30 times in 93 s")]


def test_a_power_mode_that_changed(make_log: Make) -> None:
    facts: dict[str, Any] = {"power_mode": "MAXN", "jetson_clocks": True}
    log = make_log(facts_before={"cpu": facts}, facts_after={"cpu": {**facts, "power_mode": "15W"}})
    assert told(log, CPU_ENGINE) == [(Kind.INVALID, "power mode changed from MAXN to 15W during the measurement")]


def test_a_sensor_that_does_not_answer_after_the_measurement(make_log: Make) -> None:
    facts = {"cpu": {"cores": 4}, "nvml": {"driver": "550"}}
    log = make_log(
        ("cpu", "nvml"), GPU, facts_before=facts, facts_after={**facts, "nvml": {}}, errors={"nvml": "GPU is lost"}
    )
    assert told(log) == [(Kind.INVALID, "its settings could not be read after the measurement (GPU is lost)")]
    assert told(log, CPU_ENGINE) == []


def test_throttling(make_log: Make) -> None:
    log = make_log(slowed_by={"cpu: processor too hot": (4.0, 5.0, 6.0)})
    text = "the device was slowed: processor too hot, seen 3 times, first 4 s after the start"
    assert told(log, CPU_ENGINE) == [(Kind.THROTTLED, text)]


def test_a_hardware_slowdown_seen_once_may_be_a_change_of_clocks(make_log: Make) -> None:
    once, twice = ({"nvml: hardware slowdown": times} for times in ((4.0,), (4.0, 5.0)))
    assert told(make_log(("cpu", "nvml"), GPU, slowed_by=once)) == []
    assert [kind for kind, _ in told(make_log(("cpu", "nvml"), GPU, slowed_by=twice))] == [Kind.THROTTLED]


@pytest.mark.parametrize(
    ("others", "kind"),
    [
        ({"train.py (5)": 5.1}, Kind.INVALID),
        ({"a (5)": 3.0, "b (6)": 2.5}, Kind.INVALID),
        ({"train.py (5)": 4.9}, Kind.NOTE),
        ({"train.py (5)": math.nan}, Kind.INVALID),
    ],
)
def test_others_on_the_gpu(make_log: Make, others: dict[str, float], kind: Kind) -> None:
    log = make_log(("cpu", "nvml"), GPU, others=others)
    assert [found for found, _ in told(log)] == [kind] and all(name in told(log)[0][1] for name in others)
    assert told(log, CPU_ENGINE) == []


def test_the_display_server_is_only_told(make_log: Make) -> None:
    log = make_log(("cpu", "nvml"), GPU, display={"Xorg (3)": 22.0})
    assert told(log) == [(Kind.NOTE, "the GPU draws a screen too: Xorg (3) 22%")]


def test_on_a_jetson_what_runs_while_frames_rest_is_others(make_log: Make) -> None:
    load = {**GPU, "gpu_load_percent": [12.0, *[40.0] * 30, 1.0]}
    log = make_log(("cpu", "jtop"), load, others={"python3 (8)": math.nan})
    assert told(log) == [(Kind.INVALID, "the GPU was 12% busy while the frames rested (python3 (8))")]


def test_notes(make_log: Make) -> None:
    log = make_log(
        series={"steal_percent": 2.0},
        facts_before={"cpu": {"on_battery": True}},
        facts_after={"cpu": {"on_battery": True}},
        quota_stops=3,
        processes={"updatedb (9)": 71.0},
    )
    assert told(log, CPU_ENGINE) == [
        (Kind.NOTE, "the machine runs on its battery"),
        (Kind.NOTE, "the host of this virtual machine took 2.0% of the cores' time"),
        (Kind.NOTE, "a quota of this control group stopped the process 3 times"),
        (
            Kind.NOTE,
            "other processes were busy, in percent of a core (those that ended meanwhile are not seen): "
            "updatedb (9) 71%",
        ),
    ]
