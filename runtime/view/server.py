"""The live view as a web application: the page, its WebSocket, ``/healthz`` and ``/metrics``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import FastAPI, Response, WebSocket
from fastapi.responses import JSONResponse

from gensoup.runtime.view.access import Access
from gensoup.runtime.view.address import Address
from gensoup.runtime.view.board import Board
from gensoup.runtime.view.live import Live
from gensoup.runtime.view.metrics import Metrics
from gensoup.runtime.view.pictures import Pictures

MOST_VIEWERS = 8  # each costs inference a little
_TRY_AGAIN_LATER = 1013
_PAGE = {
    "": ("view.html", "text/html"),
    "view.css": ("view.css", "text/css"),
    "view.js": ("view.js", "text/javascript"),
    "charts.js": ("charts.js", "text/javascript"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}


def make_app(
    board: Board, pictures: Pictures, metrics: Metrics, address: Address, token: str | None, closing: asyncio.Event
) -> FastAPI:
    """The application for one stream.

    address: where it will listen. token: see :class:`Access`. closing: ends the open WebSockets when it is set.
    """
    app = FastAPI(title="GenSoup live view", docs_url=None, redoc_url=None, openapi_url=None)
    viewers: set[WebSocket] = set()

    for path, (name, kind) in _PAGE.items():
        content = (files("gensoup.runtime.view") / "page" / name).read_bytes()
        app.add_api_route(f"/{path}", _giver(content, kind))

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        now = board.now()
        values = {"state": now.state, "reason": now.reason, "frame": now.result.frame_id if now.result else None}
        return JSONResponse(values, 200 if now.current else 503)

    @app.get("/metrics")
    async def numbers() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        if len(viewers) >= MOST_VIEWERS:
            await socket.close(_TRY_AGAIN_LATER, f"{MOST_VIEWERS} browsers watch already")
            return
        viewers.add(socket)
        try:
            await Live(socket, board, pictures).run(closing)
        finally:
            viewers.discard(socket)

    app.add_middleware(Access, host=address.host, token=token, cookie=f"gensoup_view_{address.port}")
    return app


def _giver(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def give() -> Response:
        return Response(content, media_type=kind)

    return give
