from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from gensoup.runtime.device import (
    CpuTimes,
    cpu_times,
    default_threads,
    fingerprint,
    last_level_cache_bytes,
    nvidia_release,
    power_mode,
)


def test_fingerprint_is_plain_json_and_names_the_machine() -> None:
    values = json.loads(json.dumps(fingerprint("onnxruntime-cpu")))
    assert values["cpu"]
    assert values["cores"] >= values["usable_cores"] >= 1
    assert values["memory_bytes"] > 1 << 28
    assert values["python"].startswith("3.")
    assert values["onnxruntime"]
    assert values["engine"] == "onnxruntime-cpu"


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (5, 2)])
def test_half_of_the_cores_that_may_be_used_are_taken(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(10, 10 + cores)))
    assert default_threads() == threads


def test_the_largest_cache_counts(tmp_path: Path) -> None:
    for cpu, index, size in [("cpu0", 0, "32K"), ("cpu0", 3, "32768K"), ("cpu1", 2, "1M"), ("cpu1", 9, "odd")]:
        folder = tmp_path / cpu / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        (folder / "size").write_text(size + "\n")
    assert last_level_cache_bytes(tmp_path) == 32 << 20


def test_without_cache_sizes_64_mib_are_assumed(tmp_path: Path) -> None:
    assert last_level_cache_bytes(tmp_path) == 64 << 20


def test_cpu_times_are_those_of_the_cores_this_process_may_use(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    mine = [f"cpu{core} 10 1 20 300 4 5 6 7 9 9\n" for core in os.sched_getaffinity(0)]
    stat.write_text("cpu  99 99 99 9999 9\n" + "".join(mine) + "cpu999 1 1 1 1 1\n")
    assert cpu_times(stat) == CpuTimes(idle=304 * len(mine), total=353 * len(mine))


def test_cpu_times_of_the_whole_machine_where_cores_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  10 1 20 300 4 5 6 7 9 9\n")
    assert cpu_times(tmp_path / "stat") == CpuTimes(idle=304, total=353)


@pytest.mark.parametrize("text", ["", "cpu 1 2\n", "intr 1 2 3 4 5 6\n", "cpu a b c d e\n"])
def test_cpu_times_are_none_when_they_cannot_be_read(tmp_path: Path, text: str) -> None:
    assert cpu_times(tmp_path / "missing") is None
    (tmp_path / "stat").write_text(text)
    assert cpu_times(tmp_path / "stat") is None


def test_idle_fraction() -> None:
    assert CpuTimes(100, 200).idle_fraction_until(CpuTimes(130, 300)) == pytest.approx(0.3)
    assert CpuTimes(100, 200).idle_fraction_until(CpuTimes(100, 200)) is None


@pytest.mark.parametrize(
    ("line", "release"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023", "535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35  Release Build  (dvs)", "560.35"),
        ("NVRM version: something else", None),
    ],
)
def test_the_drivers_own_version(tmp_path: Path, line: str, release: str | None) -> None:
    assert nvidia_release(tmp_path) is None
    (tmp_path / "version").write_text(f"{line}\nGCC version:  gcc version 11.4.0\n")
    assert nvidia_release(tmp_path) == release


@pytest.mark.skipif(cpu_times() is None, reason="needs /proc/stat")
def test_this_machine_gives_an_idle_fraction() -> None:
    before = cpu_times()
    time.sleep(0.2)
    after = cpu_times()
    assert before is not None
    assert after is not None
    fraction = before.idle_fraction_until(after)
    assert fraction is not None
    assert 0 <= fraction <= 1


def test_the_power_mode_of_a_jetson_and_of_a_pc(tmp_path: Path) -> None:
    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    assert power_mode(tmp_path) is None
    write("sys/firmware/acpi/platform_profile", "balanced\n")
    assert power_mode(tmp_path) == "balanced"
    write("var/lib/nvpmodel/status", "pmode:0002")
    assert power_mode(tmp_path) == "2"
    write("etc/nvpmodel.conf", "# modes\n< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n")
    assert power_mode(tmp_path) == "2 MAXN_SUPER"
