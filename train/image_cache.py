"""Decoded images that outlast a run: made once for a data set and a preprocessing, found again by the next run.

``ROOT/KEY/`` is an entry, see :mod:`gensoup.train.image_entry`. What a run reads stays until it ends; of the rest what
was unused for longest goes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gensoup.bench.dataset import LabelledFolder
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import DataError, WriteError
from gensoup.runtime.files import write_error
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.private_cache import cache_root, make_private
from gensoup.train.image_entry import (
    ABOUT,
    about_of,
    bytes_of,
    empty,
    finish,
    hashes_of,
    held,
    images_of,
    is_entry,
    key_of,
    make,
    removed,
    still_true,
    used,
)
from gensoup.train.images import ImageStore

LIMIT_GB = 20.0
LONGEST_UNUSED_DAYS = 30
WAITING = "wait for another run that decodes these images"


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

    def check(self) -> None:
        """Raise WriteError, before the work, where nothing can be kept."""
        self._make_folder(self.folder)
        try:
            tempfile.TemporaryFile(dir=self.folder).close()
        except OSError as error:
            raise write_error(self.folder, error) from error

    def decoded(
        self, folder: LabelledFolder, steps: Sequence[Preprocess], hashed: bool, progress: StageProgress
    ) -> ImageStore:
        """As :func:`gensoup.train.images.decode`, from the cache as far as it is there.

        The images stay in the cache as long as the store that is returned lives. A second process that wants the same
        waits for the first and decodes nothing. Raises WriteError when the cache cannot be written or the disk is full.
        """
        path, count = self.folder / key_of(folder, hashed), len(folder)
        waited = False

        def on_wait() -> None:
            nonlocal waited
            waited = True
            progress(WAITING, 0, 1)

        with held(path, lambda: self._make_folder(path), on_wait):
            if waited:
                progress(WAITING, 1, 1)
            about = about_of(path)
            if hashed and hashes_of(path, count) is None:
                about = None
            if about is None or not still_true(path, about, folder, steps):
                about = None
                empty(path)
            missing = [step for step in steps if images_of(path, step, count) is None]
            if about is None or missing:
                self._make_room(path, sum(3 * step.size**2 for step in missing) * count)
                skipped = self._made(path, folder, missing, hashed and about is None, progress)
                if about is not None and skipped != about["skipped"]:  # a file was mended or broke meanwhile
                    empty(path)
                    skipped = self._made(path, folder, steps, hashed, progress)
                about = finish(path, folder, skipped)
            with contextlib.suppress(OSError):  # a network file system may give it to another user
                os.utime(path / ABOUT)
            by_size = {step.size: images for step in steps if (images := images_of(path, step, count)) is not None}
            store = ImageStore(by_size, hashes_of(path, count) if hashed else None, about["skipped"])
            try:
                weakref.finalize(store, os.close, used(path))
            except OSError as error:
                raise write_error(path, error) from error
            self._make_room(path, 0)
        return store

    def entries(self) -> list[Entry]:
        """All that is kept, what was used last first. Raises DataError when the folder cannot be read."""
        found = []
        for path in self._folders():
            with contextlib.suppress(OSError):  # removed meanwhile
                if (about := about_of(path)) is not None:
                    last = (path / ABOUT).stat().st_mtime
                    found.append(Entry(path, about["data"], about["images"], bytes_of(path), last))
        return sorted(found, key=lambda entry: -entry.used)

    def clear(self) -> tuple[int, int, int]:
        """Remove every entry, and halves of such, that no run is making or using; how many, their bytes, and how many
        stay. Raises DataError when the folder cannot be read."""
        count = total = left = 0
        for path in self._folders():
            size = bytes_of(path)
            if removed(path):
                count, total = count + 1, total + size
            else:
                left += 1
        return count, total, left

    def _folders(self) -> list[Path]:
        """Of entries, whole or not."""
        try:
            return [path for path in self.folder.iterdir() if is_entry(path)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be read ({error.strerror}); check its permissions") from error

    def _make_room(self, mine: Path, needed: int) -> None:
        """Remove, of the others that nobody uses, what a killed process left half made, what is oldest until the disk
        has room for ``needed`` bytes more and the cache keeps to its limit, and whatever was long unused."""
        others = [entry for entry in reversed(self.entries()) if entry.path != mine]
        whole = {mine, *(entry.path for entry in others)}
        for path in self._folders():
            if path not in whole and about_of(path) is None:
                removed(path)
        kept = sum(entry.bytes for entry in others) + bytes_of(mine) + needed
        for entry in others:
            old = time.time() - entry.used > LONGEST_UNUSED_DAYS * 86_400
            full = needed > shutil.disk_usage(self.folder).free
            if (old or full or kept > self.limit_gb * 1e9) and removed(entry.path):
                kept -= entry.bytes

    def _made(
        self, path: Path, folder: LabelledFolder, steps: Sequence[Preprocess], hashed: bool, progress: StageProgress
    ) -> dict[str, str]:
        try:
            return make(path, folder, steps, hashed, progress)
        except WriteError as error:
            named = "" if self.root is None else f" --dir {self.root}"
            raise WriteError(
                f"{error}; gensoup data cache{named} --clear frees what earlier runs left, --cache names another "
                "place, --no-cache keeps nothing"
            ) from error

    def _make_folder(self, folder: Path) -> None:
        """Make the cache's or an entry's folder, readable by this user alone."""
        if self.root is None:
            make_private(folder)
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise write_error(folder, error) from error
        if folder != self.root and folder.is_symlink():
            raise WriteError(f"{folder}: is a link, which training does not follow; remove it")
