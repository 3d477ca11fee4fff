"""A GStreamer program that pushes what its appsink gets, stamped with the time at which it was captured.

apt install python3-gi python3-gst-1.0 gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good
python3 -m venv --system-site-packages env && env/bin/pip install 'gensoup[cpu]'
env/bin/python gstreamer_appsink.py polyp.gensoup "v4l2src device=/dev/video0"
env/bin/python gstreamer_appsink.py polyp.gensoup "rtspsrc location=rtsp://… latency=0 ! decodebin"
"""

from __future__ import annotations

import argparse
import ctypes
import time

# GStreamer brings libunwind, whose functions would take the place of libgcc's for every library loaded after it: the
# first C++ exception inside an engine then aborts the process. What is loaded first, wins.
ctypes.CDLL("libgcc_s.so.1", mode=ctypes.RTLD_GLOBAL)

import gi  # noqa: E402
import numpy as np  # noqa: E402

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, Gst, GstVideo  # noqa: E402

from gensoup.runtime import Classifier, Result, State, Stream  # noqa: E402
from gensoup.runtime.errors import GenSoupError  # noqa: E402

# drop, max-buffers: the newest frame alone. sync=false: frames come when they are there, not when they would be shown.
SINK = "videoconvert ! video/x-raw,format=NV12 ! appsink name=sink drop=true max-buffers=1 sync=false"
WAIT_NS = 200 * Gst.MSECOND


def show(result: Result) -> None:
    """Called by the stream's own thread, in the order of the frames; a label is shown only while it is current."""
    if result.prediction is None or result.state is State.STALE:
        print(f"no current result ({result.state.value}) {result.error}", flush=True)
    else:
        prediction = result.prediction
        times = f"age {result.age_ms:.1f} ms, {result.drops} dropped"
        print(f"{prediction.label} {prediction.probability:.0%} {result.state.value} {times}", flush=True)


def captured_at(buffer: Gst.Buffer, pipeline: Gst.Pipeline) -> float:
    """When the frame was captured, in ``time.monotonic()`` seconds: now, less the time since its running time."""
    now = time.monotonic()
    clock = pipeline.get_clock()
    if buffer.pts == Gst.CLOCK_TIME_NONE or clock is None:
        return now
    return now - max(0, clock.get_time() - pipeline.get_base_time() - buffer.pts) / Gst.SECOND


def nv12(data: memoryview, video: GstVideo.VideoInfo) -> np.ndarray:
    """[height × 3/2, width]: rows of brightness, then of colour; a view where the planes lie like that, else a copy.

    Rows may be padded, and decoders that work in blocks leave rows between the planes: 1088 for 1080.
    """
    height, width, stride = video.height, video.width, video.stride[0]
    if (video.stride[1], video.offset[1]) == (stride, stride * height):
        return np.ndarray((height * 3 // 2, width), np.uint8, data, video.offset[0], (stride, 1))
    bright, color = (
        np.ndarray((rows, width), np.uint8, data, video.offset[plane], (video.stride[plane], 1))
        for plane, rows in enumerate((height, height // 2))
    )
    return np.concatenate([bright, color])


def push(sample: Gst.Sample, pipeline: Gst.Pipeline, stream: Stream) -> None:
    """Push a sample without a copy of ours: the stream makes the one that is needed."""
    buffer = sample.get_buffer()
    video = GstVideo.VideoInfo.new_from_caps(sample.get_caps())
    mapped, memory = buffer.map(Gst.MapFlags.READ)
    if not mapped:
        return
    try:
        # NV12 is half of BGR's bytes and what decoders and cards give anyway.
        stream.push(nv12(memory.data, video), captured_at=captured_at(buffer, pipeline), format="nv12")
    finally:
        buffer.unmap(memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("pipeline", help="all of it but the sink, as gst-launch-1.0 takes it")
    options = parser.parse_args()

    Gst.init(None)
    try:
        classifier = Classifier.load(options.bundle)
        pipeline = Gst.parse_launch(f"{options.pipeline} ! {SINK}")
    except (GenSoupError, GLib.Error) as error:
        raise SystemExit(f"error: {getattr(error, 'message', error)}") from None
    sink, bus = pipeline.get_by_name("sink"), pipeline.get_bus()
    pipeline.set_state(Gst.State.PLAYING)
    try:
        with Stream(classifier, on_result=show) as stream:
            while True:
                sample = sink.emit("try-pull-sample", WAIT_NS)
                if sample is not None:
                    push(sample, pipeline, stream)
                message = bus.pop_filtered(Gst.MessageType.ERROR | Gst.MessageType.EOS)
                if message is not None and message.type == Gst.MessageType.ERROR:
                    raise SystemExit(message.parse_error()[0].message)
                if sample is None and sink.get_property("eos"):
                    break  # all frames are taken
    except KeyboardInterrupt:
        pass
    finally:
        pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    main()
