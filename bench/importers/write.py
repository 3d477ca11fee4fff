"""A planned import becomes a dataset folder; the set itself is only read."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from gensoup.bench.dataset import GROUPS_FILE
from gensoup.bench.importers.plan import ImportPlan
from gensoup.runtime.errors import DataError, UsageError
from gensoup.runtime.files import atomic_folder

Link = Literal["hard", "symbolic", "copy"]
Progress = Callable[[int, int], None]


def write_import(plan: ImportPlan, out: Path, link: Link = "hard", progress: Progress | None = None) -> int:
    """Write ``out/CLASS/NAME`` and, where the set knows groups, ``out/groups.csv``; returns how many files were copied.

    link: ``hard`` shares the file's bytes and falls back to a copy where that cannot be (another file system, another
        owner); ``symbolic`` points to the set, which then must stay where it is.
    progress: called with images done and in all.
    The folder appears when it is complete. Raises UsageError when ``out`` is not new or empty or lies in the set,
    DataError, naming the file, when an image of the set cannot be read, GenSoupError when ``out`` cannot be written.
    """
    if out.resolve().is_relative_to(plan.root.resolve()):
        raise UsageError(f"--out {out}: lies in the set itself, which stays as it is; name a folder elsewhere")
    copied = 0
    with atomic_folder(out) as folder:
        for label in plan.table():
            (folder / label).mkdir()
        for done, picture in enumerate(plan.pictures, 1):
            try:
                source = picture.source.resolve(strict=True)
                source.open("rb").close()
            except OSError as error:
                raise DataError(f"{picture.source}: cannot be read ({error.strerror})") from error
            copied += _place(source, folder / picture.label / picture.name, link)
            if progress is not None:
                progress(done, len(plan.pictures))
        if plan.grouped:
            with (folder / GROUPS_FILE).open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["file", "group"])
                writer.writerows((f"{picture.label}/{picture.name}", picture.group) for picture in plan.pictures)
    return copied


def _place(source: Path, target: Path, link: Link) -> bool:
    """Make ``target``; whether it had to be, or was to be, a copy."""
    if link == "symbolic":
        target.symlink_to(source)
        return False
    if link == "hard":
        try:
            os.link(source, target)
            return False
        except OSError:  # another file system, one without links, another owner: the reasons have many numbers
            target.unlink(missing_ok=True)
    shutil.copy2(source, target)
    return True
