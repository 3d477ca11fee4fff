"""Pipelines: for real where the system's OpenCV has GStreamer, as Debian's; else what is said without it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import cv2
import pytest

from gensoup.runtime.errors import DataError, UsageError
from gensoup.runtime.sources import open_source

REPOSITORY = Path(__file__).resolve().parents[3]
SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin")
PROBE = "import cv2; assert cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER), 'without GStreamer'"
SCRIPT = """
import sys
from itertools import islice
from gensoup.runtime.errors import DataError
from gensoup.runtime.sources import open_source
for spec in sys.argv[1:]:
    source = open_source(spec, on_event=lambda event: print(event.kind))
    try:
        frames = list(islice(source, 15))
        print(len(frames), frames[0].shape, frames[0].mean(axis=(0, 1)).argmax(), source.rate_hz)
    except DataError as error:
        print(error)
"""
CAPS = "video/x-raw,width=320,height=240,framerate=50/1"


@pytest.mark.skipif(cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER), reason="this OpenCV has GStreamer")
def test_without_gstreamer_the_error_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"^gst:videotestsrc: this OpenCV has no GStreamer.*gstreamer_appsink\.py"):
        open_source("gst:videotestsrc")


def test_an_empty_pipeline_is_refused() -> None:
    with pytest.raises(UsageError, match="write the pipeline"):
        open_source("gst: ")


def test_pipelines_run_end_and_fail_in_an_opencv_that_has_gstreamer() -> None:
    if SYSTEM_PYTHON is None:
        pytest.skip("needs a system's python3 with an OpenCV that has GStreamer")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    probe = subprocess.run([SYSTEM_PYTHON, "-c", PROBE], capture_output=True, text=True)
    if probe.returncode != 0:
        pytest.skip(f"{SYSTEM_PYTHON} has no OpenCV with GStreamer: {probe.stderr.strip().splitlines()[-1]}")
    pipelines = [
        f"gst:videotestsrc is-live=true pattern=red ! {CAPS}",
        f"gst:videotestsrc is-live=true num-buffers=9 pattern=blue ! {CAPS}",
        f"gst:videotestsrc is-live=true ! {CAPS},format=NV12 ! appsink",
        "gst:videotestsrc ! nosuchelement",
    ]
    command = [SYSTEM_PYTHON, "-c", SCRIPT, *pipelines]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert lines[:4] == ["15 (240, 320, 3) 2 50.0", "lost", "back", "15 (240, 320, 3) 0 50.0"], done.stderr
    assert "not BGR; put 'videoconvert' before them" in lines[4]
    assert "the pipeline does not start" in lines[5]
