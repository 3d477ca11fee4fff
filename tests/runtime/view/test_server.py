"""Over real sockets: what a browser, a load balancer, Prometheus and an attacker get to see."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from gensoup.runtime import Result
from gensoup.runtime.view import About, View, parse_address

Make = Callable[..., Result]


@pytest.fixture
def guarded(about: About) -> Iterator[View]:
    """A view for other machines too, so with a token."""
    with View(parse_address("0.0.0.0:0"), about) as view:
        yield view


# One client for all: each makes a TLS context, which takes longer than everything else here.
_client = httpx.Client(trust_env=False)
get = _client.get


def base(view: View) -> str:
    return f"http://127.0.0.1:{view.address.port}"


def open_socket(view: View, **options: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{view.address.port}/live", proxy=None, **options)


def next_of(socket: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        message = json.loads(socket.recv(5))
        if message["kind"] == kind:
            return dict(message)


# Page


def test_the_page_needs_nothing_from_elsewhere(view: View) -> None:
    page = get(view.url)
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {"view.css", "view.js", "icon.svg"} <= set(linked)
    scripts = get(f"{base(view)}/view.js").text
    linked += [name.removeprefix("./") for name in re.findall(r'from "([^"]+)"', scripts)]
    for name in linked:
        answer = get(f"{base(view)}/{name}")
        assert answer.status_code == 200, name
        assert not re.search(r"https?://(?!www\.w3\.org/)", answer.text), name
    assert get(f"{base(view)}/docs").status_code == get(f"{base(view)}/openapi.json").status_code == 404


def test_headers_that_guard_the_page(view: View) -> None:
    headers = get(view.url).headers
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


# Health and metrics


def test_health_is_that_of_the_newest_result(view: View, make_result: Make) -> None:
    def health() -> tuple[int, dict[str, Any]]:
        answer = get(f"{base(view)}/healthz")
        return answer.status_code, answer.json()

    assert health() == (503, {"state": "WAITING", "reason": "no frame has been classified yet", "frame": None})
    view.add(make_result(7, time.monotonic() + 5))  # from the future: fresh for as long as this test takes
    assert health() == (200, {"state": "OK", "reason": "", "frame": 7})
    view.add(make_result(8, time.monotonic() + 5, 40))
    assert health()[0] == 200 and health()[1]["state"] == "LATE"
    view.add(make_result(9, time.monotonic(), error="engine lost"))
    assert health() == (503, {"state": "FAILED", "reason": "engine lost", "frame": 9})
    view.add(make_result(10, time.monotonic() - 3))
    code, told = health()
    assert code == 503 and told["state"] == "STALE" and re.search(r"\d s old", told["reason"])


def test_metrics_are_prometheus_own_format_and_add_up(view: View, make_result: Make) -> None:
    for frame_id, took_ms in enumerate([3, 5, 18, 300]):
        view.add(make_result(frame_id, time.monotonic() - took_ms / 1e3, took_ms, winner=frame_id % 2, drops=6))
    view.add(make_result(4, time.monotonic(), error="gone", drops=6))
    answer = get(f"{base(view)}/metrics")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples[("gensoup_latency_seconds_count",)] == 4
    assert samples[("gensoup_latency_seconds_sum",)] == pytest.approx(0.326)
    assert samples[("gensoup_age_seconds_bucket", "0.015625")] == 2
    assert samples[("gensoup_age_seconds_bucket", "+Inf")] == 4
    assert samples[("gensoup_drops_total",)] == 6
    assert samples[("gensoup_results_total", "OK")] == 2
    assert samples[("gensoup_results_total", "LATE")] == 2
    assert samples[("gensoup_results_total", "FAILED")] == 1
    assert samples[("gensoup_labels_total", "normal")] == 2
    assert samples[("gensoup_labels_total", "ulcer")] == 0
    assert samples[("gensoup_state", "FAILED")] == 1 and samples[("gensoup_state", "OK")] == 0
    assert samples[("gensoup_limit_seconds",)] == 1 / 64
    assert math.isfinite(samples[("gensoup_newest_age_seconds",)])
    assert samples[("gensoup_fps",)] > 0
    assert any(name == "gensoup_engine_info" and "onnxruntime-cpu" in labels for name, *labels in samples)


# The WebSocket


def test_a_status_comes_when_asked_for_and_not_else(view: View, make_result: Make) -> None:
    view.add(make_result(0, time.monotonic() + 5, winner=1))
    with open_socket(view) as socket:
        told = next_of(socket, "about")
        assert told["labels"] == ["normal", "polyp", "ulcer"] and told["bundle"] == "colon.gensoup"
        assert told["thresholds"] == {"polyp": 0.6} and told["limit_ms"] == 15.625
        with pytest.raises(TimeoutError):
            socket.recv(0.3)
        socket.send("s")
        status = next_of(socket, "status")
        assert status["state"] == "OK" and status["current"]["label"] == "polyp"
        assert status["current"]["probabilities"] == pytest.approx([0.1, 0.8, 0.1], abs=1e-3)
        assert [event[2] for event in status["events"]] == ["first result, from onnxruntime-cpu"]
        socket.send("s")
        assert next_of(socket, "status")["events"] == []


def test_what_is_not_current_has_no_label_on_the_wire(view: View, make_result: Make) -> None:
    view.add(make_result(0, time.monotonic() - 1, winner=1))
    with open_socket(view) as socket:
        socket.send("s")
        status = next_of(socket, "status")
        assert (status["state"], status["current"]) == ("STALE", None)


def test_what_smoothing_says_is_told_too(view: View, make_result: Make) -> None:
    result = make_result(0, time.monotonic() + 5, winner=1)
    object.__setattr__(result, "smoothed", SimpleNamespace(label=None, probability=0.43))  # None: uncertain
    view.add(result)
    with open_socket(view) as socket:
        socket.send("s")
        current = next_of(socket, "status")["current"]
        assert current["label"] == "polyp" and current["smoothed"] == {"label": None, "probability": 0.43}


def test_after_a_swap_pages_get_the_new_labels(view: View, make_result: Make, about: About) -> None:
    with open_socket(view) as socket:
        assert next_of(socket, "about")["labels"] == ["normal", "polyp", "ulcer"]
        view.add(replace(make_result(0, time.monotonic() + 5), bundle="cd" * 32))
        socket.send("s")
        current = next_of(socket, "status")["current"]
        assert current["label"] == "normal" and current["probabilities"] is None
        view.describe(replace(about, labels=("normal", "ileum", "caecum"), bundle="new.gensoup", sha256="cd" * 32))
        socket.send("s")
        told = json.loads(socket.recv(5))
        assert (told["kind"], told["labels"]) == ("about", ["normal", "ileum", "caecum"])
        status = next_of(socket, "status")
        assert status["current"]["probabilities"] == pytest.approx([0.8, 0.1, 0.1], abs=1e-3)
        assert [event[2] for event in status["events"]][-1] == "bundle: new.gensoup"
        assert status["rows"] == [] or status["rows"][0][0] == 0  # told from the beginning on
    assert 'sha256="' + "cd" * 32 in get(f"{base(view)}/metrics").text


def test_nonsense_from_the_other_side_harms_nobody(view: View, make_result: Make) -> None:
    view.add(make_result(0, time.monotonic() + 5))
    with open_socket(view) as good:
        for nonsense in ("", "x", "[]", b"\x00", "p" * 5000):
            with open_socket(view) as bad, pytest.raises((ConnectionClosed, TimeoutError)):
                bad.send(nonsense)
                bad.send("-p")
                while True:
                    bad.recv(0.3)
        good.send("s")
        assert next_of(good, "status")["state"] == "OK"


def test_more_browsers_than_eight_are_sent_away(view: View) -> None:
    with ExitStack() as stack:
        for _ in range(7):
            next_of(stack.enter_context(open_socket(view)), "about")
        with open_socket(view) as eighth:
            next_of(eighth, "about")
            with open_socket(view) as ninth, pytest.raises(ConnectionClosed) as told:
                ninth.recv(5)
            assert told.value.rcvd is not None and told.value.rcvd.code == 1013
        time.sleep(0.3)
        with open_socket(view) as again:
            next_of(again, "about")


def test_the_end_is_told_and_takes_less_than_two_seconds(about: About) -> None:
    view = View(parse_address("0"), about)
    with open_socket(view) as socket:
        next_of(socket, "about")
        began = time.monotonic()
        view.close("unplugged")
        assert time.monotonic() - began < 2
        status = next_of(socket, "status")
        assert (status["state"], status["reason"]) == ("ENDED", "unplugged")
        with pytest.raises(ConnectionClosed):
            socket.recv(5)
    with pytest.raises(httpx.ConnectError):
        get(f"{base(view)}/healthz")


# Who may look


def test_the_token_opens_the_page_once_and_the_cookie_from_then_on(guarded: View) -> None:
    assert guarded.token is not None and guarded.url.endswith(f"/?token={guarded.token}")
    with httpx.Client(base_url=base(guarded), trust_env=False) as client:
        answer = client.get(f"/?token={guarded.token}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=lax" in cookie
        assert client.get("/").status_code == 200  # the address bar holds no token any more
        assert client.get("/healthz").status_code == 503
        sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}
    with open_socket(guarded, additional_headers=sent) as socket:
        next_of(socket, "about")
    with open_socket(guarded, additional_headers={"Authorization": f"Bearer {guarded.token}"}) as socket:
        next_of(socket, "about")


@pytest.mark.parametrize("path", ["/", "/view.js", "/healthz", "/metrics", "/no-such-page"])
def test_without_the_token_nothing_is_given(guarded: View, path: str) -> None:
    url = base(guarded) + path
    assert guarded.token is not None
    assert get(url).status_code == 401
    for wrong in ("x", guarded.token[:-1], guarded.token + "x", "é"):
        assert get(url, params={"token": wrong}).status_code == 403
    assert get(url, headers={"Authorization": "Bearer wrong"}).status_code == 403
    assert get(url, headers={"Cookie": f"gensoup_view_{guarded.address.port}=wrong"}).status_code == 403
    assert get(url, headers={"Cookie": "\x01=;;="}).status_code == 401


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Cookie": "gensoup_view=x"}])
def test_without_the_token_no_websocket_is_opened(guarded: View, headers: dict[str, str]) -> None:
    with pytest.raises(InvalidStatus) as refused:
        open_socket(guarded, additional_headers=headers)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[x"])
def test_a_name_that_was_pointed_here_is_refused(view: View, host: str) -> None:
    for path in ("/", "/healthz", "/metrics"):
        assert get(base(view) + path, headers={"Host": host}).status_code in (400, 403)


def test_addresses_and_names_of_this_machine_are_let_in(view: View) -> None:
    for host in (f"localhost:{view.address.port}", "127.0.0.1", "[::1]:9", "10.1.2.3:80"):
        assert get(view.url, headers={"Host": host}).status_code == 200


def test_a_page_of_another_origin_gets_no_websocket(view: View) -> None:
    for origin in ("http://evil.example", f"http://127.0.0.1:{view.address.port + 1}", "null", "http://[", "é"):
        with pytest.raises(InvalidStatus) as refused:
            open_socket(view, additional_headers={"Origin": origin})
        assert refused.value.response.status_code == 403
    with open_socket(view, additional_headers={"Origin": base(view)}) as socket:
        next_of(socket, "about")
