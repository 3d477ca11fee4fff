"""Pairs that look alike, counted without listing them all."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gensoup.train.duplicates import LookAlikes, same_bytes


def pictures(count: int) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    """Unrelated hashes, middles and digests."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2, (count, 64)).astype(np.bool_)
    return hashes, rng.integers(0, 256, (count, 24, 24), dtype=np.uint8), [bytes([number]) for number in range(count)]


def test_both_the_hash_and_the_middle_must_agree() -> None:
    hashes, middles, digests = pictures(8)
    hashes[1] = hashes[0]
    middles[1] = np.clip(middles[0] * 0.9, 0, 255)
    hashes[3] = hashes[2]  # another middle
    middles[5] = middles[4]  # another hash
    hashes[7] = hashes[6]
    hashes[7, :6] ^= True
    middles[7] = middles[6]
    alike = LookAlikes.find(hashes, middles, digests)
    found = [(a, b, bits) for a, b, bits, _ in alike.apart(range(8), 9)]
    assert sorted(found) == [(0, 1, 0), (6, 7, 6)]
    assert len(alike) == 2 and alike.count_apart("aabbccdd") == 0 and alike.count_apart("abbbbbcd") == 2
    assert [pair[:2] for pair in alike.apart("abbbbbcd", 1)] == [(6, 7)]  # the most alike first


def test_counts_equal_those_of_all_pairs() -> None:
    rng = np.random.default_rng(1)
    kinds, faces, _ = pictures(60)
    hashes, middles = kinds.copy(), faces.copy()
    source = rng.integers(0, 12, 60)
    digests = [bytes([number]) for number in rng.integers(0, 40, 60)]
    first_of: dict[bytes, int] = {}
    for index, digest in enumerate(digests):  # equal digests are equal pictures, several digests look alike
        kind = source[first_of.setdefault(digest, index)]
        hashes[index], middles[index] = kinds[kind], faces[kind]
        source[index] = kind
    group = rng.integers(0, 5, 60).tolist()
    alike = LookAlikes.find(hashes, middles, digests)
    pairs = [(a, b) for a, b in itertools.combinations(range(60), 2) if source[a] == source[b]]
    assert len(alike) == len(pairs)
    apart = [(a, b) for a, b in pairs if group[a] != group[b]]
    assert alike.count_apart(group) == len(apart) > 50
    assert sorted((a, b) for a, b, _, _ in alike.apart(group, 10_000)) == apart
    assert len(list(alike.apart(group, 7))) == 7


def test_many_copies_are_counted_at_once() -> None:
    count = 5000
    alike = LookAlikes.find(np.zeros((count, 64), np.bool_), np.zeros((count, 24, 24), np.uint8), [b"x"] * count)
    assert len(alike) == count * (count - 1) // 2 and len(alike.first) == 1
    assert alike.count_apart([index % 2 for index in range(count)]) == 2500 * 2500


@pytest.mark.parametrize(("second", "expected"), [(0, 1), (255, 1), (None, 0)])
def test_flat_pictures_are_like_flat_ones_alone(second: int | None, expected: int) -> None:
    hashes, middles, digests = pictures(2)
    hashes[:] = False
    middles[0] = 0
    if second is not None:
        middles[1] = second
    assert len(LookAlikes.find(hashes, middles, digests)) == expected


def test_groups_are_joined_where_their_images_look_alike() -> None:
    hashes, middles, digests = pictures(6)
    hashes[3], middles[3] = hashes[0], middles[0]
    digests[5] = digests[4]
    joined = LookAlikes.find(hashes, middles, digests).join(["a", "a", "b", "b", "c", "d"])
    assert joined[0] == joined[1] == joined[2] == joined[3] != joined[4] == joined[5]
    alone = LookAlikes.find(*pictures(3)).join(["x", "y", "x"])
    assert alone[0] == alone[2] != alone[1]


def test_equal_files() -> None:
    assert same_bytes([b"a", b"b", b"a", b"c", b"b", b"a"]) == [[0, 2, 5], [1, 4]]
    assert same_bytes([b"a", b"b"]) == []
