"""NVML's readings by way of recorded answers: see ``recorded/README.md``; no GPU was at hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from replay import ReplayedNvml

from gensoup.bench.sensors import SensorError
from gensoup.bench.sensors.nvidia import NvmlReader

OURS, SCREEN, OTHER = 4711, 1203, 5005
NAMES = {OURS: "python3", SCREEN: "Xorg", OTHER: "train.py"}


def reader(tmp_path: Path, library: ReplayedNvml | None = None, **options: Any) -> tuple[NvmlReader, ReplayedNvml]:
    library = library or ReplayedNvml("rtx_a2000.json")
    for pid in NAMES:
        (tmp_path / f"proc/{pid}").mkdir(parents=True, exist_ok=True)
    told = {
        "root": tmp_path,
        "pid": OURS,
        "name_of": lambda pid: NAMES.get(pid, "unknown"),
        "visible": "",
        "since_us": 0,
    }
    return NvmlReader(library, **{**told, **options}), library


def test_each_reading_has_its_name_and_unit(tmp_path: Path) -> None:
    nvml, library = reader(tmp_path)
    library.look = 1
    sample = nvml.read()
    assert sample.values == {
        "gpu_clock_mhz": 1950,
        "gpu_memory_clock_mhz": 6001,
        "gpu_temperature_c": 66,
        "gpu_power_w": 41.53,
        "gpu_load_percent": 31,
        "gpu_memory_used_mib": 1024,
        "gpu_performance_state": 0,
    }
    assert set(nvml.required) <= set(sample.values)
    assert nvml.facts() == {
        "gpu": "NVIDIA RTX A2000 12GB",
        "driver": "550.54.14",
        "power_limit_w": 70,
        "persistence": False,
        "gpu_clock_max_mhz": 2100,
    }
    nvml.close()
    assert not library.open


def test_what_slows_the_gpu_is_named_and_idling_is_not(tmp_path: Path) -> None:
    nvml, library = reader(tmp_path)
    seen = []
    for library.look in range(4):
        seen.append(nvml.read().slowed_by)
    assert seen == [
        (),
        (),
        ("power limit",),
        ("hardware slowdown", "too hot (driver)", "too hot (hardware)"),
    ]


def test_own_work_is_not_others_and_the_screen_is_apart(tmp_path: Path) -> None:
    nvml, library = reader(tmp_path)
    seen = []
    for library.look in range(4):
        sample = nvml.read()
        assert sample.others == {}
        seen.append(sample.display["Xorg (1203)"])
    assert seen == [0, 3, 0, 0]  # the third was beyond all percent, the fourth had nothing new


def test_others_that_compute_are_told_with_their_share(tmp_path: Path) -> None:
    both = [{"pid": OURS, "usedGpuMemory": 1}, {"pid": OTHER, "usedGpuMemory": 1}]
    times = [
        {"pid": OTHER, "timeStamp": 5, "smUtil": util, "memUtil": 0, "encUtil": 0, "decUtil": 0} for util in (10, 14)
    ]
    library = ReplayedNvml(
        "rtx_a2000.json",
        nvmlDeviceGetComputeRunningProcesses=both,
        nvmlDeviceGetProcessUtilization=[times, {"error": 3}],
    )
    nvml, _ = reader(tmp_path, library)
    assert nvml.read().others == {"train.py (5005)": 12}
    library.look = 1  # "not supported": as on MIG and under WDDM
    assert math.isnan(nvml.read().others["train.py (5005)"])


def test_in_a_container_the_one_unknown_process_is_this_one(tmp_path: Path) -> None:
    nvml, library = reader(tmp_path, pid=17)  # NVML tells 4711, the host's number
    (tmp_path / "proc/4711").rmdir()
    library.look = 1
    assert nvml.read().others == {}
    (tmp_path / "proc/4711").mkdir()  # known here: then it is somebody else
    library.look = 2
    assert nvml.read().others == {"python3 (4711)": 30}


def test_what_this_gpu_lacks_is_left_out_and_what_is_lost_is_said(tmp_path: Path) -> None:
    library = ReplayedNvml(
        "rtx_a2000.json", nvmlDeviceGetPowerUsage={"error": 3}, nvmlDeviceGetTemperature={"error": 15}
    )
    library.answers["nvmlDeviceGetTemperatureV"] = 55
    nvml, _ = reader(tmp_path, library)
    values = nvml.read().values
    assert "gpu_power_w" not in values and values["gpu_temperature_c"] == 55
    library.answers["nvmlDeviceGetClockInfo"] = {"1": {"error": 15}, "2": 1}
    with pytest.raises(SensorError, match=r"NVML stopped answering \(GPU is lost\)"):
        nvml.read()


def test_a_gpu_that_cannot_be_watched_is_refused_with_the_remedy(tmp_path: Path) -> None:
    silent = ReplayedNvml("rtx_a2000.json", nvmlDeviceGetCurrentClocksEventReasons={"error": 3})
    with pytest.raises(SensorError, match=r"cannot watch this GPU .*update NVIDIA's driver"):
        reader(tmp_path, silent)
    away = ReplayedNvml("rtx_a2000.json", nvmlInit={"error": 9})
    with pytest.raises(SensorError, match=r"does not start \(Driver Not Loaded\): nvidia-smi"):
        reader(tmp_path, away)


def test_old_drivers_tell_the_reasons_by_their_old_name(tmp_path: Path) -> None:
    library = ReplayedNvml("rtx_a2000.json", nvmlDeviceGetCurrentClocksThrottleReasons=64)
    del library.answers["nvmlDeviceGetCurrentClocksEventReasons"]
    assert reader(tmp_path, library)[0].read().slowed_by == ("too hot (hardware)",)


def test_with_several_gpus_the_computing_one_must_be_known(tmp_path: Path) -> None:
    pair = ReplayedNvml("rtx_a2000.json", nvmlDeviceGetCount=2)
    with pytest.raises(SensorError, match="2 GPUs and not which one computes: set CUDA_VISIBLE_DEVICES"):
        reader(tmp_path, pair)
    reader(tmp_path, pair, visible="GPU-8a3f,GPU-77b0")
    reader(tmp_path, pair, bus_id="00000000:01:00.0")
