"""What an audit keeps of each image: hash, digest and size; of a sample, small pictures too. No image stays decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gensoup.bench.dataset import LabelledFolder
from gensoup.runtime.console import StageProgress
from gensoup.runtime.device import usable_cores
from gensoup.runtime.errors import DataError
from gensoup.runtime.images import decode_image
from gensoup.train.border import STRIPS_SHAPE, THUMBNAIL, border_strips, thumbnail
from gensoup.train.images import perceptual_hash

_EDGE = THUMBNAIL // 8
_MIDDLE = (THUMBNAIL - 2 * _EDGE, THUMBNAIL - 2 * _EDGE)


@dataclass(frozen=True, eq=False)
class Scan:
    """Traits of a folder's N files, in their order; rows of broken ones are zero and not to be used.

    sizes: int64 [N, 2], height and width. hashes: bool [N, 64]. middles: uint8 [N, 24, 24], the middle three quarters
    in grey levels. digests: SHA-256 of the bytes. broken: file → reason.
    sampled: int64 [M], the readable images of the sample; strips uint8 [M, 4, 4, 32, 3] and thumbnails
    uint8 [M, 32, 32, 3] are theirs.
    """

    sizes: NDArray[np.int64]
    hashes: NDArray[np.bool_]
    middles: NDArray[np.uint8]
    digests: tuple[bytes, ...]
    broken: Mapping[str, str]
    sampled: NDArray[np.int64]
    strips: NDArray[np.uint8]
    thumbnails: NDArray[np.uint8]


def scan(folder: LabelledFolder, sample: NDArray[np.int64], progress: StageProgress) -> Scan:
    """Read every file once, on all cores; ``sample``: sorted indices of which small pictures are kept.

    A broken image is named with its reason, never raised.
    """
    count = len(folder)
    sizes, hashes = np.zeros((count, 2), np.int64), np.zeros((count, 64), np.bool_)
    middles = np.zeros((count, *_MIDDLE), np.uint8)
    digests = [b""] * count
    broken: dict[str, str] = {}
    place = {int(index): row for row, index in enumerate(sample)}
    strips = np.zeros((len(sample), *STRIPS_SHAPE), np.uint8)
    thumbnails = np.zeros((len(sample), THUMBNAIL, THUMBNAIL, 3), np.uint8)

    def one(index: int) -> None:
        file = folder.files[index]
        try:
            content = (folder.path / file).read_bytes()
            image = decode_image(content, file)
        except OSError as error:
            broken[file] = f"cannot be read ({error.strerror})"
            return
        except DataError as error:
            broken[file] = str(error).removeprefix(f"{file}: ")
            return
        small = thumbnail(image)
        sizes[index] = image.shape[:2]
        hashes[index] = perceptual_hash(image)
        middles[index] = cv2.cvtColor(small[_EDGE:-_EDGE, _EDGE:-_EDGE], cv2.COLOR_BGR2GRAY)
        digests[index] = hashlib.sha256(content).digest()
        if index in place:
            strips[place[index]], thumbnails[place[index]] = border_strips(image), small

    pool = ThreadPoolExecutor(usable_cores())
    try:
        for done, _ in enumerate(pool.map(one, range(count)), 1):
            progress("read", done, count)
    finally:
        pool.shutdown(cancel_futures=True)  # an interruption does not wait for the rest of the folder
    good = np.flatnonzero(sizes[sample, 0] > 0)
    return Scan(
        sizes=sizes,
        hashes=hashes,
        middles=middles,
        digests=tuple(digests),
        broken=dict(sorted(broken.items())),
        sampled=sample[good],
        strips=strips[good],
        thumbnails=thumbnails[good],
    )
