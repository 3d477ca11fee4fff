"""Atomic files: the old content or the new, never half, and nothing left behind."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gensoup.runtime.errors import GenSoupError, UsageError, WriteError
from gensoup.runtime.files import (
    atomic_folder,
    atomic_path,
    check_outputs,
    is_temporary,
    remove_temporaries,
    write_atomic,
    write_error,
)


def test_writes_bytes_and_text_into_new_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "Übersicht.json"
    write_atomic(path, "schön\n")
    assert path.read_bytes() == "schön\n".encode()
    write_atomic(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208  hidden files count


def test_what_is_read_is_never_written_over(tmp_path: Path) -> None:
    bundle, other, link = tmp_path / "a.gensoup", tmp_path / "out.json", tmp_path / "link"
    bundle.touch()
    link.symlink_to(bundle)
    check_outputs({"--json": other, "--video": None}, (bundle, None))
    for one in (bundle, link, tmp_path / "." / "a.gensoup"):
        with pytest.raises(UsageError, match=r"^--json .* is read by this command and would be lost; choose another"):
            check_outputs({"--json": one}, (bundle,))
    with pytest.raises(UsageError, match=r"^--trace .*: is --json's, too, and would be lost"):
        check_outputs({"--json": other, "--trace": other}, (bundle,))
    check_outputs({"--json": Path(os.devnull), "--trace": Path(os.devnull)}, (bundle,))


def test_what_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=rf"^--json {tmp_path}: is a folder; name a file$"):
        check_outputs({"--json": tmp_path}, ())
    for bad, why in (("file/x.json", "Not a directory"), ("n" * 300, "name too long"), ("file/a/b", "Not a directory")):
        with pytest.raises(WriteError, match=rf"^--json {tmp_path / bad}: cannot be written \(.*{why}\); "):
            check_outputs({"--json": tmp_path / bad}, ())
    check_outputs({"--json": tmp_path / "new" / "folder" / "x.json"}, ())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomic(pipe, "x")
    assert os.read(reader, 9) == b"x" and pipe.is_fifo()
    os.close(reader)


def test_a_failure_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half of the ne")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_of_a_new_file_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "file"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_stands_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent  # a rename is atomic inside one file system alone
    assert path.read_text() == "new"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_mask_says_who_may_read_the_file(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write_atomic(tmp_path / "file", "x")
        write_atomic(tmp_path / "secret", "x", 0o600)
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "secret", "folder")]
    assert modes == [mode, 0o600, 0o777 & ~mask]


def test_the_mask_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be read only by setting it, which takes it from every other thread meanwhile."""

    def touched(mask: int) -> int:
        raise AssertionError("the mask is all threads'")

    monkeypatch.setattr(os, "umask", touched)
    write_atomic(tmp_path / "file", "x")
    with atomic_folder(tmp_path / "folder"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(GenSoupError) as caught:
        write_atomic(tmp_path / "file" / "below", "x")
    assert str(tmp_path / "file" / "below") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_in_the_files_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(GenSoupError, match=r"taken: cannot be written"):
        write_atomic(tmp_path / "taken", "x")
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX's")
def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    try:
        (folder / "probe").write_text("")
    except PermissionError:
        pass
    else:
        folder.chmod(0o700)
        folder = Path("/proc/self/locked")  # the superuser may write anywhere but here
        if not folder.parent.exists():
            pytest.skip("this user may write everywhere")
    with pytest.raises(GenSoupError, match="cannot be written"):
        write_atomic(folder / "file", "x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(GenSoupError, match=r"file: cannot be written \(No space left on device\)"),
        atomic_path(tmp_path / "file"),
        Path("/dev/full").open("w") as full,
    ):
        full.write("x" * 100_000)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_when_it_is_filled(tmp_path: Path) -> None:
    path = tmp_path / "a" / "folder"
    with atomic_folder(path) as temporary:
        (temporary / "x").write_text("x")
        assert not path.exists()
    assert [entry.name for entry in path.parent.iterdir()] == ["folder"]
    mask = os.umask(0)
    os.umask(mask)
    assert (path / "x").read_text() == "x" and stat.S_IMODE(path.stat().st_mode) == 0o777 & ~mask
    (tmp_path / "empty").mkdir()
    with atomic_folder(tmp_path / "empty") as temporary:
        (temporary / "y").touch()
    assert (tmp_path / "empty" / "y").exists()


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "x").touch()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("full", "file", "link"):
        with pytest.raises(UsageError, match=f"{name}: exists already"), atomic_folder(tmp_path / name):
            pytest.fail("must not be entered")
    assert (tmp_path / "full" / "mine").exists() and len(list(tmp_path.iterdir())) == 3
    with pytest.raises(GenSoupError, match="inner: cannot be written"), atomic_folder(tmp_path / "file" / "inner"):
        pytest.fail("must not be entered")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space there"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "check its permissions or name another folder"),
        (errno.EIO, "(Input/output error)"),
    ],
)
def test_an_error_of_writing_names_the_way_out(number: int, remedy: str) -> None:
    error = write_error(Path("a/b"), OSError(number, os.strerror(number)))
    assert isinstance(error, WriteError) and str(error).startswith("a/b: cannot be written (")
    assert str(error).endswith(remedy) or remedy in str(error)


def test_what_a_killed_process_left_is_known_and_removed(tmp_path: Path) -> None:
    """A real process that kills itself while it writes."""
    program = f"""
import os, signal
from pathlib import Path
from gensoup.runtime.files import atomic_path
with atomic_path(Path({str(tmp_path / "deep" / "file.json")!r})) as temporary:
    temporary.write_text("half")
    Path(f"{{temporary}}-journal").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL
    kept = [tmp_path / "deep" / name for name in (".hidden", ".notes.tmp", "file.json.tmp", "x.abcdefgh.tmp")]
    for path in kept:
        path.touch()
    left = {path for path in (tmp_path / "deep").iterdir() if is_temporary(path)}
    assert len(left) == 2 and not left & set(kept)
    remove_temporaries(tmp_path)
    assert sorted((tmp_path / "deep").iterdir()) == sorted(kept)
