"""HyperKvasir's labelled images (Borgli et al., Scientific Data 2020): ``labeled-images/ORGAN/CATEGORY/CLASS/UUID.jpg``
and ``image-labels.csv`` (``Video file,Organ,Finding,Classification``); 23 classes, no patients."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gensoup.bench.importers.plan import (
    Choice,
    ImportPlan,
    Picture,
    check_missing,
    choose_classes,
    find_root,
    folders_in,
    pictures_in,
    read_table,
)
from gensoup.runtime.errors import DataError

TABLE = "image-labels.csv"
ORGANS = ("lower-gi-tract", "upper-gi-tract")
CATEGORIES = (
    "anatomical-landmarks",
    "pathological-findings",
    "quality-of-mucosal-views",
    "therapeutic-interventions",
)


def plan(source: Path, choice: Choice) -> ImportPlan:
    """Every image of the chosen classes; a class is called after its folder.

    The table is compared with the folders: what it names and is not there is refused (or skipped), a folder that says
    otherwise than the table is noted. Raises DataError for another layout or missing images.
    """
    root = find_root(
        source,
        "HyperKvasir's labelled images",
        f"{' or '.join(ORGANS)} (of labeled-images)",
        lambda folder: any((folder / organ).is_dir() for organ in ORGANS),
    )
    folders = _class_folders(root)
    if not folders:
        raise DataError(f"{root}: no class folders in {'/'.join((ORGANS[0], CATEGORIES[0]))} and the like, unpack all")
    wanted = choose_classes(folders, choice)
    pictures = [Picture(label, path.name, path) for label in sorted(wanted) for path in pictures_in(folders[label])]
    notes = ["HyperKvasir names no patients: no groups.csv, training finds near-duplicates and keeps them together"]
    if (root / TABLE).is_file():
        notes += _compare(root / TABLE, pictures, wanted, choice)
    else:
        notes.append(f"{TABLE} is not there: whether images are missing could not be checked")
    return ImportPlan(root, tuple(sorted(pictures)), tuple(notes))


def _class_folders(root: Path) -> Mapping[str, Path]:
    """Class → its folder. Raises DataError when two folders have one name."""
    folders: dict[str, Path] = {}
    for organ in ORGANS:
        for category in CATEGORIES:
            parent = root / organ / category
            for folder in folders_in(parent) if parent.is_dir() else ():
                if folder.name in folders:
                    raise DataError(f"{folder}: the class is at {folders[folder.name]} too, remove one of them")
                if pictures_in(folder):
                    folders[folder.name] = folder
    return folders


def _compare(table: Path, pictures: list[Picture], wanted: set[str], choice: Choice) -> list[str]:
    """Notes on where the set's table and its folders differ. Its ``Video file`` is an image's name without suffix."""
    label_of = {Path(picture.name).stem: picture.label for picture in pictures}
    missing: list[str] = []
    other: list[str] = []
    listed: set[str] = set()
    for _, row in read_table(table, ("Video file", "Finding")):
        name, finding = Path(row["Video file"]).stem, row["Finding"]
        listed.add(name)
        if name not in label_of:
            missing += [name] * (finding in wanted)
        elif label_of[name] != finding:
            other.append(f"{label_of[name]}/{name} is '{finding}' there")
    notes = check_missing(missing, table, choice)
    if other:
        notes.append(f"{TABLE} gives {len(other)} images another class than their folder, which holds: {other[0]}")
    if unlisted := sorted(label_of.keys() - listed):
        notes.append(f"{TABLE} lacks {len(unlisted)} of the images, taken by their folder: {unlisted[0]}")
    return notes
