from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gensoup.runtime.file_lock import flock, lock, opened, still_there

unix = pytest.mark.skipif(sys.platform == "win32", reason="no locks of this kind there")


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Callable[[], int]]:
    """Opens the same lock file, each time as another process would."""
    descriptors = []

    def another() -> int:
        descriptors.append(opened(tmp_path / "a.lock"))
        return descriptors[-1]

    yield another
    for descriptor in descriptors:
        os.close(descriptor)


@unix
def test_one_alone_has_it_or_several_share_it(several: Callable[[], int]) -> None:
    one, other = several(), several()
    assert flock(one) and not flock(other) and not flock(other, shared=True)
    assert flock(one, shared=True) and flock(other, shared=True) and not flock(one)
    assert flock(other)  # one's share was lost when it asked for more
    assert not flock(one, shared=True)


@unix
def test_what_was_removed_meanwhile_is_not_locked(several: Callable[[], int], tmp_path: Path) -> None:
    first, path = several(), tmp_path / "a.lock"
    assert lock(first, path) and still_there(path, first)
    path.unlink()
    assert not lock(first, path) and lock(first)
    second = several()
    assert lock(second, path) and not still_there(path, first)


@unix
@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EPERM])
def test_where_nothing_can_be_locked(several: Callable[[], int], monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    answer_all(monkeypatch, error)
    assert lock(several())
    with pytest.raises(OSError, match=os.strerror(error)):
        flock(several())


@unix
def test_network_file_systems_say_otherwise_that_another_has_it(
    several: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_all(monkeypatch, errno.EACCES)
    assert not flock(several()) and not lock(several())
    with pytest.raises(PermissionError):
        flock(several(), wait=True)


def test_on_a_system_without_locks(several: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert lock(several())
    with pytest.raises(ModuleNotFoundError):
        flock(several())


def answer_all(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def never(descriptor: int, operation: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("fcntl.flock", never)


@unix
def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "b.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        opened(tmp_path / "b.lock")
    assert not (tmp_path / "elsewhere").exists()
