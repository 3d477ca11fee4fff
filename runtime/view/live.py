"""One browser's connection: status and pictures over a WebSocket, each sent only when the page has asked for it.

The page asks with ``s`` for the next status (JSON) and with ``p`` for the next picture (four bytes of frame number, big
end first, then a JPEG), ``-p`` takes the latter back. So nothing is ever under way that a slow network could deliver
late, and the page can tell how old at most what it gets is: the time since it asked less ``waited_ms``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from gensoup import __version__
from gensoup.runtime.result import Result
from gensoup.runtime.view.board import BUCKET_S, HISTORY_S, Board, Now
from gensoup.runtime.view.pictures import Picture, Pictures

STATUS_S = 0.1  # between two statuses
SILENCE_S = 15.0  # a page that asks for nothing so long is asleep; it connects again when it wakes
_ROWS = 150  # buckets in one message: writing thousands at once would hold up the other threads
GOING_AWAY = 1001


class Live:
    """Serves one accepted WebSocket until either side ends."""

    def __init__(self, socket: WebSocket, board: Board, pictures: Pictures) -> None:
        self._socket = socket
        self._board = board
        self._pictures = pictures
        self._sending = asyncio.Lock()
        self._status_wanted = asyncio.Event()
        self._picture_wanted = asyncio.Event()
        self._asked_at = 0.0
        self._row = -1
        self._event = 0

    async def run(self, closing: asyncio.Event) -> None:
        """Serve until the page goes or ``closing`` is set."""
        parts = [self._listen(), self._tell(), self._show(), closing.wait()]
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # RuntimeError: it is closed already
            if closing.is_set():
                await self._send(json.dumps(self._status(0.0), ensure_ascii=False, allow_nan=False))
            await self._socket.close(GOING_AWAY)
        for task, end in zip(tasks, ends, strict=True):
            if task in done and isinstance(end, Exception) and not isinstance(end, WebSocketDisconnect):
                raise end

    async def _listen(self) -> None:
        while True:
            try:
                asked = await asyncio.wait_for(self._socket.receive_text(), SILENCE_S)
            except (asyncio.TimeoutError, KeyError):  # KeyError: bytes, which no page of ours sends
                return
            if asked == "s":
                self._asked_at = time.monotonic()
                self._status_wanted.set()
            elif asked == "p":
                self._picture_wanted.set()
            elif asked == "-p":
                self._picture_wanted.clear()

    async def _tell(self) -> None:
        described = -1
        while True:
            if described != self._board.described:
                described = self._board.described
                self._row, self._event = -1, 0  # the page begins anew with each description
                await self._send(json.dumps(about(self._board), ensure_ascii=False))
            await self._status_wanted.wait()
            self._status_wanted.clear()
            if described != self._board.described:
                self._status_wanted.set()
                continue
            status = self._status((time.monotonic() - self._asked_at) * 1e3)
            await self._send(json.dumps(status, ensure_ascii=False, allow_nan=False))
            await asyncio.sleep(STATUS_S)

    async def _show(self) -> None:
        while True:
            await self._picture_wanted.wait()
            picture = await self._next_picture()
            if self._picture_wanted.is_set():
                self._picture_wanted.clear()
                await self._send(picture.frame_id.to_bytes(4, "big") + picture.jpeg)

    async def _next_picture(self) -> Picture:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Picture] = loop.create_future()

        def arrived(picture: Picture) -> None:
            if not future.done():
                future.set_result(picture)

        def deliver(picture: Picture) -> None:
            with contextlib.suppress(RuntimeError):  # the server has ended meanwhile
                loop.call_soon_threadsafe(arrived, picture)

        ticket = self._pictures.ask(deliver)
        try:
            return await future
        finally:
            self._pictures.withdraw(ticket)

    async def _send(self, message: str | bytes) -> None:
        async with self._sending:
            if isinstance(message, str):
                await self._socket.send_text(message)
            else:
                await self._socket.send_bytes(message)

    def _status(self, waited_ms: float) -> dict[str, Any]:
        rows = self._board.rows(self._row, _ROWS)
        self._row = rows[-1][0] if rows else self._row
        events = self._board.events(self._event)
        self._event = events[-1][0] if events else self._event
        told = {"kind": "status", "waited_ms": round(waited_ms, 1), "rows": rows, "events": events}
        return {**told, **status(self._board)}


def about(board: Board) -> dict[str, Any]:
    """The first message: what does not change while the stream runs."""
    told = board.about
    return {
        "kind": "about",
        "version": __version__,
        "labels": told.labels,
        "thresholds": dict(told.thresholds),
        "bundle": told.bundle,
        "sha256": told.sha256,
        "precision": told.precision,
        "source": told.source,
        "mode": told.mode,
        "stale_after_ms": told.stale_after_ms,
        "limit_ms": told.limit_ms,
        "bucket_s": BUCKET_S,
        "history_s": HISTORY_S,
    }


def status(board: Board) -> dict[str, Any]:
    """How the stream stands, for the page. What is not current has no label and no probabilities at all."""
    now = board.now()
    drops, states = board.totals()
    return {
        "state": now.state,
        "reason": now.reason,
        "age_ms": None if math.isnan(now.age_ms) else round(now.age_ms, 1),
        "frame": now.result.frame_id if now.result is not None else None,
        "engine": now.result.engine if now.result is not None else "",
        "current": _current(now, now.result is not None and board.is_ours(now.result)),
        "drops": drops,
        "results": sum(states.values()),
        "statistics": board.statistics(),
        "bucket": board.bucket_now(),
    }


def _current(now: Now, is_ours: bool) -> dict[str, Any] | None:
    result = now.result
    if result is None or result.prediction is None or not now.current:
        return None
    prediction = result.prediction
    return {
        "label": prediction.label,
        "probability": round(prediction.probability, 4),
        "probabilities": [round(float(value), 4) for value in prediction.probabilities] if is_ours else None,
        "result_ms": round(result.age_ms, 2),
        "smoothed": _smoothed(result),
    }


def _smoothed(result: Result) -> dict[str, Any] | None:
    """What the stream's smoother says, where there is one: its label (None: uncertain) and probability."""
    smoothed = getattr(result, "smoothed", None)
    if smoothed is None:
        return None
    return {"label": smoothed.label, "probability": round(float(smoothed.probability), 4)}
