"""The decoded images of a run: each file read once, kept as uint8 for every image size of the run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.dataset import LabelledFolder
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import DataError
from gensoup.runtime.files import write_error
from gensoup.runtime.images import read_image
from gensoup.runtime.preprocess import Preprocess


@dataclass(frozen=True)
class ImageStore:
    """Images of a folder, decoded.

    by_size: image size → uint8 BGR [N, size, size, 3], memory-mapped. hashes: perceptual hashes, bool [N, 64], or None
    when they were not asked for. skipped: per broken file why; its rows are black and not to be used.
    """

    by_size: Mapping[int, NDArray[np.uint8]]
    hashes: NDArray[np.bool_] | None
    skipped: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Selection:
    """Some images of one size, read from the memory map when they are asked for: ``rows`` [N] of ``images``."""

    images: NDArray[np.uint8]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | NDArray[np.integer]) -> NDArray[np.uint8]:
        """uint8 BGR [n, H, W, 3], in memory."""
        return np.asarray(self.images[self.rows[index]])


Frames = NDArray[np.uint8] | Selection  # [N, H, W, 3], uint8 BGR, in memory or not


def decode(
    folder: LabelledFolder,
    steps: Sequence[Preprocess],
    cache: Path,
    hashed: bool,
    progress: StageProgress,
) -> ImageStore:
    """Read every image of ``folder`` once, on all cores, into a memory-mapped file a step of preprocessing, under
    ``cache``.

    Broken images are named and skipped. Raises WriteError when ``cache`` cannot be written or the disk is full.
    """
    count = len(folder.files)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        by_size = {step.size: _reserved(cache / f"{step.size}.npy", count, step.size) for step in steps}
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
            by_size[step.size][index] = step(image)
        if hashes is not None:
            hashes[index] = perceptual_hash(image)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(one, range(count)), 1):
            progress("decode", done, count)
    return ImageStore(by_size, hashes, dict(sorted(skipped.items())))


def _reserved(path: Path, count: int, size: int) -> NDArray[np.uint8]:
    """A memory-mapped file whose space on the disk is taken now: later, a full disk would be a SIGBUS."""
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, size, size, 3))
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return images


def perceptual_hash(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The 64 bits of imagehash's pHash (low frequencies of a cosine transform against their median)."""
    import imagehash
    from PIL import Image

    return np.asarray(imagehash.phash(Image.fromarray(image[:, :, ::-1])).hash, np.bool_).reshape(64)
