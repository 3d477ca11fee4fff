"""What an import takes from a public set: which pictures under which class and group."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from gensoup.runtime.errors import DataError, UsageError
from gensoup.runtime.images import IMAGE_SUFFIXES

_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Choice:
    """What of a set is wanted.

    classes: these alone; None takes all.
    skip_missing: leave out pictures that the set's own table names and that are not there, instead of refusing.
    magnification: ``40``, ``100``, ``200``, ``400`` or ``all`` (BreakHis).
    keep_conflicts: take pictures of slides that stand under two labels too (BreakHis).
    """

    classes: tuple[str, ...] | None = None
    skip_missing: bool = False
    magnification: str = "all"
    keep_conflicts: bool = False


@dataclass(frozen=True, order=True)
class Picture:
    """One image: its class, its file name there, where it lies now, and its patient or lesion (None: not known)."""

    label: str
    name: str
    source: Path
    group: str | None = None


@dataclass(frozen=True)
class ImportPlan:
    """The pictures of a set, sorted, and what the user should know of it.

    root: the folder of the set that was found at or near the one that was named.
    notes: one line each: what was left out, what is not known, what contradicts itself.
    """

    root: Path
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        labels = {picture.label for picture in self.pictures}
        if len(labels) < 2:
            found = f"one class alone ('{min(labels)}')" if labels else "no images"
            raise DataError(f"{self.root}: {found} to import, a dataset needs at least two classes")
        seen: dict[tuple[str, str], Path] = {}
        for picture in self.pictures:
            other = seen.setdefault((picture.label, picture.name), picture.source)
            if other != picture.source:
                raise DataError(f"{picture.source}: has the name of {other} in the same class, rename one of them")

    @property
    def grouped(self) -> bool:
        """Whether the set says which pictures belong together."""
        return any(picture.group is not None for picture in self.pictures)

    def table(self) -> dict[str, tuple[int, int | None]]:
        """Per class its images and its groups (None where the set has no groups)."""
        rows: dict[str, tuple[int, int | None]] = {}
        for label in sorted({picture.label for picture in self.pictures}):
            mine = [picture for picture in self.pictures if picture.label == label]
            rows[label] = (len(mine), len({picture.group for picture in mine}) if self.grouped else None)
        return rows


def find_root(
    source: Path, title: str, expected: str, is_root: Callable[[Path], bool], depth: int = 2, above: bool = False
) -> Path:
    """The set's folder: ``source``, else the only one up to ``depth`` levels below, else (``above``) the one around it.

    Archives unpack into a folder of their own, sometimes into two. Raises DataError, saying what was expected and what
    lies there instead.
    """
    if not source.exists():
        raise DataError(f"{source}: no such folder, check the path of the set")
    if not source.is_dir():
        raise DataError(f"{source}: is a file, unpack it and give the folder")
    level = [source]
    for _ in range(depth + 1):
        if found := [folder for folder in level if is_root(folder)]:
            if len(found) > 1:
                places = ", ".join(str(folder) for folder in found[:_NAMES_SHOWN])
                raise DataError(f"{source}: holds {title} {len(found)} times ({places}), give one of these folders")
            return found[0]
        level = [folder for parent in level for folder in folders_in(parent)]
    if above and is_root(source.resolve().parent):
        return source.resolve().parent
    names = sorted(path.name for path in source.iterdir() if not path.name.startswith("."))
    shown = ", ".join(names[:_NAMES_SHOWN]) + (f" and {len(names) - _NAMES_SHOWN} more" * (len(names) > _NAMES_SHOWN))
    raise DataError(f"{source}: this does not look like {title}: expected {expected}; found {shown or 'nothing'}")


def folders_in(path: Path) -> list[Path]:
    """The visible folders directly in ``path``, sorted. Raises DataError when it cannot be listed."""
    return [entry for entry in _entries(path) if entry.is_dir()]


def pictures_in(path: Path) -> list[Path]:
    """The visible image files directly in ``path``, sorted. Raises DataError when it cannot be listed."""
    return [entry for entry in _entries(path) if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.is_dir()]


def choose_classes(available: Iterable[str], choice: Choice) -> set[str]:
    """The classes to take. Raises UsageError for one that is not there, with the nearest name, or for one alone."""
    known = sorted(available)
    if choice.classes is None:
        return set(known)
    for label in choice.classes:
        if label not in known:
            near = get_close_matches(label.lower(), known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise UsageError(f"--classes {label}: no such class; {hint}there are {', '.join(known)}")
    if len(set(choice.classes)) < 2:
        raise UsageError(f"--classes {','.join(choice.classes)}: name at least two classes")
    return set(choice.classes)


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file as (line number, column → text).

    Raises DataError when the file cannot be read as UTF-8 CSV, lacks one of ``columns`` or has a row cut short.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            names = rows.fieldnames or ()
            if missing := [column for column in columns if column not in names]:
                raise DataError(f"{path}: has no column '{missing[0]}' ({', '.join(names) or 'it is empty'})")
            for row in rows:
                if None in row or None in row.values():
                    raise DataError(f"{path}: line {rows.line_num} has not the {len(names)} cells of the first line")
                yield rows.line_num, {name: row[name].strip() for name in columns}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 CSV ({error}), download it again") from error


def check_missing(missing: Sequence[str], table: Path, choice: Choice) -> list[str]:
    """A note on pictures that ``table`` names and that are not there. Raises DataError unless they may be skipped."""
    if not missing:
        return []
    names = f"{missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
    if not choice.skip_missing:
        raise DataError(f"{table}: names images that are not there ({names}), complete them or add --skip-missing")
    return [f"{table.name} names {len(missing)} images that are not there, left out: {names}"]


def _entries(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if not entry.name.startswith((".", "__MACOSX")))
    except OSError as error:
        raise DataError(f"{path}: cannot be listed ({error.strerror}), check its permissions") from error
