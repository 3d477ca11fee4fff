"""Who may see the live view: checked before any request or WebSocket reaches the application."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

_REFUSED = 1008  # WebSocket: policy violation; before the handshake it is answered with HTTP 403
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",  # images of patients
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",  # the token stands in the first URL
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Access:
    """ASGI middleware that lets in whom it should, and adds the headers that a browser needs to guard the page.

    Host: must be an IP address, ``localhost``, ``host`` or this machine's name. A page of someone else's whose name was
        pointed at this machine afterwards (DNS rebinding) comes with its own name, and is refused.
    Origin: a WebSocket that a page of another origin opens is refused, for browsers let any page open one.
    token: None lets everybody in. Else it must come as ``?token=`` (the page answers with a cookie and the address
        without it), as that cookie, or as ``Authorization: Bearer``. 401 without one, 403 with a wrong one.
    """

    def __init__(self, app: ASGIApp, host: str, token: str | None, cookie: str) -> None:
        """cookie: the cookie's name; it should hold the port, since cookies are shared by all ports of a host."""
        self._app = app
        self._hosts = {"localhost", host.lower(), socket.gethostname().lower()}
        self._token = token
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        answer = self._answer(scope)
        if answer is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "http":
            await answer(scope, receive, _with_headers(send))
        else:
            await WebSocketClose(_REFUSED, "refused")(scope, receive, send)

    def _answer(self, scope: Scope) -> Response | None:
        """What to answer instead of the application; None: let it through."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._known(host):
            told = "this host name is not one of the live view's: open it by IP address, or by the name given to --view"
            return PlainTextResponse(f"{told}\n", 403)
        if scope["type"] == "websocket" and not _same_origin(headers.get("origin"), host):
            return PlainTextResponse("another origin\n", 403)
        if self._token is None:
            return None
        from_url = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        offered = [one for one in (from_url, self._bearer(headers), self._from_cookie(headers)) if one]
        if not any(map(self._matches, offered)):
            status = 403 if offered else 401
            hint = "open the address, token included, that gensoup run --view printed"
            return PlainTextResponse(f"{hint}\n", status, {"www-authenticate": "Bearer"} if status == 401 else None)
        if from_url and self._matches(from_url) and scope["path"] == "/" and scope["type"] == "http":
            # Lax, not Strict: a browser would not send a strict one on this redirect when the link came by mail.
            to_page = RedirectResponse("/", 303)
            to_page.set_cookie(self._cookie, self._token, httponly=True, samesite="lax")
            return to_page
        return None

    def _known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)  # nobody's name system can point an address elsewhere
        except ValueError:
            return False
        return True

    def _bearer(self, headers: Headers) -> str:
        kind, _, value = headers.get("authorization", "").partition(" ")
        return value.strip() if kind.lower() == "bearer" else ""

    def _from_cookie(self, headers: Headers) -> str:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return ""
        return found.value if found is not None else ""

    def _matches(self, offered: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(offered.encode(), self._token.encode())  # in constant time


def _same_origin(origin: str | None, host: str) -> bool:
    """Whether a page of ``origin`` belongs to ``host``; None: no page asks, for browsers always tell."""
    try:
        return origin is None or urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:  # no URL at all
        return False


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return sending
