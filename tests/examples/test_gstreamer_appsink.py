"""The appsink program on the system's Python, which has GStreamer, with this environment's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "examples" / "gstreamer_appsink.py"
SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin")
PROBE = """
import sys, gi
assert sys.version_info[:2] == {version}, "another Python than this environment's"
gi.require_version("Gst", "1.0"); gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstVideo
Gst.init(None)
for name in ("videotestsrc", "videoconvert", "appsink"):
    assert Gst.ElementFactory.find(name), "no element " + name
"""


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    if SYSTEM_PYTHON is None:
        pytest.skip("needs a system's python3 with GStreamer")
    probe = PROBE.replace("{version}", str(tuple(sys.version_info[:2])))
    tried = subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"needs python3-gst-1.0 for {SYSTEM_PYTHON}: {tried.stderr.strip().splitlines()[-1]}")
    return {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{sysconfig.get_paths()['purelib']}"}


def run(environment: dict[str, str], bundle: Path, pipeline: str) -> subprocess.CompletedProcess[str]:
    command = [str(SYSTEM_PYTHON), str(EXAMPLE), str(bundle), pipeline]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_it_classifies_what_the_pipeline_gives(environment: dict[str, str], tiny_bundle: Path) -> None:
    """At a width of 322 the rows are padded."""
    caps = "video/x-raw,width=322,height=240,framerate=50/1"
    done = run(environment, tiny_bundle, f"videotestsrc is-live=true num-buffers=40 pattern=red ! {caps}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) >= 5
    current = [line for line in lines if not line.startswith("no current result")]
    assert current and all(line.startswith("red ") for line in current)
    ages = [float(line.split("age ")[1].split()[0]) for line in current]
    assert min(ages) > 0


def test_an_error_in_the_pipeline_is_told(environment: dict[str, str], tiny_bundle: Path, tmp_path: Path) -> None:
    done = run(environment, tiny_bundle, f"filesrc location={tmp_path}/no.raw ! rawvideoparse")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "no.raw" in done.stderr or "Resource not found" in done.stderr


def test_a_pipeline_that_cannot_be_read_is_one_line(environment: dict[str, str], tiny_bundle: Path) -> None:
    done = run(environment, tiny_bundle, "nosuchelement")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == 'error: no element "nosuchelement"' and "Traceback" not in done.stderr


PLANES = """
import sys
from types import SimpleNamespace
import numpy as np
sys.path.insert(0, sys.argv[1])
from gstreamer_appsink import nv12
for stride, between in ((8, 0), (8, 16), (6, 0), (6, 12)):
    data = np.zeros(stride * 4 + between + stride * 2, np.uint8)
    bright = data[: stride * 4].reshape(4, stride)[:, :6]
    color = data[stride * 4 + between :].reshape(2, stride)[:, :6]
    bright[:], color[:] = np.arange(24).reshape(4, 6), np.arange(100, 112).reshape(2, 6)
    video = SimpleNamespace(height=4, width=6, stride=(stride, stride), offset=(0, stride * 4 + between))
    assert (nv12(memoryview(data), video) == np.concatenate([bright, color])).all()
"""


def test_padded_rows_and_rows_between_the_planes_are_left_out(environment: dict[str, str]) -> None:
    command = [str(SYSTEM_PYTHON), "-c", PLANES, str(EXAMPLE.parent)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
