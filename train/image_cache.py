"""Decoded images that outlast a run: made once for a data set and a preprocessing, found again by the next run.

``ROOT/KEY/`` is an entry: one file of images for each preprocessing, ``hashes.npy`` and ``about.json``, which is
written last: without it an entry is not there. KEY is over the files' names, sizes and times of change, so that another
image under an old name is never taken for what it was. Whoever makes, reads or removes an entry holds its lock
meanwhile; a map that a run has open outlives its removal.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from gensoup.bench.dataset import LabelledFolder
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import DataError, WriteError
from gensoup.runtime.files import rename_whole, write_atomic, write_error
from gensoup.runtime.images import read_image
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.private_cache import cache_root, make_private
from gensoup.train.images import ImageStore, decode

VERSION = 1  # of the entries, and of what preprocessing makes
ABOUT, HASHES, MAKING = "about.json", "hashes.npy", ".making"
LIMIT_GB = 20.0
LONGEST_UNUSED_DAYS = 30
WAIT_S = 0.2  # between two looks whether another process is done
SAMPLE = 8  # images decoded again to see that an entry holds what the files show


@dataclass(frozen=True)
class Entry:
    """What is kept of one data set. bytes: on the disk; used: when last, in seconds since 1970."""

    path: Path
    data: str
    images: int
    bytes: int
    used: float


@dataclass(frozen=True)
class ImageCache:
    """The entries under ``root``, None: this user's private cache. limit_gb: what is oldest goes above it."""

    root: Path | None = None
    limit_gb: float = LIMIT_GB

    @property
    def folder(self) -> Path:
        """Where the entries lie; it need not exist."""
        return self.root or cache_root() / "images"

    def decoded(
        self, folder: LabelledFolder, steps: Sequence[Preprocess], hashed: bool, progress: StageProgress
    ) -> ImageStore:
        """As :func:`gensoup.train.images.decode`, from the cache as far as it is there.

        A second process that wants the same waits for the first and decodes nothing. Raises WriteError when the cache
        cannot be written or the disk is full.
        """
        path = self.folder / _key(folder, hashed)
        with self._held(path, progress):
            about = _about(path)
            if about is not None and hashed and _hashes(path, len(folder)) is None:
                about = None
            if about is not None and not _still_true(path, about, folder, steps):
                _remove(path)
                about = None
            missing = [step for step in steps if _images(path, step, len(folder)) is None]
            if missing or about is None:
                if about is None:
                    missing = list(steps)
                self._make_room(path, sum(3 * step.size**2 for step in missing) * len(folder))
                skipped = _make(path, folder, missing, hashed and about is None, progress)
                if about is not None and skipped != about["skipped"]:  # a file was mended or broke meanwhile
                    _remove(path)
                    skipped = _make(path, folder, steps, hashed, progress)
                about = {"version": VERSION, "data": str(folder.path.resolve()), "images": len(folder)}
                write_atomic(path / ABOUT, json.dumps({**about, "skipped": skipped}), 0o600)
                about["skipped"] = skipped
            os.utime(path / ABOUT)
            by_size = {step.size: images for step in steps if (images := _images(path, step, len(folder))) is not None}
            hashes = _hashes(path, len(folder)) if hashed else None
            self._make_room(path, 0)
        return ImageStore(by_size, hashes, about["skipped"])

    def entries(self) -> list[Entry]:
        """All that is kept, what was used last first."""
        found = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if (about := _about(path)) is not None:
                used = (path / ABOUT).stat().st_mtime
                found.append(Entry(path, about["data"], about["images"], _bytes(path), used))
        return sorted(found, key=lambda entry: -entry.used)

    def clear(self) -> tuple[int, int]:
        """Remove every entry, and halves of such, that no process is just making; how many, and their bytes."""
        count = total = 0
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if _is_key(path):
                size = _bytes(path)
                if _remove_unless_held(path):
                    count, total = count + 1, total + size
        return count, total

    def _make_room(self, mine: Path, needed: int) -> None:
        """Remove what is oldest of the others until the disk has room for ``needed`` bytes more and the cache keeps to
        its limit, and whatever was long unused."""
        others = [entry for entry in reversed(self.entries()) if entry.path != mine]
        kept = sum(entry.bytes for entry in others) + _bytes(mine) + needed
        for entry in others:
            old = time.time() - entry.used > LONGEST_UNUSED_DAYS * 86_400
            full = needed > shutil.disk_usage(self.folder).free
            if (old or full or kept > self.limit_gb * 1e9) and _remove_unless_held(entry.path):
                kept -= entry.bytes

    @contextlib.contextmanager
    def _held(self, path: Path, progress: StageProgress) -> Iterator[None]:
        """Make the entry's folder and lock it; what a killed process left half made is removed."""
        while True:
            self._make_folder(path)
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:  # removed just now
                continue
            except OSError as error:
                raise write_error(path, error) from error
            try:
                if not _lock(descriptor, path):
                    progress("wait for another run that decodes these images", 0, 1)
                    time.sleep(WAIT_S)
                    continue
                shutil.rmtree(path / MAKING, ignore_errors=True)
                yield
                return
            finally:
                os.close(descriptor)

    def _make_folder(self, path: Path) -> None:
        if self.root is None:
            make_private(path)
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise write_error(self.root, error) from error


