"""The decoded images of a run: each file read once, kept as uint8 for every image size of the run."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.dataset import LabelledFolder
from gensoup.runtime.console import StageProgress
from gensoup.runtime.device import usable_cores
from gensoup.runtime.errors import DataError
from gensoup.runtime.files import write_error
from gensoup.runtime.images import read_image
from gensoup.runtime.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 4096  # images handed to the threads that decode
MOST_MAPPED = 32 << 20  # bytes read through a memory map before its pages are given back


@dataclass(frozen=True)
class ImageStore:
    """Images of a folder, decoded.

    by_size: image size → uint8 BGR [N, size, size, 3], memory-mapped. hashes: perceptual hashes, bool [N, 64], or None
    when they were not asked for. skipped: per broken file why; its rows are black and not to be used.
    """

    by_size: Mapping[int, NDArray[np.uint8]]
    hashes: NDArray[np.bool_] | None
    skipped: Mapping[str, str]


@dataclass(eq=False)
class Selection:
    """Some images of one size, read when they are asked for: ``rows`` [N] of ``images``, which lie in a memory map or,
    as a tensor, on the training device."""

    images: NDArray[np.uint8] | Tensor
    rows: NDArray[np.int64]
    _mapped: int = field(default=0, init=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | NDArray[np.integer]) -> NDArray[np.uint8] | Tensor:
        """uint8 BGR [n, H, W, 3], in memory or on the device."""
        if not isinstance(self.images, np.ndarray):
            import torch  # who brought a tensor has it loaded; an audit needs none

            from gensoup.export.transfer import sent

            return self.images[sent(torch.from_numpy(self.rows[index]), self.images.device)]
        part = np.asarray(self.images[self.rows[index]])
        self._mapped += part.nbytes
        if self._mapped > MOST_MAPPED:
            give_back_pages(self.images)
            self._mapped = 0
        return part


Frames = NDArray[np.uint8] | Selection  # [N, H, W, 3], uint8 BGR, in memory or not


def give_back_pages(images: NDArray[np.uint8]) -> None:
    """Unmap what was read of a memory map. It stays in the system's page cache, as long as there is room, but is no
    longer counted as this process' memory, which so does not grow with the data."""
    mapping = getattr(images, "_mmap", None)
    if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def decode(
    folder: LabelledFolder,
    steps: Sequence[Preprocess],
    cache: Path,
    hashed: bool,
    progress: StageProgress,
) -> ImageStore:
    """Read every image of ``folder`` once, on all cores, into a memory-mapped file a step of preprocessing, under
    ``cache``.

    Broken images are named and skipped. What is not written, their rows, is black. Raises WriteError when ``cache``
    cannot be written or the disk is full.
    """
    count = len(folder.files)
    files: dict[int, int] = {}
    try:
        cache.mkdir(parents=True, exist_ok=True)
        by_size = {step.size: _reserved(cache / f"{step.size}.npy", count, step.size) for step in steps}
        files = {size: os.open(cache / f"{size}.npy", os.O_WRONLY) for size in by_size}
    except OSError as error:
        raise write_error(cache, error) from error
    hashes = np.zeros((count, 64), np.bool_) if hashed else None
    skipped: dict[str, str] = {}

    def one(index: int) -> None:
        file = folder.files[index]
        try:
            image = read_image(folder.path / file)
        except DataError as error:
            skipped[file] = str(error).removeprefix(f"{folder.path / file}: ")
            return
        for step in steps:
            _write(files[step.size], by_size[step.size], index, step(image))
        if hashes is not None:
            hashes[index] = perceptual_hash(image)

    pool = ThreadPoolExecutor(usable_cores())
    try:
        # A part at a time: a list of futures for millions of images is memory too.
        for start in range(0, count, AT_ONCE):
            for done, _ in enumerate(pool.map(one, range(start, min(count, start + AT_ONCE))), start + 1):
                progress("decode", done, count)
    except OSError as error:
        raise write_error(cache, error) from error
    finally:
        pool.shutdown(cancel_futures=True)  # an interruption does not wait for the rest of the folder
        for file in files.values():
            os.close(file)
    return ImageStore(by_size, hashes, dict(sorted(skipped.items())))


def _reserved(path: Path, count: int, size: int) -> NDArray[np.uint8]:
    """A memory-mapped file whose space on the disk is taken now: later, a full disk would be a SIGBUS."""
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, size, size, 3))
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return images


def _write(file: int, images: NDArray[np.uint8], index: int, image: NDArray[np.uint8]) -> None:
    """Write one image of a memory-mapped file past the map: what is written through it counts as this process' memory,
    and an error of the disk would be a signal, not an OSError."""
    assert isinstance(images, np.memmap)
    place = images.offset + index * image.nbytes
    left = memoryview(image.tobytes())
    while len(left):
        written = os.pwrite(file, left, place)
        left, place = left[written:], place + written


def perceptual_hash(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The 64 bits of imagehash's pHash (low frequencies of a cosine transform against their median)."""
    import imagehash
    from PIL import Image

    return np.asarray(imagehash.phash(Image.fromarray(image[:, :, ::-1])).hash, np.bool_).reshape(64)
