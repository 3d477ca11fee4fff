"""What is wrong, or only looks right, with a dataset folder: measured before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.dataset import LabelledFolder
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import DataError
from gensoup.train.border import BorderReading, draw_sample, read_border
from gensoup.train.duplicates import LookAlikes, Pair, same_bytes
from gensoup.train.roles import assign_roles, near_duplicate_groups
from gensoup.train.scan import Scan, scan

MOST_LISTED = 200  # pairs named in the result; all are counted
ASPECT_FACTOR = 1.25  # away from the median aspect ratio
SMALL_SHARE = 0.5  # of the median shorter side


@dataclass(frozen=True)
class ClassCount:
    """A class's readable images, its groups, its broken files, and the median height and width."""

    images: int
    groups: int
    broken: int
    median_size: tuple[int, int]


@dataclass(frozen=True)
class Sizes:
    """How many sizes (height × width) there are, the commonest with their images, aspect ratios (width / height), and
    the files whose aspect ratio or shorter side is far from the median."""

    distinct: int
    commonest: tuple[tuple[int, int, int], ...]
    median_aspect: float
    aspects: tuple[float, float]
    odd_aspect: tuple[str, ...]
    small: tuple[str, ...]


@dataclass(frozen=True)
class Apart:
    """Pairs of look-alikes that stand on two sides of something: all of them counted, the nearest named."""

    pairs: int
    nearest: tuple[Pair, ...]


@dataclass(frozen=True)
class RoleCount:
    """A role that training would deal: its images, and the fewest groups it gets of any class."""

    images: int
    fewest_groups: int


@dataclass(frozen=True, eq=False)
class Audit:
    """All that was measured of one folder; what it means is said by ``findings.findings_of``.

    grouped_by: ``groups.csv`` or ``near-duplicates``. ungrouped: images that groups.csv does not list.
    imbalance: images of the largest class over the smallest, None where a class has none that can be read.
    effective_classes: e to the entropy of the classes' shares, the number of equal classes that would be as spread.
    same_bytes: clusters of equal files. look_alikes: near-duplicate pairs in all; across_*: those on two sides.
    roles: what training would deal with this seed, or why it would refuse.
    border: see BorderReading, or why it was not measured.
    """

    path: str
    seed: int
    files: int
    ignored: int
    broken: Mapping[str, str]
    classes: Mapping[str, ClassCount]
    imbalance: float | None
    effective_classes: float
    sizes: Sizes
    grouped_by: str
    largest_group: int
    ungrouped: int
    unmatched_groups: int
    same_bytes: tuple[tuple[str, ...], ...]
    look_alikes: int
    across_classes: Apart
    across_groups: Apart
    across_roles: Apart
    roles: Mapping[str, RoleCount] | str
    border: BorderReading | str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def audit(folder: LabelledFolder, seed: int, progress: StageProgress) -> Audit:
    """Read every image of ``folder`` once and measure. ``seed`` deals the roles as training would, and the folds.

    Raises DataError when not a single image can be read. Nothing is ever written.
    """
    traits = scan(folder, draw_sample(folder.targets, seed), progress)
    good = np.flatnonzero(traits.sizes[:, 0] > 0)
    if not len(good):
        file, reason = next(iter(traits.broken.items()))
        raise DataError(f"{folder.path}: none of its {len(folder)} images can be read ({file}: {reason})")
    usable = folder.subset(good)
    digests = [traits.digests[index] for index in good]
    alike = LookAlikes.find(traits.hashes[good], traits.middles[good], digests)
    groups = usable.groups or tuple(near_duplicate_groups(traits.hashes[good]))
    roles, role_of = _deal(usable, groups, seed)

    def apart(attribute: Sequence[Hashable]) -> Apart:
        nearest = (
            Pair(usable.files[a], usable.files[b], bits, round(correlation, 4), digests[a] == digests[b])
            for a, b, bits, correlation in alike.apart(attribute, MOST_LISTED)
        )
        return Apart(alike.count_apart(attribute), tuple(nearest))

    counts = np.bincount(usable.targets, minlength=len(folder.labels))
    shares = counts[counts > 0] / counts.sum()
    sampled = np.searchsorted(good, traits.sampled)
    joined = alike.join(groups)
    return Audit(
        path=str(folder.path),
        seed=seed,
        files=len(folder),
        ignored=len(folder.ignored),
        broken=traits.broken,
        classes=_classes(folder, usable, traits, good, groups),
        imbalance=float(counts.max() / counts.min()) if counts.min() else None,
        effective_classes=float(np.exp(-(shares * np.log(shares)).sum())),
        sizes=_sizes(usable.files, traits.sizes[good]),
        grouped_by="near-duplicates" if usable.groups is None else "groups.csv",
        largest_group=max(Counter(groups).values()),
        ungrouped=sum(map(str.__eq__, groups, usable.files)) if usable.groups is not None else 0,
        unmatched_groups=folder.unmatched_groups,
        same_bytes=tuple(tuple(usable.files[index] for index in cluster) for cluster in same_bytes(digests)),
        look_alikes=len(alike),
        across_classes=apart(usable.targets.tolist()),
        across_groups=apart(groups),
        across_roles=Apart(0, ()) if role_of is None else apart(role_of),
        roles=roles,
        border=read_border(
            traits.strips,
            traits.thumbnails,
            usable.targets[sampled],
            [joined[index] for index in sampled.tolist()],
            folder.labels,
            seed,
            progress,
        ),
    )


