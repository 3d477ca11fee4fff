from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gensoup.runtime.file_lock import flock, lock, opened, still_there, unlock

fcntl = pytest.importorskip("fcntl")


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


def test_one_alone_has_it_or_several_share_it(several: Callable[[], int]) -> None:
    one, other = several(), several()
    assert flock(one) and not flock(other) and not flock(other, shared=True)
    assert flock(one, shared=True) and flock(other, shared=True) and not flock(one)
    unlock(other)
    assert flock(one)


def test_what_was_removed_meanwhile_is_not_locked(several: Callable[[], int], tmp_path: Path) -> None:
    first, path = several(), tmp_path / "a.lock"
    assert lock(first, path) and still_there(path, first)
    path.unlink()
    assert not lock(first, path) and lock(first)
    second = several()
    assert lock(second, path) and not still_there(path, first)


@pytest.mark.parametrize(("error", "done"), [(errno.ENOLCK, True), (errno.EACCES, False)])
def test_where_nothing_can_be_locked(
    several: Callable[[], int], monkeypatch: pytest.MonkeyPatch, error: int, done: bool
) -> None:
    def never(descriptor: int, operation: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", never)
    assert lock(several()) is done
    with pytest.raises(OSError, match=os.strerror(error)):
        flock(several())


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "b.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        opened(tmp_path / "b.lock")
    assert not (tmp_path / "elsewhere").exists()
