"""ISIC 2019's training set: ``ISIC_2019_Training_Input/ISIC_0000000.jpg`` (some ``…_downsampled.jpg``),
``ISIC_2019_Training_GroundTruth.csv`` (one column a class, 0.0 or 1.0) and ``ISIC_2019_Training_Metadata.csv``, whose
``lesion_id`` (empty for some) says which images show one lesion."""

from __future__ import annotations

from pathlib import Path

from gensoup.bench.importers.plan import (
    Choice,
    ImportPlan,
    Picture,
    check_missing,
    choose_classes,
    find_root,
    pictures_in,
    read_table,
)
from gensoup.runtime.errors import DataError

TRUTH = "ISIC_2019_Training_GroundTruth.csv"
METADATA = "ISIC_2019_Training_Metadata.csv"
IMAGES = "ISIC_2019_Training_Input"
CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
_DOWNSAMPLED = "_downsampled"


def plan(source: Path, choice: Choice) -> ImportPlan:
    """Every image of the chosen classes, grouped by lesion; an image without one is a group of its own.

    Raises DataError for another layout, a table that cannot be understood, or missing images.
    """
    expected = f"{TRUTH} in SOURCE"
    root = find_root(source, "ISIC-2019", expected, lambda folder: (folder / TRUTH).is_file(), above=True)
    if not (root / METADATA).is_file():
        raise DataError(f"{root / METADATA}: is missing and says which images show one lesion, download it beside")
    label_of = _read_truth(root / TRUTH)
    wanted = choose_classes(set(label_of.values()), choice)
    files = {path.stem: path for path in pictures_in(_image_folder(root))}
    lesion_of = {row["image"]: row["lesion_id"] for _, row in read_table(root / METADATA, ("image", "lesion_id"))}
    pictures: list[Picture] = []
    missing: list[str] = []
    alone = 0
    for image, label in label_of.items():
        if label not in wanted:
            continue
        path = files.get(image) or files.get(_other_name(image))
        if path is None:
            missing.append(image)
            continue
        lesion = lesion_of.get(image) or lesion_of.get(_other_name(image))
        alone += not lesion
        pictures.append(Picture(label, path.name, path, lesion or path.stem))
    notes = check_missing(missing, root / TRUTH, choice)
    if alone:
        notes.append(f"{alone} images have no lesion_id in {METADATA}; each is a group of its own")
    labels_of: dict[str | None, set[str]] = {}
    for picture in pictures:
        labels_of.setdefault(picture.group, set()).add(picture.label)
    if several := sorted(str(group) for group, labels in labels_of.items() if len(labels) > 1):
        notes.append(f"{len(several)} lesions carry two labels and stay whole: {', '.join(several[:5])}")
    return ImportPlan(root, tuple(sorted(pictures)), tuple(notes))


def _read_truth(path: Path) -> dict[str, str]:
    """Image → class. Raises DataError, naming the line, for a row with no class or several."""
    label_of: dict[str, str] = {}
    for line, row in read_table(path, ("image", *CLASSES)):
        try:
            chosen = [label for label in CLASSES if float(row[label]) == 1]
        except ValueError as error:
            raise DataError(f"{path}: line {line} has a cell that is no number ({error})") from error
        if len(chosen) != 1:
            raise DataError(f"{path}: line {line} ('{row['image']}') marks {len(chosen)} classes, it must mark one")
        if label_of.setdefault(row["image"], chosen[0]) != chosen[0]:
            raise DataError(f"{path}: line {line} gives '{row['image']}' a second class, keep one of the lines")
    return label_of


def _image_folder(root: Path) -> Path:
    """The archive unpacks into a folder in a folder of one name where it is unpacked by a file manager."""
    folder = root / IMAGES
    if not folder.is_dir():
        raise DataError(f"{folder}: is missing, unpack {IMAGES}.zip beside {TRUTH}")
    return folder / IMAGES if (folder / IMAGES).is_dir() else folder


def _other_name(image: str) -> str:
    return image.removesuffix(_DOWNSAMPLED) if image.endswith(_DOWNSAMPLED) else image + _DOWNSAMPLED
