"""Cameras that the tests can switch off: motion JPEG over HTTP, and RTSP where the system has GStreamer's server."""

from __future__ import annotations

import contextlib
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin")
REPOSITORY = Path(__file__).resolve().parents[3]
_HEADER = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


class HttpCamera:
    """A camera that serves a red picture at 50 Hz to whoever connects; one port for its life.

    ``unplug`` ends its connections, ``plug`` serves again. While ``frozen`` is set it sends nothing.
    """

    def __init__(self) -> None:
        picture = np.full((120, 160, 3), (20, 20, 200), np.uint8)
        jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
        self._part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)
        self.frozen = threading.Event()
        self._unplugged = threading.Event()
        self._threads: list[threading.Thread] = []
        self._port = 0
        self.plug()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/live.mjpg"

    def plug(self) -> None:
        self._unplugged = threading.Event()
        listener = socket.create_server(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        self._run(self._accept, listener, self._unplugged)

    def unplug(self) -> None:
        self._unplugged.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _run(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, unplugged: threading.Event) -> None:
        with listener:
            while not unplugged.is_set():
                if select.select([listener], [], [], 0.02)[0]:
                    self._run(self._serve, listener.accept()[0], unplugged)

    def _serve(self, connection: socket.socket, unplugged: threading.Event) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(1)
            connection.recv(4096)
            connection.sendall(_HEADER)
            while not unplugged.wait(0.02):
                if not self.frozen.is_set():
                    connection.sendall(self._part)


@pytest.fixture
def http_camera() -> Iterator[HttpCamera]:
    camera = HttpCamera()
    yield camera
    camera.unplug()


class RtspServer:
    """GStreamer's RTSP server in a process; ``url`` stays the same when it is started again."""

    def __init__(self) -> None:
        self._port = "0"
        self.url = ""
        self.start()

    def start(self) -> None:
        script = Path(__file__).with_name("rtsp_server.py")
        command = [str(SYSTEM_PYTHON), str(script), self._port]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            problem = self.process.communicate()[1].strip().rpartition("\n")[2]
            pytest.skip(f"needs GStreamer's RTSP server and x264enc for {SYSTEM_PYTHON}: {problem}")
        self._port = self.url.split(":")[2].split("/")[0]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def rtsp_server() -> Iterator[RtspServer]:
    if SYSTEM_PYTHON is None:
        pytest.skip("needs the system's python3 with GStreamer's RTSP server")
    server = RtspServer()
    yield server
    server.kill()
