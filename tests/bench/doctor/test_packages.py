"""Packages: each red line from a made-up list or folder."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest

from gensoup.bench.doctor import Line, Mark
from gensoup.bench.doctor.packages import (
    conflict_lines,
    driver_lines,
    extra_line,
    extras,
    system_tensorrt_lines,
    why_not_imported,
)


def test_extras_are_those_of_the_package_itself() -> None:
    found = extras(metadata.requires("gensoup") or ())
    assert found["cpu"] == ("onnxruntime",) and "nvidia-ml-py" in found["nvidia"]
    assert found["tensorrt"][:2] == ("tensorrt", "cuda-bindings") and "dev" not in found


@pytest.mark.parametrize(
    ("installed", "reason", "mark", "text"),
    [
        ({"fastapi": "1", "uvicorn": "2"}, "", Mark.GOOD, "fastapi 1, uvicorn 2"),
        ({"fastapi": "1"}, "", Mark.NOTE, "in part: without uvicorn"),
        ({}, "", Mark.NOTE, "not installed"),
        (
            {"fastapi": "1", "uvicorn": "2"},
            "no libssl",
            Mark.RED,
            "fastapi 1, uvicorn 2: cannot be imported (no libssl)",
        ),
    ],
)
def test_an_extra(installed: dict[str, str], reason: str, mark: Mark, text: str) -> None:
    line = extra_line("view", ("fastapi", "uvicorn"), installed.get, lambda modules: reason)
    assert (line.mark, line.text) == (mark, text)
    assert ("gensoup[view]" in line.remedy) == (mark is not Mark.GOOD)


def test_a_cart_without_torch_is_not_red_and_torch_is_not_imported() -> None:
    def refuse(modules: Sequence[str]) -> str:
        raise AssertionError(modules)

    away = extra_line("train", ("torch",), {}.get, refuse)
    assert away.mark is Mark.NOTE and "a cart needs none" in away.text
    assert extra_line("train", ("torch",), {"torch": "2.6"}.get, refuse).mark is Mark.GOOD


def test_engines_are_tried_elsewhere() -> None:
    line = extra_line("cpu", ("onnxruntime",), {"onnxruntime": "1.23"}.get, lambda modules: "not asked")
    assert (line.mark, line.text) == (Mark.GOOD, "onnxruntime 1.23")


def test_imports_are_tried_in_a_process_of_their_own() -> None:
    assert why_not_imported(["json", "math"]) == ""
    assert why_not_imported(["no_such_module_here"]) == "ModuleNotFoundError: No module named 'no_such_module_here'"


@pytest.mark.parametrize(
    ("installed", "told"),
    [
        (("onnxruntime", "opencv-python"), []),
        (("onnxruntime", "onnxruntime-gpu"), ["onnxruntime and onnxruntime-gpu are side by side"]),
        (("opencv-python", "opencv-python-headless"), ["opencv-python and opencv-python-headless are side by side"]),
    ],
)
def test_packages_in_each_others_way(installed: tuple[str, ...], told: list[str]) -> None:
    lines = conflict_lines(dict.fromkeys(installed, "1").get)
    assert [line.text for line in lines] == told
    assert all(line.mark is Mark.RED and "pip uninstall -y" in line.remedy for line in lines)


def jetpack(root: Path, python: str) -> Path:
    folder = root / f"usr/lib/{python}/dist-packages/tensorrt"
    folder.mkdir(parents=True)
    return root


def test_jetpacks_tensorrt_for_another_python(tmp_path: Path) -> None:
    (line,) = system_tensorrt_lines(jetpack(tmp_path, "python3.10"), (3, 11), importable=False, jetson=True)
    assert line.mark is Mark.RED and line.text.endswith("for python3.10, this is python3.11")
    assert line.remedy.startswith("python3.10 -m venv --system-site-packages")


def test_jetpacks_tensorrt_outside_this_environment(tmp_path: Path) -> None:
    root = jetpack(tmp_path, "python3.10")
    (line,) = system_tensorrt_lines(root, (3, 10), importable=False, jetson=True)
    assert line.mark is Mark.RED and "hidden from this environment" in line.text
    assert "python3.10 -m venv --system-site-packages" in line.remedy
    assert system_tensorrt_lines(root, (3, 10), importable=True, jetson=True) == []
    assert system_tensorrt_lines(root, (3, 10), importable=False, jetson=False)[0].mark is Mark.NOTE


def test_a_jetson_without_tensorrt(tmp_path: Path) -> None:
    (line,) = system_tensorrt_lines(tmp_path, (3, 10), importable=False, jetson=True)
    assert line.mark is Mark.RED and "python3-libnvinfer" in line.remedy
    assert system_tensorrt_lines(tmp_path, (3, 10), importable=False, jetson=False) == []


@pytest.mark.parametrize(
    ("release", "versions", "red"),
    [
        ("550.54.14", {"cuda-bindings": "12.6.2", "tensorrt-cu12-libs": "10.3"}, ""),
        (
            "550.54.14",
            {"cuda-bindings": "13.0.1"},
            "550.54.14 is too old for CUDA 13, which cuda-bindings 13.0.1 needs",
        ),
        ("580.65", {"tensorrt-rtx-cu13": "1.4"}, ""),
        ("470.1", {"tensorrt-cu12": "10.3"}, "470.1 is too old for CUDA 12, which tensorrt-cu12 10.3 needs"),
        ("470.1", {"torch": "2.6"}, ""),
    ],
)
def test_drivers_and_cuda(release: str, versions: dict[str, str], red: str) -> None:
    lines = driver_lines(release, versions)
    assert [line.text for line in lines if line.mark is Mark.RED] == ([red] if red else [])
    assert driver_lines(None, versions) == []


def test_no_red_line_without_a_remedy() -> None:
    with pytest.raises(ValueError, match="must say how to mend it"):
        Line("machine", "cores", Mark.RED, "too few")
