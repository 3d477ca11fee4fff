"""Files that this user alone may have written: what is read from here is loaded as code or believed unmeasured.

They lie under ``$XDG_CACHE_HOME/gensoup`` (``~/.cache/gensoup``), in folders of mode 0700. A folder or file that
belongs to another user, is a link, or can be written by others is never read.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gensoup.runtime.errors import WriteError
from gensoup.runtime.files import write_atomic, write_error

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_root() -> Path:
    """The folder of this user's caches; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "gensoup"


def read_private(path: Path) -> bytes | None:
    """The content of a file under :func:`cache_root`; None where it is missing, unreadable or not to be trusted."""
    if distrust(path.parent) is not None:
        return None
    return read_owned(path)


def read_owned(path: Path) -> bytes | None:
    """The content of a regular file of this user (or root) that nobody else may write; None for any other."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or not _is_ours(status):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        try:
            return file.read()
        except OSError:
            return None


def write_private(path: Path, content: bytes | str) -> None:
    """Write a file under :func:`cache_root` atomically, for this user alone.

    Raises WriteError when its folder cannot be made or is not to be trusted.
    """
    make_private(path.parent)
    write_atomic(path, content, 0o600)  # a mask of 002, as Ubuntu has it, would let the group write, and nobody read


def make_private(folder: Path) -> None:
    """Make ``folder``, which lies at or under :func:`cache_root`, with mode 0700 all the way down from there.

    Raises WriteError when it cannot be made, or when what is there already is not to be trusted.
    """
    root = cache_root()
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        for part in (root, *reversed([path for path in (folder, *folder.parents) if root in path.parents])):
            part.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    if (reason := distrust(folder)) is not None:
        raise WriteError(f"{reason}: move it away, or name another place in XDG_CACHE_HOME")


def distrust(folder: Path) -> str | None:
    """Why nothing under ``folder`` may be read, from :func:`cache_root` down to it; None when it may."""
    root = cache_root()
    for part in (folder, *folder.parents):
        try:
            status = part.lstat()
        except OSError as error:
            return f"{part} cannot be read ({error.strerror})"
        if not stat.S_ISDIR(status.st_mode):
            return f"{part} is no folder of its own"
        if not _is_ours(status):
            return f"{part} belongs to another user or can be written by others"
        if part == root:
            return None
    return f"{folder} does not lie in {root}"


def _is_ours(status: os.stat_result) -> bool:
    """Whether this user (or root) owns it and nobody else may write it; where users have no numbers, always."""
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & _OTHERS_WRITE
