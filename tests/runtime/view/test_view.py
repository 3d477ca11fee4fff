from __future__ import annotations

import sys
import threading

import pytest

from gensoup.runtime.errors import GenSoupError, MissingDependencyError
from gensoup.runtime.view import About, View, parse_address


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("gensoup-view")]


def test_no_thread_is_left(about: About) -> None:
    with View(parse_address("0"), about) as view:
        assert sorted(ours()) == ["gensoup-view", "gensoup-view-pictures"]
        assert view.token is None and view.url == f"http://127.0.0.1:{view.address.port}/"
    assert ours() == []
    view.close()  # once more harms nothing


def test_a_taken_port_leaves_nothing_behind(about: About) -> None:
    with View(parse_address("0"), about) as view:
        with pytest.raises(GenSoupError, match="give another port"):
            View(view.address, about)
        assert len(ours()) == 2


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "prometheus_client", "websockets"])
def test_without_the_extra_the_error_names_it(package: str, about: About, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"^'{package}' is not installed: pip install 'gensoup\[view\]'$"):
        View(parse_address("0"), about)
    assert ours() == []
