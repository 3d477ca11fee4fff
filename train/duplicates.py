"""Equal files, and pictures that look alike: where they stand in two classes, groups or roles."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gensoup.train.roles import near_duplicate_pairs


@dataclass(frozen=True)
class Pair:
    """Two images that look alike: how many of the 64 bits of their hashes differ, and whether the files are equal."""

    first: str
    second: str
    bits: int
    same_bytes: bool


@dataclass(frozen=True, eq=False)
class LookAlikes:
    """All pairs of N images whose perceptual hashes differ by a few bits at most.

    Kept as pairs of distinct hashes, so that a thousand black frames are one entry, not half a million.
    bucket_of: int64 [N], the hash of each image. first, second: int64 [P], hashes that are near (equal numbers: several
    images share that hash). bits: int64 [P], how many bits differ.
    """

    bucket_of: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    bits: NDArray[np.int64]

    @classmethod
    def find(cls, hashes: NDArray[np.bool_]) -> LookAlikes:
        """From perceptual hashes, bool [N, 64]."""
        packed = np.ascontiguousarray(np.packbits(hashes, axis=1)).view(np.uint64).reshape(-1)
        _, index, bucket_of, counts = np.unique(packed, return_index=True, return_inverse=True, return_counts=True)
        distinct = hashes[index]
        near = near_duplicate_pairs(distinct)
        shared = np.flatnonzero(counts > 1)
        first, second = (np.concatenate([shared, side]).astype(np.int64) for side in near)
        bits = np.array([int((distinct[a] != distinct[b]).sum()) for a, b in zip(first, second, strict=True)], np.int64)
        return cls(bucket_of.reshape(-1).astype(np.int64), first, second, bits)

    def __len__(self) -> int:
        """How many pairs of images there are."""
        sizes = np.bincount(self.bucket_of)
        products = sizes[self.first] * sizes[self.second]
        own = self.first == self.second
        return int(products[~own].sum() + ((products - sizes[self.first]) // 2)[own].sum())

    def count_apart(self, attribute: Sequence[Hashable]) -> int:
        """How many pairs of images differ in ``attribute`` (a class, group or role each)."""
        return int(self._apart(attribute).sum())

    def apart(self, attribute: Sequence[Hashable], limit: int) -> Iterator[tuple[int, int, int]]:
        """(image, image, bits) of the ``limit`` nearest pairs that differ in ``attribute``."""
        members = np.split(np.argsort(self.bucket_of, kind="stable"), np.cumsum(np.bincount(self.bucket_of))[:-1])
        found = 0
        with_any = np.flatnonzero(self._apart(attribute))
        for number in with_any[np.argsort(self.bits[with_any], kind="stable")]:
            own = self.first[number] == self.second[number]
            for a in members[self.first[number]]:
                for b in members[self.second[number]]:
                    if attribute[a] == attribute[b] or (own and a >= b):
                        continue
                    if found == limit:
                        return
                    found += 1
                    yield int(min(a, b)), int(max(a, b)), int(self.bits[number])

    def _apart(self, attribute: Sequence[Hashable]) -> NDArray[np.int64]:
        """Of each pair of hashes, the pairs of images that differ in ``attribute``: int64 [P]."""
        from scipy.sparse import csr_array

        number = {value: index for index, value in enumerate(dict.fromkeys(attribute))}
        codes = np.array([number[value] for value in attribute], np.int64)
        shape = (int(self.bucket_of.max(initial=-1)) + 1, len(number))
        table = csr_array((np.ones(len(codes), np.int64), (self.bucket_of, codes)), shape=shape)
        sizes = np.bincount(self.bucket_of, minlength=shape[0])
        alike = np.asarray((table[self.first] * table[self.second]).sum(axis=1), np.int64).reshape(-1)
        different = sizes[self.first] * sizes[self.second] - alike
        return np.where(self.first == self.second, different // 2, different)


def same_bytes(digests: Sequence[bytes]) -> list[list[int]]:
    """Clusters of two or more indices with equal digests, each sorted, in order of their first."""
    clusters: dict[bytes, list[int]] = {}
    for index, digest in enumerate(digests):
        clusters.setdefault(digest, []).append(index)
    return [cluster for cluster in clusters.values() if len(cluster) > 1]
