"""``gensoup data cache``, and where training keeps decoded images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gensoup.bench.dataset import LabelledFolder
from gensoup.cli import app
from gensoup.runtime.errors import DataError, UsageError, WriteError
from gensoup.runtime.preprocess import Preprocess
from gensoup.train.cache_cli import check_cache_options, opened_cache
from gensoup.train.image_cache import ImageCache
from gensoup.train.images import ImageStore


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return ImageCache(tmp_path / "cache")


@pytest.fixture
def store(cache: ImageCache, make_shapes: Callable[..., Path], tmp_path: Path) -> ImageStore:
    folder = LabelledFolder.open(make_shapes(tmp_path / "data [old]", per_class=4, labels=("a", "b")))
    return cache.decoded(folder, [Preprocess(32)], False, lambda *call: None)


def command(cache: ImageCache, *options: str) -> str:
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["data", "cache", "--dir", str(cache.folder), *options])
    assert done.exit_code == 0
    return done.output


def test_it_lists_and_clears(cache: ImageCache, store: ImageStore, tmp_path: Path) -> None:
    listed = command(cache, "--json", str(tmp_path / "list.json"))
    assert str(tmp_path / "data [old]") in listed and " 8 " in listed
    assert json.loads((tmp_path / "list.json").read_text())[0]["data"] == str(tmp_path / "data [old]")
    assert "0 removed" in (told := command(cache, "--clear")) and "1 in use stays" in told


def test_it_clears_what_is_ours_alone(cache: ImageCache, make_shapes: Callable[..., Path], tmp_path: Path) -> None:
    folder = LabelledFolder.open(make_shapes(tmp_path / "data", per_class=4, labels=("a", "b")))
    cache.decoded(folder, [Preprocess(32)], False, lambda *call: None)
    foreign = cache.folder / ("0" * 32)  # named as ours are, which are named as many programs' are
    foreign.mkdir()
    (foreign / "thesis.tex").touch()
    (cache.folder / "notes.txt").touch()
    told = command(cache, "--clear")
    assert "1 removed" in told and "in use" not in told and cache.entries() == []
    assert sorted(path.name for path in cache.folder.iterdir()) == [foreign.name, "notes.txt"]
    assert (foreign / "thesis.tex").exists() and "nothing is kept" in command(cache)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: cannot be read"):
        ImageCache(tmp_path / "file").entries()
    assert ImageCache(tmp_path / "none").entries() == []


@pytest.mark.parametrize(
    ("cache", "no_cache", "told"),
    [
        ("cache", True, "--no-cache exclude"),
        ("data/cache", False, "lies in the dataset folder"),
        ("run/cache", False, "lies in the run folder"),
    ],
)
def test_a_place_that_cannot_be_meant_is_refused(tmp_path: Path, cache: str, no_cache: bool, told: str) -> None:
    with pytest.raises(UsageError, match=f"--cache .*{told}"):
        check_cache_options(tmp_path / cache, no_cache, tmp_path / "data", tmp_path / "run")
    check_cache_options(tmp_path / "cache", False, tmp_path / "data", tmp_path / "run")
    check_cache_options(None, True, tmp_path / "data", tmp_path / "run")


def test_a_home_that_cannot_be_written_costs_the_cache_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert opened_cache(None, 20.0, False, told.append) == ImageCache() and told == []
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # where nobody, root neither, can make a folder
    assert opened_cache(None, 20.0, False, told.append) is None
    assert len(told) == 1 and told[0].startswith("decoded images are not kept for later runs: ")
    with pytest.raises(WriteError, match=r"^--cache .*file/cache: cannot be written"):
        opened_cache(tmp_path / "file" / "cache", 20.0, False, told.append)
    assert opened_cache(None, 20.0, True, told.append) is None and len(told) == 1
