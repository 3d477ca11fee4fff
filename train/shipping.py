"""Images on their way to another machine: what is sent, and how they are found or laid down there. Without PyTorch, so
that who only sends or sweeps starts at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import GenSoupError
from gensoup.runtime.file_lock import flock, opened, still_there
from gensoup.runtime.files import atomic_path, is_temporary, write_error
from gensoup.runtime.private_cache import cache_root, make_private
from gensoup.train.images import Selection

if TYPE_CHECKING:
    from gensoup.train.learner import Examples

SHARD_BYTES = 32 << 20
SAMPLE = 64  # images that tell whether a file is the same here and there

ReadShard = Callable[[str, int, int], NDArray[np.uint8]]  # path, first row, row after the last


class NotHere(Exception):
    """The images are not on this machine and nobody was named who would send them."""


@dataclass(frozen=True)
class ShippedExamples:
    """Examples as they are sent: where their images are, and how they are known, not the images themselves.

    path: of a ``.npy`` file of uint8 images [N, H, W, 3], ``shape``; digest: of its shape and a sample. rows: the
    examples' own in it; targets: of each.
    """

    path: str
    shape: tuple[int, ...]
    digest: str
    rows: NDArray[np.int64]
    targets: NDArray[np.int64]
    classes: int


def shipped(examples: Examples) -> ShippedExamples:
    """Examples whose images lie in a memory-mapped file, to be sent. Raises TypeError for others."""
    selection = examples.images
    if not isinstance(selection, Selection) or not isinstance(selection.images, np.memmap):
        raise TypeError("only images in a memory-mapped file can be sent")
    images = selection.images
    path = str(Path(str(images.filename)).resolve())
    return ShippedExamples(
        path, images.shape, digest_of(images), selection.rows, np.asarray(examples.targets), examples.classes
    )


class Arrivals:
    """The images of a process, found or laid down on its machine; what was laid down is given back by ``close``."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._images: dict[str, NDArray[np.uint8]] = {}

    def examples(self, sent: ShippedExamples, read: ReadShard | None) -> Examples:
        """The examples on this machine: from the file at the same path where it is the same, else from a copy in the
        user's private cache, which all processes of this machine share, made by ``read``.

        Raises NotHere when that is needed and None, WriteError when there is no room for a copy.
        """
        if sent.digest not in self._images:
            images = mapped(Path(sent.path), sent)
            if images is None:
                if read is None:
                    raise NotHere(sent.path)
                images = self._open.enter_context(_copy(sent, read))
            self._images[sent.digest] = images
        from gensoup.train.learner import Examples

        # Arrays from the object store are views of memory that others share; rows and targets are small.
        return Examples(Selection(self._images[sent.digest], sent.rows.copy()), sent.targets.copy(), sent.classes)

    def close(self) -> None:
        """Remove what was laid down here, unless another process uses it."""
        self._images.clear()
        self._open.close()


def mapped(path: Path, sent: ShippedExamples) -> NDArray[np.uint8] | None:
    """The memory map of ``path``, None where it is not there or not the file that was meant."""
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    same = images.dtype == np.uint8 and images.shape == sent.shape and digest_of(images) == sent.digest
    return images if same else None


def digest_of(images: NDArray[np.uint8]) -> str:
    """Of the shape and of images spread evenly, the first and the last with them."""
    hashed = hashlib.sha256(repr(images.shape).encode())
    for row in np.unique(np.linspace(0, len(images) - 1, SAMPLE).round().astype(int)) if len(images) else ():
        hashed.update(images[row].tobytes())
    return hashed.hexdigest()


def read_shard(path: str, start: int, stop: int) -> NDArray[np.uint8]:
    """Rows of a ``.npy`` file, in memory."""
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False)[start:stop])


class Shards:
    """An actor beside the process that leads the run: reads images for machines that cannot reach its files."""

    def read(self, path: str, start: int, stop: int) -> NDArray[np.uint8]:
        """See :func:`read_shard`."""
        return read_shard(path, start, stop)


