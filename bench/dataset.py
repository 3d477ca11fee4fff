"""A folder of labelled images: one sub-folder a class, optionally ``groups.csv``. Only ever read, never written to."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import DataError
from gensoup.runtime.images import IMAGE_SUFFIXES

GROUPS_FILE = "groups.csv"
_LAYOUT = "make one sub-folder of images for each class"


@dataclass(frozen=True, eq=False)
class LabelledFolder:
    """What a dataset folder holds.

    path: the folder itself.
    labels: the classes, named after their sub-folders (Unicode NFC), in natural order (2 before 10).
    files: images as POSIX paths relative to ``path``, spelt as on disk, sorted.
    targets: int64 [N], index into ``labels`` of each file.
    groups: patient, examination or scene of each file, from ``groups.csv``; a file it does not list is a group of its
        own, named by its path. None where there is no ``groups.csv``.
    ignored: what lies in the folder and is no image of a class; hidden files are left out silently.
    unmatched_groups: lines of ``groups.csv`` that name no image of this folder.
    """

    path: Path
    labels: tuple[str, ...]
    files: tuple[str, ...]
    targets: NDArray[np.int64]
    groups: tuple[str, ...] | None = None
    ignored: tuple[str, ...] = ()
    unmatched_groups: int = 0

    @classmethod
    def open(cls, path: str | Path) -> LabelledFolder:
        """List a dataset folder; no image is decoded.

        Sub-folders inside a class belong to it. Raises DataError, one line with the folder and the remedy, when it is
        missing, no folder, empty, has no class folders, one class alone, a class without images, or a ``groups.csv``
        that cannot be understood.
        """
        path = Path(path)
        if not path.exists():
            raise DataError(f"{path}: no such folder, check the path of the dataset")
        if not path.is_dir():
            raise DataError(f"{path}: is a file, give the folder that holds one sub-folder for each class")
        folders, loose = _top_level(path)
        if not folders:
            raise DataError(f"{path}: {_why_no_classes(loose)}, {_LAYOUT}")
        if len(folders) == 1:
            raise DataError(f"{path}: has one class alone ('{next(iter(folders))}'), {_LAYOUT}, at least two")
        labels = tuple(sorted(folders, key=_natural_key))
        entries: list[tuple[str, int]] = []
        ignored = [name for name in loose if name != GROUPS_FILE]
        empty = []
        for index, label in enumerate(labels):
            below = [f"{folders[label]}/{name}" for name in _files_below(path / folders[label])]
            images = [name for name in below if _is_image(name)]
            ignored += [name for name in below if not _is_image(name)]
            entries += [(name, index) for name in images]
            if not images:
                empty.append(label)
        if empty:
            raise DataError(f"{path}: no images in {_quoted(empty)}, add some or remove the folder")
        entries.sort()
        files = tuple(name for name, _ in entries)
        groups, unmatched = _read_groups(path / GROUPS_FILE, files) if GROUPS_FILE in loose else (None, 0)
        targets = np.array([index for _, index in entries], np.int64)
        return cls(path, labels, files, targets, groups, tuple(sorted(ignored)), unmatched)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The images' paths, in the order of ``files``."""
        return tuple(self.path / name for name in self.files)

    def subset(self, indices: Sequence[int] | NDArray[np.integer]) -> LabelledFolder:
        """The same folder with these files alone, in this order; the labels stay."""
        chosen = [int(index) for index in indices]
        return replace(
            self,
            files=tuple(self.files[index] for index in chosen),
            targets=self.targets[chosen],
            groups=None if self.groups is None else tuple(self.groups[index] for index in chosen),
        )

    def only(self, files: Iterable[str]) -> LabelledFolder:
        """The same folder with the named files alone. Raises DataError when it lacks one of them."""
        position = {file: index for index, file in enumerate(self.files)}
        wanted = list(files)
        if missing := [file for file in wanted if file not in position]:
            raise DataError(f"{self.path}: lacks {missing[0]} and {len(missing) - 1} more of the files asked for")
        return self.subset([position[file] for file in wanted])

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the files' relative names and sizes in bytes, and their groups.

        Never over their content: a run asks for it at every start and resume, and reading tens of gigabytes, maybe
        over a network, would cost more than the start itself. Splits depend on just these names and groups, so
        what they depend on is covered. Where the folder lies, and how its file system spells accents, does not matter.
        """
        groups = self.groups or ("",) * len(self.files)
        lines = [
            f"{_nfc(name)}\0{_size(self.path / name)}\0{_nfc(group)}\n"
            for name, group in zip(self.files, groups, strict=True)
        ]
        return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _top_level(path: Path) -> tuple[dict[str, str], list[str]]:
    """Class folders, label → name on disk, and the names of the files beside them."""
    folders: dict[str, str] = {}
    loose: list[str] = []
    try:
        names = sorted(os.listdir(path))  # noqa: PTH208  names alone are wanted
    except OSError as error:
        raise DataError(f"{path}: cannot be listed ({error.strerror}), check its permissions") from error
    for name in names:
        if _is_hidden(name):
            continue
        _check_name(path, name)
        if not (path / name).is_dir():
            loose.append(name)
        elif _nfc(name) in folders:
            raise DataError(f"{path}: two class folders are called '{_nfc(name)}' (spelt differently), merge them")
        else:
            folders[_nfc(name)] = name
    return folders, loose


def _files_below(folder: Path) -> Iterator[str]:
    """Every visible file below ``folder``, as POSIX paths relative to it."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror}), check its permissions") from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        for name in (name for name in names if not _is_hidden(name)):
            _check_name(Path(parent), name)
            yield (Path(parent) / name).relative_to(folder).as_posix()


def _read_groups(path: Path, files: tuple[str, ...]) -> tuple[tuple[str, ...], int]:
    """Each file's group, and how many lines named no file. Raises DataError for what is no ``file,group`` table."""
    known = {_nfc(name) for name in files}
    group_of: dict[str, str] = {}
    unmatched = 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            if [cell.strip() for cell in next(rows, [])] != ["file", "group"]:
                raise DataError(f"{path}: the first line must be 'file,group'")
            for row in rows:
                if not row:
                    continue
                if len(row) != 2 or not row[0].strip() or not row[1].strip():
                    raise DataError(f"{path}: line {rows.line_num} must be a file and its group, 'file,group'")
                name = _nfc(row[0].strip().replace("\\", "/")).removeprefix("./")
                if name not in known:
                    unmatched += 1
                elif group_of.setdefault(name, row[1].strip()) != row[1].strip():
                    raise DataError(f"{path}: line {rows.line_num} puts '{name}' into a second group, keep one of them")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 CSV ({error}), save it as 'file,group' lines") from error
    if unmatched and not group_of:
        raise DataError(f"{path}: no line names an image of this folder, write paths like '{files[0]}'")
    return tuple(group_of.get(_nfc(name), _nfc(name)) for name in files), unmatched


def _natural_key(label: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts 2 before 10, numbers before letters; the label itself decides between equals such as 2 and 02."""
    parts = [part for part in re.split(r"(\d+)", label.casefold()) if part]
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], label


def _why_no_classes(loose: list[str]) -> str:
    if any(_is_image(name) for name in loose):
        return "the images lie directly in it, without class folders"
    return "no class folders in it" if loose else "the folder is empty"


def _check_name(parent: Path, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{parent}: the name {name!a} in it is not UTF-8, rename it") from error


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a broken link: reading it will name it as a broken image
        return -1


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
