"""The images of a run: decoded, grouped and dealt into roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.dataset import LabelledFolder
from gensoup.runtime.console import StageProgress
from gensoup.runtime.preprocess import Preprocess
from gensoup.train.image_cache import ImageCache
from gensoup.train.images import ImageStore, Selection, decode
from gensoup.train.learner import Examples
from gensoup.train.roles import SHARES, THREE_SHARES, assign_roles, near_duplicate_groups


@dataclass(frozen=True)
class Split:
    """Usable images of a folder: their decoded store, roles (indices into ``folder.files``) and groups."""

    folder: LabelledFolder
    store: ImageStore
    rows: NDArray[np.int64]
    roles: Mapping[str, NDArray[np.int64]]
    groups: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def examples(self, role: str, size: int) -> Examples:
        """Images of one role at one size, read as they are used; ``refit``: of train and search; ``all``: of all but
        the test; sorted by class."""
        together = {"refit": ("train", "search"), "all": ("train", "search", "soup")}.get(role, (role,))
        chosen = np.unique(np.concatenate([self.roles[name] for name in together]))
        images = Selection(self.store.by_size[size], self.rows[chosen])
        return Examples(images, self.folder.targets[chosen], len(self.folder.labels))

    def files_of_roles(self) -> dict[str, tuple[str, ...]]:
        """The files of each role; of two roles that are the same images the first alone."""
        named: dict[str, tuple[str, ...]] = {}
        for role, rows in self.roles.items():
            files = tuple(self.folder.files[index] for index in rows)
            if files not in named.values():
                named[role] = files
        return named


def split_folder(
    folder: LabelledFolder,
    steps: Sequence[Preprocess],
    roles: str,
    seed: int,
    cache: Path,
    progress: StageProgress,
    kept: ImageCache | None = None,
) -> Split:
    """Decode a folder by each of ``steps``, group what is nearly the same and deal the groups into roles.

    roles: ``three`` lets one part serve as search and soup. kept: where images of earlier runs are and these stay; None
    decodes into ``cache``, which is the caller's to remove. Raises DataError when a class has too few groups.
    """
    hashed = folder.groups is None
    if kept is not None:
        store = kept.decoded(folder, steps, hashed, progress)
    else:
        store = decode(folder, steps, cache, hashed, progress)
    rows = np.array([index for index, file in enumerate(folder.files) if file not in store.skipped], np.int64)
    usable = folder.subset(rows)
    notes = [f"{len(folder.ignored)} other files in the folder were ignored"] if folder.ignored else []
    if store.hashes is not None:
        groups = tuple(near_duplicate_groups(store.hashes[rows]))
    else:
        assert usable.groups is not None
        groups = usable.groups
        alone = sum(group == file for group, file in zip(groups, usable.files, strict=True))
        if folder.unmatched_groups:
            notes.append(f"groups.csv: {folder.unmatched_groups} lines name no image of this folder")
        if alone:
            notes.append(f"groups.csv: {alone} images stand in no line; each counts as a group of its own")
    shares = SHARES if roles == "four" else THREE_SHARES
    dealt = assign_roles(usable.files, usable.targets, groups, usable.labels, seed, shares)
    if roles == "three":
        dealt = {"train": dealt["train"], "search": dealt["search"], "soup": dealt["search"], "test": dealt["test"]}
    return Split(usable, store, rows, dealt, groups, tuple(notes))