def _deal(
    usable: LabelledFolder, groups: Sequence[str], seed: int
) -> tuple[dict[str, RoleCount] | str, list[str] | None]:
    """The roles training would deal and each image's, or why it would refuse."""
    try:
        dealt = assign_roles(usable.files, usable.targets, groups, usable.labels, seed)
    except DataError as error:
        return str(error), None
    role_of = [""] * len(usable)
    roles = {}
    for role, indices in dealt.items():
        for index in indices.tolist():
            role_of[index] = role
        seen = {(int(usable.targets[index]), groups[index]) for index in indices.tolist()}
        groups_of_class = np.bincount([label for label, _ in seen], minlength=len(usable.labels))
        roles[role] = RoleCount(len(indices), int(groups_of_class.min()))
    return roles, role_of


def _classes(
    folder: LabelledFolder, usable: LabelledFolder, traits: Scan, good: NDArray[np.int64], groups: Sequence[str]
) -> dict[str, ClassCount]:
    sizes = traits.sizes[good]
    broken = Counter(
        int(target) for file, target in zip(folder.files, folder.targets, strict=True) if file in traits.broken
    )
    classes = {}
    for number, label in enumerate(folder.labels):
        mine = np.flatnonzero(usable.targets == number)
        height, width = np.median(sizes[mine], axis=0).round() if len(mine) else (0, 0)
        size = (int(height), int(width))
        classes[label] = ClassCount(len(mine), len({groups[index] for index in mine.tolist()}), broken[number], size)
    return classes


def _sizes(files: Sequence[str], sizes: NDArray[np.int64]) -> Sizes:
    shapes = Counter((int(height), int(width)) for height, width in sizes)
    aspects, shorter = sizes[:, 1] / sizes[:, 0], sizes.min(1)
    median = float(np.median(aspects))
    factor = np.maximum(aspects / median, median / aspects)
    small = shorter < SMALL_SHARE * np.median(shorter)
    return Sizes(
        distinct=len(shapes),
        commonest=tuple((height, width, count) for (height, width), count in shapes.most_common(5)),
        median_aspect=median,
        aspects=(float(aspects.min()), float(aspects.max())),
        odd_aspect=tuple(files[index] for index in np.flatnonzero(factor > ASPECT_FACTOR).tolist()),
        small=tuple(files[index] for index in np.flatnonzero(small).tolist()),
    )
