"""What others may have written is never read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gensoup.runtime.errors import WriteError
from gensoup.runtime.private_cache import cache_root, distrust, read_owned, read_private, write_private


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gensoup"


def test_what_is_written_is_read_back_from_folders_of_this_user_alone(root: Path) -> None:
    path = root / "a" / "b" / "file"
    write_private(path, b"content")
    assert cache_root() == root
    assert read_private(path) == b"content"
    assert [folder.stat().st_mode & 0o777 for folder in (root, root / "a", root / "a" / "b")] == [0o700] * 3
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("mask", [0, 0o002, 0o022, 0o077])
def test_what_is_written_is_read_back_under_any_mask(root: Path, mask: int) -> None:
    """Ubuntu's own mask, 002, lets a user's group write what it makes."""
    before = os.umask(mask)
    try:
        write_private(root / "a" / "file", b"content")
    finally:
        os.umask(before)
    assert (root / "a" / "file").stat().st_mode & 0o777 == 0o600
    assert read_private(root / "a" / "file") == b"content"


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o720])
@pytest.mark.parametrize("part", ["", "a", "a/b"])
def test_a_folder_that_others_can_write_is_neither_read_nor_written(root: Path, part: str, mode: int) -> None:
    path = root / "a" / "b" / "file"
    write_private(path, b"content")
    (root / part).chmod(mode)
    assert read_private(path) is None
    with pytest.raises(WriteError, match=r"can be written by others: move it away, or name another.*XDG_CACHE_HOME"):
        write_private(path, b"other")
    (root / part).chmod(0o700)
    assert read_private(path) == b"content"


def test_a_file_that_others_can_write_is_not_read(root: Path) -> None:
    write_private(root / "file", b"content")
    (root / "file").chmod(0o666)
    assert read_private(root / "file") is None


def test_links_are_not_followed(root: Path, tmp_path: Path) -> None:
    write_private(root / "file", b"content")
    (root / "link").symlink_to(root / "file")
    assert read_private(root / "link") is None
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "elsewhere" / "file").write_bytes(b"content")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    assert read_private(root / "folder" / "file") is None
    assert "no folder of its own" in str(distrust(root / "folder"))


def test_pipes_and_folders_are_no_files(root: Path) -> None:
    write_private(root / "file", b"content")
    os.mkfifo(root / "pipe")
    assert read_private(root / "pipe") is None
    assert read_owned(root) is None
    assert read_private(root / "nothing") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_another_user_is_not_read(root: Path) -> None:
    write_private(root / "a" / "file", b"content")
    os.chown(root / "a" / "file", 12345, -1)
    assert read_private(root / "a" / "file") is None
    os.chown(root / "a" / "file", os.geteuid(), -1)
    os.chown(root / "a", 12345, -1)
    assert read_private(root / "a" / "file") is None


def test_nothing_outside_the_cache_is_trusted(root: Path, tmp_path: Path) -> None:
    write_private(root / "file", b"content")
    (tmp_path / "file").write_bytes(b"content")
    assert read_private(tmp_path / "file") is None


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(WriteError) as caught:
        write_private(cache_root() / "x" / "file", b"content")
    assert "\n" not in str(caught.value)


def test_a_relative_place_is_ignored_as_the_standard_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert cache_root() == Path.home() / ".cache" / "gensoup"
