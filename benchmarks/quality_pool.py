"""The images of a comparison: decoded once, dealt anew for every seed, the test kept out of the methods' reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.dataset import LabelledFolder
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import DataError
from gensoup.runtime.preprocess import Preprocess
from gensoup.train.learner import Examples
from gensoup.train.roles import SHARES, assign_roles
from gensoup.train.split import Split, split_folder


@dataclass(frozen=True)
class Pool:
    """What a method may see. roles: ``train``, ``search`` and ``soup`` as rows of ``images``; no test among them.

    images: image size → uint8 BGR [N, size, size, 3] of the whole folder; ``load`` is the one way to them.
    """

    images: Mapping[int, NDArray[np.uint8]]
    targets: NDArray[np.int64]
    classes: int
    roles: Mapping[str, NDArray[np.int64]]

    def load(self, role: str, size: int) -> Examples:
        """Images of a role at a size; ``refit``: of train and search, as the product's refit takes them; ``all``: of
        every role. Raises KeyError for a role that is not the method's."""
        rows = self._rows(role)
        return Examples(self.images[size][rows], self.targets[rows], self.classes)

    def count(self, role: str) -> int:
        """Images in a role, in ``refit`` or in ``all``."""
        return len(self._rows(role))

    def _rows(self, role: str) -> NDArray[np.int64]:
        together = {"refit": ("train", "search"), "all": tuple(self.roles)}.get(role, (role,))
        return np.unique(np.concatenate([self.roles[name] for name in together]))

    @property
    def one_validation_part(self) -> bool:
        """Whether ``search`` and ``soup`` are the same images."""
        return np.array_equal(self.roles["search"], self.roles["soup"])

    def merged(self) -> Pool:
        """The same images with one validation part, which serves as search and soup."""
        both = np.union1d(self.roles["search"], self.roles["soup"])
        return Pool(
            self.images, self.targets, self.classes, {"train": self.roles["train"], "search": both, "soup": both}
        )


def open_folder(path: Path, sizes: Sequence[int], cache: Path, progress: StageProgress) -> Split:
    """Decode a labelled folder once at every size and group what is nearly the same, as a run of the product does."""
    folder = LabelledFolder.open(path)
    return split_folder(folder, [Preprocess(size) for size in sorted(set(sizes))], "four", 0, cache, progress)


def deal(split: Split, seed: int, shares: Mapping[str, float] = SHARES) -> tuple[Pool, Pool]:
    """What methods may see under a seed, and the sealed test (its one role).

    shares without a ``soup``: ``search`` serves as both. Raises DataError when a group stands on two sides.
    """
    folder = split.folder
    roles = assign_roles(folder.files, folder.targets, split.groups, folder.labels, seed, shares)
    sealed = {"test": roles.pop("test")}
    roles.setdefault("soup", roles["search"])
    groups = np.asarray(split.groups)
    if both := set(groups[np.concatenate(list(roles.values()))]) & set(groups[sealed["test"]]):
        raise DataError(f"{folder.path}: group '{min(both)}' stands in the test and outside of it")
    images = {size: rows[split.rows] for size, rows in split.store.by_size.items()}
    classes = len(folder.labels)
    return Pool(images, folder.targets, classes, roles), Pool(images, folder.targets, classes, sealed)
