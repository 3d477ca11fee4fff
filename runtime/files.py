"""Files and folders that are either whole or not there."""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gensoup.runtime.errors import UsageError, WriteError

_SPACE, _PERMISSION = "; free some space there", "; check its permissions or name another folder"
_REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "; raise the limit on the size of files (ulimit -f)",
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EROFS: _PERMISSION,
    errno.ENOENT: "; name a folder that is there",
    errno.EISDIR: "; name a file",
    errno.ENOTDIR: "; a folder on the way to it is a file: name another place",
    errno.EEXIST: "; something else has that name: name another place",
    errno.ENAMETOOLONG: "; choose a shorter name",
}
# As atomic_path names them; SQLite writes a journal beside a database.
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp(-journal)?")


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path | None]) -> None:
    """Raise UsageError where a file to be written, by its option, is one of those that are read, another output or a
    folder, WriteError where it cannot be written: before the work, not after it."""
    taken = {path.resolve(): "is read by this command" for path in inputs if path is not None}
    for option, path in outputs.items():
        if path is None or _is_special(path):
            continue
        if os.path.isdir(path):  # noqa: PTH112  where its name is too long, pathlib raises
            raise UsageError(f"{option} {path}: is a folder; name a file")
        if reason := taken.get(path.resolve()):
            raise UsageError(f"{option} {path}: {reason} and would be lost; choose another file")
        taken[path.resolve()] = f"is {option}'s, too,"
        check_writable(path, option)


def check_writable(path: Path, option: str = "") -> None:
    """Raise WriteError where no file or folder could be made at ``path``. It is tried, for permissions do not tell all;
    nothing is left of it, and no folder on the way is made."""
    folder = path.parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    probe = folder / _beside(path).name
    try:
        os.close(os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        probe.unlink()
    except OSError as error:
        raise write_error(path, error, option) from error


def check_new_folder(path: Path) -> None:
    """Raise what :func:`atomic_folder` would, before the work: UsageError for a folder that is there and not empty,
    WriteError where none can be made."""
    _check_new(path)
    check_writable(path)


def _check_new(path: Path) -> None:
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise UsageError(f"{path}: exists already; name a new or empty folder")


def write_error(path: Path, error: OSError, option: str = "") -> WriteError:
    """The error that names ``path``, and the option that asked for it, what the system said and the way out."""
    name = f"{option} {path}" if option else str(path)
    return WriteError(f"{name}: cannot be written ({error.strerror or error}){_REMEDIES.get(error.errno or 0, '')}")


@contextmanager
def atomic_path(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed to disk and renamed to ``path``.

    mode: the file's permissions, before the process' mask takes its part away.
    On an exception the temporary file is removed and ``path`` keeps what it had.
    Raises WriteError, naming the file, when the folder cannot be written or the disk is full.
    """
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # With its permissions from the first instant on: reading the mask to set them later is no thread's own affair.
        os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode))
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield temporary
        rename_whole(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside ``path`` to fill; on success it is renamed to ``path``, else it is removed.

    Raises UsageError when ``path`` exists and is not an empty folder, WriteError when it cannot be written.
    """
    _check_new(path)
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield temporary
        if path.exists():
            path.rmdir()
        temporary.rename(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def rename_whole(temporary: Path, path: Path) -> None:
    """Flush a finished file to disk and give it its name, so that under that name it is whole. Raises WriteError."""
    try:
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error


def write_whole(file: io.FileIO, content: bytes) -> None:
    """Write all of ``content`` at the end of an unbuffered file or, raising OSError, nothing of it."""
    written = file.write(content)
    if written != len(content):  # the disk is full: take the half back
        file.truncate(file.tell() - written)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _is_special(path: Path) -> bool:
    """Whether it is there and neither file nor folder: a device or a pipe takes anything."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _beside(path: Path) -> Path:
    """A name that nothing has yet, by which :func:`is_temporary` knows it."""
    return path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"


def _sync_folder(folder: Path) -> None:
    """Flush a rename to disk, where the system lets folders be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, content: bytes | str, mode: int = 0o666) -> None:
    """Write ``content`` (text as UTF-8) to ``path`` so that a reader sees the old file or the new one, never half.

    mode: as for :func:`atomic_path`. What is no file, such as /dev/null, is written to and stays what it is.
    """
    data = content.encode() if isinstance(content, str) else content
    if _is_special(path):
        try:
            path.write_bytes(data)
        except OSError as error:
            raise write_error(path, error) from error
        return
    with atomic_path(path, mode) as temporary:
        temporary.write_bytes(data)


def is_temporary(path: Path) -> bool:
    """Whether a file is by its name one that :func:`atomic_path` had not finished."""
    return _TEMPORARY.fullmatch(path.name) is not None


def remove_temporaries(folder: Path) -> None:
    """Remove what killed processes left of :func:`atomic_path` anywhere under ``folder``; nobody may be writing there.

    Raises WriteError when the folder cannot be written.
    """
    for path in [path for path in folder.rglob(".*") if is_temporary(path)]:
        try:
            path.unlink()
        except OSError as error:
            raise write_error(path, error) from error
