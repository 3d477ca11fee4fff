"""An entry of the cache of decoded images: the folder of one data set, what lies in it, who may change or remove it.

It holds one file of images for each preprocessing, ``hashes.npy``, two lock files and ``about.json``, which is written
last: without it an entry is not there. Its name is a key over the files' names, sizes and times of change, so that
another image under an old name is never taken for what it was. ``making.lock`` is locked by whoever makes, checks or
removes an entry, ``use.lock`` is shared by all who read its images and keeps others from removing it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from gensoup.bench.dataset import LabelledFolder
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import DataError, WriteError
from gensoup.runtime.file_lock import lock, opened
from gensoup.runtime.files import is_temporary, rename_whole, write_atomic, write_error
from gensoup.runtime.images import read_image
from gensoup.runtime.preprocess import Preprocess
from gensoup.train.images import decode

VERSION = 1  # of the entries, and of what preprocessing makes
ABOUT, HASHES, MAKING = "about.json", "hashes.npy", ".making"
MAKING_LOCK, USE_LOCK = "making.lock", "use.lock"
SAMPLE = 8  # images decoded again to see that an entry holds what the files show
WAIT_S = 0.2  # between two looks whether another process is done
_KEY = re.compile(r"[0-9a-f]{32}")
_IMAGES = re.compile(r"\d+-[0-9a-f]{12}\.npy")


def key_of(folder: LabelledFolder, hashed: bool) -> str:
    """Of an entry: over all that decides what is in it but the preprocessing, which names its files."""
    digest = hashlib.sha256(f"{VERSION}\0{cv2.__version__}\0{hashed}\n".encode())
    for path, name in zip(folder.paths, folder.files, strict=True):
        try:
            status = path.stat()
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        except OSError:  # a broken link: reading it will name it as a broken image
            digest.update(f"{name}\0missing\n".encode())
    return digest.hexdigest()[:32]


def is_entry(path: Path) -> bool:
    """Whether ``path`` is an entry, whole or not, and nobody else's folder: it is what may be emptied."""
    if not _KEY.fullmatch(path.name) or path.is_symlink():
        return False
    ours = (ABOUT, HASHES, MAKING, MAKING_LOCK, USE_LOCK)
    try:
        return all(file.name in ours or _IMAGES.fullmatch(file.name) or is_temporary(file) for file in path.iterdir())
    except OSError:  # a file, or removed meanwhile
        return False


@contextlib.contextmanager
def held(path: Path, make_folder: Callable[[], None], on_wait: Callable[[], None]) -> Iterator[None]:
    """Keep others from making or removing the entry; what a killed process left half made is removed.

    make_folder: makes it where it is missing. on_wait: called now and then while another process has it.
    """
    while True:
        make_folder()
        try:
            descriptor = opened(path / MAKING_LOCK)
        except FileNotFoundError:  # removed just now
            continue
        except OSError as error:
            raise write_error(path, error) from error
        try:
            if lock(descriptor, path / MAKING_LOCK):
                shutil.rmtree(path / MAKING, ignore_errors=True)
                yield
                return
        finally:
            os.close(descriptor)
        on_wait()
        time.sleep(WAIT_S)


def used(path: Path) -> int:
    """A descriptor that keeps others from removing the entry, which is held, as long as it is open."""
    descriptor = opened(path / USE_LOCK)
    lock(descriptor, path / USE_LOCK, shared=True)
    return descriptor


def removed(path: Path) -> bool:
    """Remove an entry, whole or not; False where it is being made, or a run reads its images."""
    with contextlib.ExitStack() as locks, contextlib.suppress(OSError, WriteError):
        for name in (MAKING_LOCK, USE_LOCK):
            descriptor = opened(path / name)
            locks.callback(os.close, descriptor)
            if not lock(descriptor, path / name):
                return False
        empty(path)
        for name in (USE_LOCK, MAKING_LOCK):
            (path / name).unlink()
        path.rmdir()
        return True
    return False


def empty(path: Path) -> None:
    """Remove what is in an entry but its locks; what says that it is whole goes first. Raises WriteError."""
    try:
        (path / ABOUT).unlink(missing_ok=True)
        for file in path.iterdir():
            if file.is_dir():
                shutil.rmtree(file)
            elif file.name not in (MAKING_LOCK, USE_LOCK):
                file.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def images_of(path: Path, step: Preprocess, count: int) -> NDArray[np.uint8] | None:
    """The memory map of a preprocessing, uint8 BGR [count, size, size, 3]; None where it is missing or cut short."""
    return _array(_file(path, step), np.uint8, (count, step.size, step.size, 3), "r")


def hashes_of(path: Path, count: int) -> NDArray[np.bool_] | None:
    """Perceptual hashes, bool [count, 64]; None where they are missing or cut short."""
    return _array(path / HASHES, np.bool_, (count, 64))


def _file(path: Path, step: Preprocess) -> Path:
    told = hashlib.sha256(json.dumps(step.to_dict(), sort_keys=True).encode()).hexdigest()[:12]
    return path / f"{step.size}-{told}.npy"


def _array(path: Path, kind: type, shape: tuple[int, ...], mode: Literal["r"] | None = None) -> NDArray[Any] | None:
    try:
        found = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.dtype == kind and found.shape == shape else None


def about_of(path: Path) -> dict[str, Any] | None:
    """What is said of an entry: ``data``, ``images`` (their number), ``skipped``; None where it is not whole."""
    try:
        values = json.loads((path / ABOUT).read_text(encoding="utf-8"))
        whole = values["version"] == VERSION and isinstance(values["skipped"], dict)
        return {**values, "images": int(values["images"]), "data": str(values["data"])} if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def finish(path: Path, folder: LabelledFolder, skipped: dict[str, str]) -> dict[str, Any]:
    """Write, and return, what says that an entry is whole."""
    about = {"version": VERSION, "data": str(folder.path.resolve()), "images": len(folder), "skipped": skipped}
    write_atomic(path / ABOUT, json.dumps(about), 0o600)
    return about


def still_true(path: Path, about: dict[str, Any], folder: LabelledFolder, steps: Sequence[Preprocess]) -> bool:
    """Whether a sample of the files decodes to what is kept, and what was broken still is."""
    broken = about["skipped"]
    for file in broken:
        with contextlib.suppress(DataError):
            read_image(folder.path / file)
            return False
    good = [index for index, file in enumerate(folder.files) if file not in broken]
    kept = [(step, images) for step in steps if (images := images_of(path, step, len(folder))) is not None]
    for number in np.unique(np.linspace(0, len(good) - 1, min(SAMPLE, len(good))).round().astype(int)):
        try:
            image = read_image(folder.path / folder.files[good[number]])
        except DataError:
            return False
        if any(not np.array_equal(images[good[number]], step(image)) for step, images in kept):
            return False
    return True


def make(
    path: Path, folder: LabelledFolder, steps: Sequence[Preprocess], hashed: bool, progress: StageProgress
) -> dict[str, str]:
    """Decode into the entry, each file appearing when it is whole; returns the broken images. Raises WriteError."""
    making = path / MAKING
    try:
        store = decode(folder, steps, making, hashed, progress)
        for step in steps:
            (making / f"{step.size}.npy").chmod(0o600)
            rename_whole(making / f"{step.size}.npy", _file(path, step))
        if store.hashes is not None:
            np.save(making / HASHES, store.hashes, allow_pickle=False)
            rename_whole(making / HASHES, path / HASHES)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return dict(store.skipped)


def bytes_of(path: Path) -> int:
    """On the disk."""
    total = 0
    for folder, _, names in os.walk(path):  # which does not mind what is removed meanwhile
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118
    return total