def _key(folder: LabelledFolder, hashed: bool) -> str:
    """Of an entry: over all that decides what is in it but the preprocessing, which names its files."""
    digest = hashlib.sha256(f"{VERSION}\0{cv2.__version__}\0{hashed}\n".encode())
    for path, name in zip(folder.paths, folder.files, strict=True):
        try:
            status = path.stat()
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        except OSError:  # a broken link: reading it will name it as a broken image
            digest.update(f"{name}\0missing\n".encode())
    return digest.hexdigest()[:32]


def _is_key(path: Path) -> bool:
    return path.is_dir() and len(path.name) == 32 and all(letter in "0123456789abcdef" for letter in path.name)


def _file(path: Path, step: Preprocess) -> Path:
    told = hashlib.sha256(json.dumps(step.to_dict(), sort_keys=True).encode()).hexdigest()[:12]
    return path / f"{step.size}-{told}.npy"


def _images(path: Path, step: Preprocess, count: int) -> NDArray[np.uint8] | None:
    """The memory map of a preprocessing; None where it is missing or cut short."""
    return _array(_file(path, step), np.uint8, (count, step.size, step.size, 3), "r")


def _hashes(path: Path, count: int) -> NDArray[np.bool_] | None:
    return _array(path / HASHES, np.bool_, (count, 64))


def _array(path: Path, kind: type, shape: tuple[int, ...], mode: Literal["r"] | None = None) -> NDArray[Any] | None:
    try:
        found = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.dtype == kind and found.shape == shape else None


def _about(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads((path / ABOUT).read_text(encoding="utf-8"))
        whole = values["version"] == VERSION and isinstance(values["skipped"], dict)
        return {**values, "images": int(values["images"]), "data": str(values["data"])} if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _still_true(path: Path, about: dict[str, Any], folder: LabelledFolder, steps: Sequence[Preprocess]) -> bool:
    """Whether a sample of the files decodes to what is kept, and what was broken still is."""
    broken = about["skipped"]
    for file in broken:
        with contextlib.suppress(DataError):
            read_image(folder.path / file)
            return False
    good = [index for index, file in enumerate(folder.files) if file not in broken]
    kept = [(step, images) for step in steps if (images := _images(path, step, len(folder))) is not None]
    for number in np.unique(np.linspace(0, len(good) - 1, min(SAMPLE, len(good))).round().astype(int)):
        try:
            image = read_image(folder.path / folder.files[good[number]])
        except DataError:
            return False
        if any(not np.array_equal(images[good[number]], step(image)) for step, images in kept):
            return False
    return True


def _make(
    path: Path, folder: LabelledFolder, steps: Sequence[Preprocess], hashed: bool, progress: StageProgress
) -> dict[str, str]:
    """Decode into the entry, each file appearing when it is whole; returns the broken images."""
    making = path / MAKING
    try:
        store = decode(folder, steps, making, hashed, progress)
        for step in steps:
            (making / f"{step.size}.npy").chmod(0o600)
            rename_whole(making / f"{step.size}.npy", _file(path, step))
        if store.hashes is not None:
            np.save(making / HASHES, store.hashes, allow_pickle=False)
            rename_whole(making / HASHES, path / HASHES)
    except (OSError, WriteError) as error:
        told = error if isinstance(error, WriteError) else write_error(path, error)
        raise WriteError(
            f"{told}; gensoup data cache --clear frees what earlier runs left, --cache names another place"
        ) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return dict(store.skipped)


def _lock(descriptor: int, path: Path) -> bool:
    """Lock an entry's folder; False where another process has it or has removed it meanwhile."""
    try:
        import fcntl
    except ModuleNotFoundError:  # not POSIX
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # file systems that cannot lock a folder, some network ones
        return True
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except OSError:
        return False


def _remove_unless_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        if not _lock(descriptor, path):
            return False
        _remove(path)
        path.rmdir()
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Empty an entry; what says that it is whole goes first."""
    (path / ABOUT).unlink(missing_ok=True)
    for file in path.iterdir():
        shutil.rmtree(file, ignore_errors=True) if file.is_dir() else file.unlink(missing_ok=True)


def _bytes(path: Path) -> int:
    total = 0
    for file in path.rglob("*"):
        with contextlib.suppress(OSError):
            total += file.stat().st_size
    return total
