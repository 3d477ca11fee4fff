"""A live view of one stream in the browser: a page, ``/healthz`` and ``/metrics``, served from this process' threads::

with View(parse_address("8064"), About(classifier.labels, "polyp.gensoup", "camera 0")) as view:
    print(view.url)
    with Stream(classifier, on_result=view.add) as stream:
        for number, frame in enumerate(frames):
            view.expect(number, frame)
            stream.push(frame)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gensoup.runtime.view.address import Address, parse_address

if TYPE_CHECKING:
    from gensoup.runtime.view.board import About
    from gensoup.runtime.view.view import View

__all__ = ["About", "Address", "View", "parse_address"]


def __getattr__(name: str) -> Any:
    """Load the rest on first use: the command line needs the address alone."""
    from importlib import import_module

    if name == "View":
        return import_module("gensoup.runtime.view.view").View
    if name == "About":
        return import_module("gensoup.runtime.view.board").About
    raise AttributeError(f"module 'gensoup.runtime.view' has no attribute '{name}'")
