"""The run's own images as the network takes them: validation images for parity, training images for calibration."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.dataset import GROUPS_FILE, LabelledFolder
from gensoup.bench.roles import ROLES_FILE, read_roles
from gensoup.export.trained import TrainedModel
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import DataError
from gensoup.runtime.images import read_image

PARITY_ROLES = ("search", "soup")
CALIBRATION_ROLES = ("train",)
MAX_PARITY_FRAMES = 512
MAX_CALIBRATION_FRAMES = 128


def evenly(count: int, most: int) -> slice:
    """At most ``most`` of ``count`` things, spread over all of them."""
    return slice(None, None, max(1, -(-count // most)))


@dataclass(frozen=True, eq=False)
class Samples:
    """Images of a run, preprocessed.

    files: relative to the dataset folder. frames: uint8 BGR [N, H, W, 3]. targets: int64 [N]. roles: of each file.
    groups: of each file; None where the dataset has no ``groups.csv``.
    """

    files: tuple[str, ...]
    frames: NDArray[np.uint8]
    targets: NDArray[np.int64]
    roles: tuple[str, ...]
    groups: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def of_role(self, role: str) -> list[int]:
        """Places of a role's images; all where none is of that role (a run with one validation part)."""
        return [place for place, one in enumerate(self.roles) if one == role] or list(range(len(self)))


def read_samples(
    run: Path, data: Path, trained: TrainedModel, roles: Collection[str], most: int, progress: StageProgress
) -> Samples:
    """At most ``most`` images of these roles, spread over all of them, read and preprocessed anew from ``data``.

    Raises DataError when they are not there.
    """
    known = read_roles(run / ROLES_FILE)
    role_of = {file: role for role in roles for file in known.get(role, ())}
    files = sorted(role_of)
    files = files[evenly(len(files), most)]
    if not files or not all((data / file).is_file() for file in files):
        raise DataError(
            f"{data}: the run's {', '.join(roles)} images are not there; name the dataset folder with --data"
        )
    index = {label: number for number, label in enumerate(trained.labels)}
    frames = []
    for number, file in enumerate(files):
        frames.append(trained.preprocess(read_image(data / file)))
        progress("read " + ", ".join(roles), number + 1, len(files))
    targets = [index[unicodedata.normalize("NFC", Path(file).parts[0])] for file in files]
    return Samples(
        tuple(files),
        np.stack(frames),
        np.array(targets, np.int64),
        tuple(role_of[file] for file in files),
        _groups(data, files),
    )


def _groups(data: Path, files: list[str]) -> tuple[str, ...] | None:
    if not (data / GROUPS_FILE).is_file():
        return None
    folder = LabelledFolder.open(data).only(files)
    assert folder.groups is not None
    return folder.groups
