"""Locks between processes, on files and folders; a killed process holds none."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def opened(path: Path) -> int:
    """The descriptor of a lock file, made where it is missing, for this user alone.

    To write, for network file systems lock nothing else exclusively. Raises OSError, also where a link stands there.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)


def lock(descriptor: int, path: Path | None = None, *, shared: bool = False) -> bool:
    """As :func:`flock`, without waiting, for what is only safer with a lock: where nothing can be locked, always True.

    path: what was opened; False also where that has been removed meanwhile.
    """
    try:
        if not flock(descriptor, shared=shared):
            return False
    except (ModuleNotFoundError, OSError):
        return True
    return path is None or still_there(path, descriptor)


def flock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock what was opened, until it is closed; ``shared``: together with others.

    False where another process has it and it is not to be waited for. What this descriptor had before is given up
    first, so that it is lost then too, and others may come in between. Raises OSError on file systems that know no
    locks, ModuleNotFoundError on systems without.
    """
    import fcntl

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if not wait and error.errno in (errno.EAGAIN, errno.EACCES):  # the latter on network file systems
            return False
        raise
    return True


def still_there(path: Path, descriptor: int) -> bool:
    """Whether what was opened is what ``path`` names, and not something that has been removed."""
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except OSError:
        return False
