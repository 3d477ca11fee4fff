"""Pages where their libraries are missing: said before anything is measured."""

from __future__ import annotations

import sys

import pytest

from gensoup.bench.bench_outputs import BenchOutputs
from gensoup.bench.page import check_pages
from gensoup.runtime.errors import MissingDependencyError


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_a_missing_library_names_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_pages()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"'{package}' is not installed: pip install 'gensoup\[report\]'"):
        BenchOutputs(html=sys.executable).check()  # type: ignore[arg-type]
    BenchOutputs().check()
