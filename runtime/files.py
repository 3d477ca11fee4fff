"""Files and folders that are either whole or not there."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
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
}
# As atomic_path names them; SQLite writes a journal beside a database.
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp(-journal)?")


def write_error(path: Path, error: OSError) -> WriteError:
    """The error that names ``path``, what the system said and the way out."""
    return WriteError(f"{path}: cannot be written ({error.strerror or error}){_REMEDIES.get(error.errno or 0, '')}")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed to disk and renamed to ``path``.

    On an exception the temporary file is removed and ``path`` keeps what it had.
    Raises WriteError, naming the file, when the folder cannot be written or the disk is full.
    """
    temporary = Path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(descriptor)
        temporary = Path(name)
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside ``path`` to fill; on success it is renamed to ``path``, else it is removed.

    Raises UsageError when ``path`` exists and is not an empty folder, WriteError when it cannot be written.
    """
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise UsageError(f"{path}: exists already; name a new or empty folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            path.rmdir()
        temporary.rename(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    """The process' mask; the only portable way to read it is to set it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Flush a rename to disk, where the system lets folders be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write ``content`` (text as UTF-8) to ``path`` so that a reader sees the old file or the new one, never half."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


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
