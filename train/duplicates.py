"""Equal files, and pictures that look alike: where they stand in two classes, groups or roles."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gensoup.train.roles import near_duplicate_pairs

# Of the grey levels of the frame's middle. Hashes alone match what endoscopes draw around the view.
LEAST_CORRELATION = 0.85
_PAIRS_AT_ONCE = 8192


@dataclass(frozen=True)
class Pair:
    """Two images that look alike: how many of the 64 bits of their hashes differ, how far their middles correlate, and
    whether the files are equal."""

    first: str
    second: str
    bits: int
    correlation: float
    same_bytes: bool


@dataclass(frozen=True, eq=False)
class LookAlikes:
    """All pairs of N images that look alike: perceptual hashes a few bits apart, and middles that correlate.

    Kept as pairs of distinct contents, so that a thousand copies of one file are one entry, not half a million.
    content_of: int64 [N], number of the content of each image. first, second: int64 [P], contents that look alike
    (equal numbers: several images have that content). bits, correlation: [P], how far they are apart.
    """

    content_of: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    bits: NDArray[np.int64]
    correlation: NDArray[np.float64]

    @classmethod
    def find(cls, hashes: NDArray[np.bool_], middles: NDArray[np.uint8], digests: Sequence[bytes]) -> LookAlikes:
        """From perceptual hashes, bool [N, 64], small grey pictures of the middle, uint8 [N, H, W], and digests."""
        numbers: dict[bytes, int] = {}
        content_of = np.array([numbers.setdefault(digest, len(numbers)) for digest in digests], np.int64)
        _, index, counts = np.unique(content_of, return_index=True, return_counts=True)
        first, second = near_duplicate_pairs(hashes[index])
        bits, correlation = _differences(hashes[index], middles[index], first, second)
        alike = correlation >= LEAST_CORRELATION
        shared = np.flatnonzero(counts > 1)
        return cls(
            content_of,
            np.concatenate([shared, first[alike]]),
            np.concatenate([shared, second[alike]]),
            np.concatenate([np.zeros(len(shared), np.int64), bits[alike]]),
            np.concatenate([np.ones(len(shared)), correlation[alike]]),
        )

    def __len__(self) -> int:
        """How many pairs of images there are."""
        return self.count_apart(range(len(self.content_of)))

    def count_apart(self, attribute: Sequence[Hashable]) -> int:
        """How many pairs of images differ in ``attribute`` (a class, group or role each)."""
        return int(self._apart(attribute).sum())

    def apart(self, attribute: Sequence[Hashable], limit: int) -> Iterator[tuple[int, int, int, float]]:
        """(image, image, bits, correlation) of the ``limit`` most alike pairs that differ in ``attribute``."""
        members = np.split(np.argsort(self.content_of, kind="stable"), np.cumsum(np.bincount(self.content_of))[:-1])
        found = 0
        some = np.flatnonzero(self._apart(attribute))
        for number in some[np.argsort(-self.correlation[some], kind="stable")]:
            own = self.first[number] == self.second[number]
            for a in members[self.first[number]]:
                for b in members[self.second[number]]:
                    if attribute[a] == attribute[b] or (own and a >= b):
                        continue
                    if found == limit:
                        return
                    found += 1
                    yield int(min(a, b)), int(max(a, b)), int(self.bits[number]), float(self.correlation[number])

    def join(self, groups: Sequence[str]) -> list[str]:
        """``groups`` such that images that look alike share one."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        number = {group: index for index, group in enumerate(dict.fromkeys(groups))}
        group_of = np.array([number[group] for group in groups], np.int64)
        contents = len(np.unique(self.content_of))
        # One graph of groups and contents: an image ties its group to its content.
        rows = np.concatenate([group_of + contents, self.first])
        columns = np.concatenate([self.content_of, self.second])
        size = contents + len(number)
        graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(size, size))
        _, joined = connected_components(graph, directed=False)
        return [str(joined[group + contents]) for group in group_of]

    def _apart(self, attribute: Sequence[Hashable]) -> NDArray[np.int64]:
        """Of each pair of contents, the pairs of images that differ in ``attribute``: int64 [P]."""
        from scipy.sparse import csr_array

        number = {value: index for index, value in enumerate(dict.fromkeys(attribute))}
        codes = np.array([number[value] for value in attribute], np.int64)
        sizes = np.bincount(self.content_of)
        table = csr_array((np.ones(len(codes), np.int64), (self.content_of, codes)), shape=(len(sizes), len(number)))
        alike = np.asarray(table[self.first].multiply(table[self.second]).sum(axis=1), np.int64).reshape(-1)
        different = sizes[self.first] * sizes[self.second] - alike
        return np.where(self.first == self.second, different // 2, different)


def same_bytes(digests: Sequence[bytes]) -> list[list[int]]:
    """Clusters of two or more indices with equal digests, each sorted, in order of their first."""
    clusters: dict[bytes, list[int]] = {}
    for index, digest in enumerate(digests):
        clusters.setdefault(digest, []).append(index)
    return [cluster for cluster in clusters.values() if len(cluster) > 1]


def _differences(
    hashes: NDArray[np.bool_], middles: NDArray[np.uint8], first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Bits and correlation of each pair. A flat picture (black, say) is like another flat one and like nothing else."""
    bits, correlation = np.zeros(len(first), np.int64), np.zeros(len(first))
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        a, b = first[part], second[part]
        bits[part] = (hashes[a] != hashes[b]).sum(1)
        (left, left_flat), (right, right_flat) = _standardised(middles[a]), _standardised(middles[b])
        both, either = left_flat & right_flat, left_flat | right_flat
        correlation[part] = np.where(either, both, (left * right).sum(1))
    return bits, correlation


def _standardised(middles: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Grey levels [N, H × W] around their mean, of length 1, and which of the pictures are flat."""
    levels = middles.reshape(len(middles), -1).astype(np.float32)
    levels -= levels.mean(axis=1, keepdims=True)
    length = np.linalg.norm(levels, axis=1)
    flat = length < 1.0
    return levels / np.where(flat, np.float32(1), length)[:, None].astype(np.float32), np.asarray(flat)
