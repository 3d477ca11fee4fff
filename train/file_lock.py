"""Locks between processes, on a file that stays where it is; a killed process holds none."""

from __future__ import annotations

import os
from pathlib import Path


def opened(path: Path) -> int:
    """The descriptor of a lock file, made where it is missing, for this user alone.

    To write, for network file systems lock nothing else exclusively. Raises OSError, also where a link stands there.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)


def lock(descriptor: int, path: Path, *, shared: bool = False) -> bool:
    """Lock ``path``, opened as ``descriptor``, until that is closed, without waiting; ``shared``: together with others.

    False where another process has it, or has removed it meanwhile. Where nothing can be locked, always True.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # not POSIX
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # file systems that know no locks
        return True
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except OSError:
        return False
