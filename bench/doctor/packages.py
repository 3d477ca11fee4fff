"""What is installed: GenSoup's extras, packages that stand in each other's way, TensorRT outside the environment."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from gensoup.bench.doctor import Line, Mark

SECTION = "installed"
# Not for those who run or train: tests, and windows of an example.
_LEFT_OUT = ("dev", "examples")
# Importing PyTorch takes longer than all the rest of the examination; a cart has none anyway.
_NOT_IMPORTED = ("train",)
# Engines are put to work, which says more than an import.
_TRIED_AS_ENGINES = ("cpu", "gpu", "openvino", "tensorrt", "tensorrt-rtx")
_MODULES = {
    "cuda-bindings": "cuda.bindings",
    "nvidia-ml-py": "pynvml",
}
_OPENCVS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
# CUDA's major version → the oldest driver that runs it (NVIDIA's guide to CUDA compatibility, minor versions).
_OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}

VersionOf = Callable[[str], "str | None"]


def extras(requirements: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Extra → its packages, from the lines of :func:`importlib.metadata.requires`; those for users alone."""
    found: dict[str, tuple[str, ...]] = {}
    for line in requirements:
        name, extra = re.match(r"[\w.-]+", line), re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if name and extra and extra[1] not in _LEFT_OUT:
            found[extra[1]] = (*found.get(extra[1], ()), name[0])
    return found


def extra_line(
    extra: str, packages: Sequence[str], version_of: VersionOf, broken: Callable[[Sequence[str]], str]
) -> Line:
    """Whether an extra is there and can be imported; ``broken``: modules → why not, empty when they can."""
    topic = f"[{extra}]"
    versions = {name: version_of(name) for name in packages}
    here = [f"{name} {version}" for name, version in versions.items() if version is not None]
    away = [name for name, version in versions.items() if version is None]
    install = f"pip install 'gensoup[{extra}]'"
    if packages[0] in away:
        reason = " (for training; a cart needs none)" if extra == "train" else ""
        return Line(SECTION, topic, Mark.NOTE, f"not installed{reason}", install)
    if away:
        return Line(SECTION, topic, Mark.NOTE, f"in part: without {', '.join(away)}", install)
    told = ", ".join(here) if len(here) <= 3 else f"{', '.join(here[:2])} and {len(here) - 2} more"
    if extra in _TRIED_AS_ENGINES:
        return Line(SECTION, topic, Mark.GOOD, told)
    if extra in _NOT_IMPORTED:
        return Line(SECTION, topic, Mark.GOOD, f"{told} (installed; importing is not tried)")
    if reason := broken([_MODULES.get(name, name.replace("-", "_")) for name in packages]):
        remedy = f"pip install --force-reinstall 'gensoup[{extra}]'"
        return Line(SECTION, topic, Mark.RED, f"{told}: cannot be imported ({reason})", remedy)
    return Line(SECTION, topic, Mark.GOOD, told)


def why_not_imported(modules: Sequence[str], timeout_s: float = 20.0) -> str:
    """Import in a process of its own, for a broken library can end the one that loads it; the reason in a line."""
    command = [sys.executable, "-c", f"import {', '.join(modules)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return f"took more than {timeout_s:g} s"
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]


def conflict_lines(version_of: VersionOf) -> list[Line]:
    """Packages that write the same files: whichever was installed last wins, and taking one away breaks the other."""
    lines = []
    runtimes = [name for name in ("onnxruntime", "onnxruntime-gpu") if version_of(name) is not None]
    if len(runtimes) > 1:
        remedy = "pip uninstall -y onnxruntime onnxruntime-gpu; pip install 'gensoup[gpu]' (or [cpu])"
        lines.append(Line(SECTION, "onnxruntime", Mark.RED, f"{' and '.join(runtimes)} are side by side", remedy))
    cameras = [name for name in _OPENCVS if version_of(name) is not None]
    if len(cameras) > 1:
        remedy = f"pip uninstall -y {' '.join(cameras)}; pip install opencv-python"
        lines.append(Line(SECTION, "OpenCV", Mark.RED, f"{' and '.join(cameras)} are side by side", remedy))
    return lines


def system_tensorrt_lines(root: Path, python: tuple[int, int], importable: bool, jetson: bool) -> list[Line]:
    """JetPack (or Debian) has its TensorRT for one Python alone, and outside this environment.

    python: version of this one. importable: whether this environment has TensorRT. jetson: elsewhere it is a note.
    """
    if importable:
        return []
    topic, mark = "system's TensorRT", Mark.RED if jetson else Mark.NOTE
    folders = sorted(root.glob("usr/lib/python3*/dist-packages/tensorrt"))
    if not folders:
        missing = Line(SECTION, topic, mark, "JetPack's is not installed", "sudo apt install python3-libnvinfer")
        return [missing] if jetson else []
    own = f"python{python[0]}.{python[1]}"
    versions = [folder.parents[1].name for folder in folders]
    if own in versions or "python3" in versions:
        remedy = f"make the environment anew: {own} -m venv --system-site-packages .venv"
        return [Line(SECTION, topic, mark, f"in {folders[-1].parent}, hidden from this environment", remedy)]
    text = f"in {folders[-1].parent}: for {versions[-1]}, this is {own}"
    return [
        Line(
            SECTION,
            topic,
            mark,
            text,
            f"{versions[-1]} -m venv --system-site-packages .venv, and install GenSoup there",
        )
    ]


def driver_lines(release: str | None, versions: Mapping[str, str]) -> list[Line]:
    """Whether NVIDIA's driver is new enough for the CUDA that installed engines are built for.

    release: the driver's version, None without one. versions: of all installed packages.
    """
    if release is None:
        return []
    wanted = {major: name for name in sorted(versions) if (major := _cuda_of(name, versions[name])) in _OLDEST_DRIVER}
    lines = [Line(SECTION, "NVIDIA driver", Mark.GOOD, release)]
    for major, name in sorted(wanted.items()):
        oldest = _OLDEST_DRIVER[major]
        if int(release.split(".")[0]) < oldest:
            text = f"{release} is too old for CUDA {major}, which {name} {versions[name]} needs"
            remedy = f"install driver {oldest} or newer (sudo ubuntu-drivers install nvidia:{oldest})"
            lines = [Line(SECTION, "NVIDIA driver", Mark.RED, text, remedy)]
    return lines


def _cuda_of(name: str, version: str) -> int:
    """The major version of CUDA that an engine's package is built for; 0 for others."""
    if match := re.fullmatch(r"tensorrt[\w-]*-cu(\d\d)[\w-]*", name):
        return int(match[1])
    return int(version.split(".")[0]) if name == "cuda-bindings" else 0
