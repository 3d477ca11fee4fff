"""The live view's server, in a thread of this process."""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import GenSoupError, MissingDependencyError
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.result import Result
from gensoup.runtime.view.address import Address, listen, new_token
from gensoup.runtime.view.board import About, Board
from gensoup.runtime.view.pictures import Pictures

_START_S = 20.0
_END_S = 0.4  # for telling the browsers; then connections are cut
_DEPENDENCIES = ("prometheus_client", "fastapi", "uvicorn", "websockets")


class View:
    """Serves the live view until it is closed; use it as a context manager.

    Give :meth:`expect` every frame before it is pushed, and :meth:`add` every result in the order of the frames. Both
    return in microseconds: pictures are made and everything is sent in other threads. An address that other machines
    reach comes with a random token; only ``url`` holds it.
    """

    def __init__(self, address: Address, about: About, preprocess: Preprocess | None = None) -> None:
        """Listen and start. preprocess: the classifier's, to draw the saliency maps of results that have one.

        Raises MissingDependencyError without the extra ``view``, GenSoupError when the address cannot be listened on.
        """
        _check_dependencies()
        from gensoup.runtime.view.metrics import Metrics

        listening = listen(address)
        self.address = replace(address, port=listening.getsockname()[1])
        self.token = None if address.local else new_token()
        self.board = Board(about)
        self.pictures = Pictures(preprocess, on_failure=self.board.note)
        self._metrics = Metrics(self.board)
        self._closing = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listening,), name="gensoup-view", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_S) or self._loop is None:
            listening.close()
            self.pictures.close()
            raise GenSoupError(f"--view {address.host}:{address.port}: the server did not start")

    @property
    def url(self) -> str:
        """Where to look, token included."""
        return self.address.url() + (f"?token={self.token}" if self.token is not None else "")

    def expect(self, frame_id: int, frame: NDArray[np.uint8]) -> None:
        """Keep a BGR frame for the picture that may be wanted of it; it must not be changed any more."""
        self.pictures.expect(frame_id, frame)

    def add(self, result: Result) -> None:
        """Take a result."""
        self.board.add(result)
        self._metrics.add(result)
        self.pictures.add(result)

    def describe(self, about: About) -> None:
        """Tell that another bundle answers, after :meth:`gensoup.runtime.Stream.swap`; the pages begin anew.

        Until then results of a bundle other than ``about.sha256`` are shown by their label alone.
        """
        self.board.describe(about)

    def close(self, reason: str = "the stream has ended") -> None:
        """Tell the browsers why, end all connections and threads; takes well under a second."""
        self.board.end(reason)
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()
            self.pictures.close()

    def __enter__(self) -> View:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _run(self, listening: socket.socket) -> None:
        try:
            asyncio.run(self._serve(listening))
        finally:
            self._ready.set()

    async def _serve(self, listening: socket.socket) -> None:
        import uvicorn

        from gensoup.runtime.view.server import make_app

        app = make_app(self.board, self.pictures, self._metrics, self.address, self.token, self._closing)
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # who asks is nobody's word but the socket's
            ws_max_size=1024,  # what a page asks for is one letter
            ws_per_message_deflate=False,  # JPEGs do not shrink, and compressing takes time from inference
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        serving = asyncio.ensure_future(server.serve([listening]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        await asyncio.wait([serving, asyncio.ensure_future(self._closing.wait())], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(_END_S if server.server_state.connections else 0)
        server.should_exit = True
        await serving


def _check_dependencies() -> None:
    from importlib import import_module

    for package in _DEPENDENCIES:
        try:
            import_module(package)
        except ImportError as error:
            raise MissingDependencyError(package, "view") from error
