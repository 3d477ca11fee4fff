"""Who may see which image."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from gensoup.bench.dataset import LabelledFolder
from gensoup.runtime.errors import DataError
from gensoup.runtime.sources.synthetic import SyntheticEndoscope
from gensoup.train.images import perceptual_hash
from gensoup.train.roles import MIN_GROUPS, SHARES, assign_roles, near_duplicate_groups


def population(
    groups_of_class: tuple[int, ...], largest: int = 4, seed: int = 0
) -> tuple[list[str], np.ndarray, list[str]]:
    """Files, targets and groups of one to ``largest`` images."""
    rng = np.random.default_rng(seed)
    files: list[str] = []
    targets: list[int] = []
    groups: list[str] = []
    for label, count in enumerate(groups_of_class):
        for group in range(count):
            for image in range(int(rng.integers(1, largest + 1))):
                files.append(f"{label}/{group}-{image}.jpg")
                targets.append(label)
                groups.append(f"{label}-{group}")
    return files, np.array(targets), groups


def check(roles: dict[str, np.ndarray], targets: np.ndarray, groups: list[str]) -> None:
    """Disjoint, complete, no group on two sides, every class with enough groups in each role."""
    together = np.concatenate(list(roles.values()))
    assert sorted(together.tolist()) == list(range(len(targets)))
    sides = [{groups[index] for index in rows} for rows in roles.values()]
    assert sum(map(len, sides)) == len(set(groups))
    for rows in roles.values():
        for label in set(targets.tolist()):
            assert len({groups[index] for index in rows if targets[index] == label}) >= MIN_GROUPS


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("counts", [(8, 8), (8, 30, 200), (50, 12, 9, 8, 70)])
def test_roles_are_disjoint_complete_and_hold_every_class(counts: tuple[int, ...], seed: int) -> None:
    files, targets, groups = population(counts, seed=seed)
    labels = [str(number) for number in range(len(counts))]
    roles = assign_roles(files, targets, groups, labels, seed)
    assert list(roles) == list(SHARES)
    check(roles, targets, groups)


def test_shares_are_near_those_wanted_in_every_class() -> None:
    files, targets, groups = population((150, 90, 60))
    roles = assign_roles(files, targets, groups, "abc", 0)
    for name, share in SHARES.items():
        for label in range(3):
            assert np.mean(targets[roles[name]] == label) > 0
            part = (targets[roles[name]] == label).sum() / (targets == label).sum()
            assert part == pytest.approx(share, abs=0.05)


def test_a_pure_function_of_its_arguments() -> None:
    files, targets, groups = population((40, 40))
    first, again, other = (assign_roles(files, targets, groups, "ab", seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in SHARES)
    assert any(not np.array_equal(first[name], other[name]) for name in SHARES)
    renamed = assign_roles(files, targets, [f"x{group}" for group in groups], "ab", 1)
    assert all(np.array_equal(first[name], renamed[name]) for name in SHARES)  # what a group is called does not matter


def test_groups_of_several_classes_are_kept_whole() -> None:
    files, targets, groups = population((60, 60))
    groups = [group.split("-")[1] for group in groups]  # group n holds images of both classes
    roles = assign_roles(files, targets, groups, "ab", 0)
    check(roles, targets, groups)


def test_one_huge_group_goes_to_train() -> None:
    files, targets, groups = population((30, 30))
    huge = [f"0/huge-{number}.jpg" for number in range(200)]
    roles = assign_roles(
        [*files, *huge], np.concatenate([targets, np.zeros(200, int)]), [*groups, *["huge"] * 200], "ab", 0
    )
    assert len(files) in roles["train"]


@pytest.mark.parametrize("count", [0, 1, 5, 7])
def test_too_few_groups_says_which_class_and_how_many_are_missing(count: int) -> None:
    files, targets, groups = population((20, count))
    with pytest.raises(DataError, match=f"'few' has {count} groups .* needs 8.*: {8 - count} are missing") as error:
        assign_roles(files, targets, groups, ["many", "few"], 0)
    assert "\n" not in str(error.value)


def test_no_images_at_all_is_the_same_error() -> None:
    groups = near_duplicate_groups(np.zeros((0, 64), np.bool_))
    with pytest.raises(DataError, match="8 are missing"):
        assign_roles([], np.zeros(0, np.int64), groups, ["a", "b"], 0)


def test_groups_that_hold_every_class_and_leave_too_few_are_an_error() -> None:
    # Eight groups of each class, but seven of "b" lie inside the one group that holds them all... of "a" too.
    files = [f"a/{number}.jpg" for number in range(8)] + [f"b/{number}.jpg" for number in range(8)]
    targets = np.array([0] * 8 + [1] * 8)
    groups = [f"a{number}" for number in range(8)] + ["a0"] * 8
    with pytest.raises(DataError, match="'b' has 1 groups"):
        assign_roles(files, targets, groups, "ab", 0)


def recompressed(image: np.ndarray, quality: int) -> np.ndarray:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1))


def test_near_duplicates_share_a_group_and_other_images_do_not() -> None:
    scenes = [
        SyntheticEndoscope(seed, label, 288, 360).frame(0.0) for seed in range(6) for label in ("polyp", "normal")
    ]
    shifted = [np.roll(scene, 2, axis=1) for scene in scenes]
    brighter = [cv2.convertScaleAbs(scene, alpha=1.08) for scene in scenes]
    small = [cv2.resize(scene, (180, 144), interpolation=cv2.INTER_AREA) for scene in scenes]
    copies = [scenes, [recompressed(scene, 40) for scene in scenes], shifted, brighter, small]
    groups = near_duplicate_groups(np.stack([perceptual_hash(image) for images in copies for image in images]))
    by_scene = [{groups[copy * len(scenes) + number] for copy in range(len(copies))} for number in range(len(scenes))]
    assert all(len(names) == 1 for names in by_scene)
    assert len(set.union(*by_scene)) == len(scenes)


def test_near_duplicates_chain_and_the_limit_is_on_bits() -> None:
    hashes = np.zeros((4, 64), np.bool_)
    hashes[1, :6] = True  # 6 bits from the first
    hashes[2, :12] = True  # 6 from the second, 12 from the first
    hashes[3, :19] = True  # 7 from the third
    groups = near_duplicate_groups(hashes)
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_more_images_than_one_block_compare_with_all() -> None:
    hashes = np.random.default_rng(0).random((1500, 64)) < 0.5
    hashes[1400] = hashes[3]
    groups = near_duplicate_groups(hashes)
    assert groups[1400] == groups[3]
    assert len(set(groups)) == 1499


@pytest.mark.real_data
def test_real_frames_keep_their_groups_whole() -> None:
    root = os.environ.get("GENSOUP_DATA")
    if not root or not (Path(root) / "hyperkvasir5").is_dir():
        pytest.skip("GENSOUP_DATA names no folder with hyperkvasir5 in it")
    folder = LabelledFolder.open(Path(root) / "hyperkvasir5")
    assert folder.groups is not None
    for seed in (0, 1):
        roles = assign_roles(folder.files, folder.targets, folder.groups, folder.labels, seed)
        check(roles, folder.targets, list(folder.groups))
        for name, share in SHARES.items():
            assert len(roles[name]) / len(folder) == pytest.approx(share, abs=0.05)