@contextlib.contextmanager
def _copy(sent: ShippedExamples, read: ReadShard) -> Iterator[NDArray[np.uint8]]:
    """A copy of the images; the last process that uses it removes it, and what a killed one left goes too."""
    folder = _folder()
    make_private(folder)
    sweep()
    path = folder / f"{sent.digest[:32]}.npy"
    lock = path.with_suffix(".lock")
    while True:
        with _lock_file(lock) as descriptor:
            if (images := mapped(path, sent)) is None and _locked(descriptor):
                _fill(path, sent, read)
                _locked(descriptor, shared=True, wait=True)
                # Between one lock and the other a sweep may have removed the copy and the lock.
                images = mapped(path, sent) if still_there(lock, descriptor) else None
            if images is not None:
                try:
                    yield images
                finally:
                    _remove(path, descriptor)
                return
        # Those that wait for each other's shared lock all let go of it; one of them is the first to come back.
        time.sleep(random.uniform(0.05, 0.5))


def _fill(path: Path, sent: ShippedExamples, read: ReadShard) -> None:
    step = max(1, SHARD_BYTES // max(1, int(np.prod(sent.shape[1:]))))
    with atomic_path(path, 0o600) as temporary, temporary.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False}
        np.lib.format.write_array_header_1_0(file, {**header, "shape": sent.shape})
        for start in range(0, sent.shape[0], step):
            try:
                part = read(sent.path, start, start + step)
            except (OSError, ValueError) as error:
                raise _gone(sent, error) from error
            file.write(part.tobytes())
    if mapped(path, sent) is None:
        raise _gone(sent, ValueError("it holds other images now"))


def _gone(sent: ShippedExamples, error: OSError | ValueError) -> GenSoupError:
    said = getattr(error, "strerror", None) or error
    return GenSoupError(f"{sent.path}: cannot be sent to another machine any more ({said})")


def sweep(patience_s: float = 0.0) -> None:
    """Remove the copies on this machine that no process uses, whole or half. patience_s: how long to wait for who still
    uses some, for instance because it is just being killed."""
    deadline = time.monotonic() + patience_s
    while not _swept() and time.monotonic() < deadline:
        time.sleep(0.1)


def _swept() -> bool:
    """Whether nothing is left."""
    free, folder = True, _folder()
    for lock in {file.with_suffix(".lock") for kind in ("*.npy", "*.lock") for file in folder.glob(kind)}:
        with contextlib.suppress(OSError):
            descriptor = opened(lock)
            try:
                free &= _remove(lock.with_suffix(".npy"), descriptor)
            finally:
                os.close(descriptor)
    return free


def _folder() -> Path:
    return cache_root() / "shipped"


def _remove(path: Path, descriptor: int) -> bool:
    """Remove a copy, and what a killed process had of it, unless another process uses it, or has removed it and maybe
    made another; whether it is gone. Who has the lock file open sees that."""
    if not _locked(descriptor) or not still_there(path.with_suffix(".lock"), descriptor):
        return False
    for half in path.parent.glob(f".{path.name}.*"):
        if is_temporary(half):
            half.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    path.with_suffix(".lock").unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    """The open lock file at ``path``, locked with others, and not one that has been removed meanwhile."""
    while True:
        try:
            descriptor = opened(path)
        except OSError as error:
            raise write_error(path, error) from error
        try:
            _locked(descriptor, shared=True, wait=True)
            if still_there(path, descriptor):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _locked(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool:
    """As :func:`gensoup.runtime.file_lock.flock`; several processes share a copy, which is not safe without."""
    try:
        return flock(descriptor, shared=shared, wait=wait)
    except ModuleNotFoundError as error:
        raise GenSoupError("a worker without the files of the run needs Linux or macOS, to lock its copy") from error
    except OSError as error:  # some network file systems
        raise GenSoupError(
            f"{_folder()}: files cannot be locked there ({error.strerror}); name another place in XDG_CACHE_HOME when "
            "Ray is started on this machine"
        ) from error
