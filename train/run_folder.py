"""The run folder: who may begin or go on with a run there, and what a killed process left in it. Imports no PyTorch."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from gensoup.runtime.errors import UsageError
from gensoup.runtime.file_lock import lock
from gensoup.runtime.files import is_temporary, remove_temporaries, write_error

CONFIG_FILE = "config.yaml"
CACHE = "cache"
# Folder of each of an ablation's runs → what its counters are; genes and random numbers are the same at the start.
ARMS = {"with": "own", "without": "off", "shuffled": "shuffled"}


def check_out(out: Path, resume: bool) -> None:
    """Raise UsageError unless ``out`` is new or empty, or holds a run to go on with where that was asked for.

    What a process left that was killed before its first file was whole does not count.
    """
    if "?" in str(out):
        raise UsageError(f"--out {out}: a '?' cannot stand in the address of its database; name another folder")
    if (out / CONFIG_FILE).exists():
        if not resume:
            raise UsageError(f"--out {out}: holds a run already; go on with it by --resume or name another folder")
        return
    if resume:
        raise UsageError(f"--resume: no run in {out} to go on with; leave the option out to begin one")
    if out.exists() and (not out.is_dir() or not all(map(is_temporary, out.iterdir()))):
        raise UsageError(f"--out {out}: is not an empty folder; name a new one")


@contextlib.contextmanager
def held(out: Path) -> Iterator[None]:
    """Make ``out`` where it is missing and keep every other process from training in it; a killed one holds nothing.

    Two that share a folder would overwrite each other's decoded images. What an earlier one left of its temporary
    files, and of patients' images, is removed. Raises UsageError when the folder is in use, WriteError when it cannot
    be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise write_error(out, error) from error
    try:
        if not lock(descriptor):
            raise UsageError(f"--out {out}: another process trains there; wait for it or name another folder")
        remove_temporaries(out)
        shutil.rmtree(out / CACHE, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)
