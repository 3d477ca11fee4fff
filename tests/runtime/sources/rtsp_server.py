"""An RTSP server of a moving ball in H.264, 320 × 240 at 25 Hz: ``python3 rtsp_server.py PORT``, 0 for any free one.

For the system's Python, with PyGObject and GStreamer's RTSP server. Prints the URL once it can be connected to.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PIPELINE = """( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1
    ! x264enc tune=zerolatency key-int-max=10 ! rtph264pay name=pay0 )"""

Gst.init(None)
if Gst.ElementFactory.find("x264enc") is None:
    sys.exit("no x264enc")
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory.new()
factory.set_launch(PIPELINE)
factory.set_shared(True)
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
print(f"rtsp://127.0.0.1:{server.get_bound_port()}/live", flush=True)
GLib.MainLoop().run()
