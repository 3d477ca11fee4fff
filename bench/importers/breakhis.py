"""BreakHis (Spanhol et al., IEEE TBME 63, 2016): ``BreaKHis_v1/histology_slides/breast/{benign,malignant}/SOB/TYPE/
SLIDE/40X/SOB_B_A-14-22549AB-40-001.png``. A name says procedure, class, type, year, patient and section, magnification
and number; several sections (AB, CD) may come from one patient."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from gensoup.bench.importers.plan import Choice, ImportPlan, Picture, choose_classes, find_root, folders_in, pictures_in
from gensoup.runtime.errors import DataError, UsageError

MAGNIFICATIONS = ("40", "100", "200", "400")
CLASSES = {
    "A": "adenosis",
    "F": "fibroadenoma",
    "PT": "phyllodes_tumor",
    "TA": "tubular_adenoma",
    "DC": "ductal_carcinoma",
    "LC": "lobular_carcinoma",
    "MC": "mucinous_carcinoma",
    "PC": "papillary_carcinoma",
}
_NAME = re.compile(
    r"SOB_[BM]_(?P<type>A|F|PT|TA|DC|LC|MC|PC)-(?P<patient>\d\d-\d+)(?P<section>[A-Z]*)"
    r"-(?P<magnification>40|100|200|400)-\d+\.png"
)


def plan(source: Path, choice: Choice) -> ImportPlan:
    """Every image of the chosen classes and magnification, grouped by patient (year and number, without the section).

    A slide that stands under two types (14-13412 does, under ductal and lobular carcinoma) cannot be right in both: its
    images are left out and named, or taken under both labels, in one group, with ``keep_conflicts``.
    Raises DataError for another layout.
    """
    if choice.magnification not in (*MAGNIFICATIONS, "all"):
        raise UsageError(f"--magnification {choice.magnification}: take {', '.join(MAGNIFICATIONS)} or all")
    root = find_root(
        source,
        "BreakHis",
        "BreaKHis_v1/histology_slides/breast with benign/SOB and malignant/SOB",
        lambda folder: (folder / "benign" / "SOB").is_dir() and (folder / "malignant" / "SOB").is_dir(),
        depth=4,
    )
    wanted = choose_classes(CLASSES.values(), choice)
    labels_of: dict[str, set[str]] = {}  # of every slide, whatever is chosen: a conflict is one in any selection
    taken: list[tuple[str, Picture]] = []
    foreign: list[Path] = []
    for folder, path in _images(root):
        match = _NAME.fullmatch(path.name)
        label = CLASSES[match["type"]] if match else None
        if match is None or label != folder:
            foreign.append(path)
            continue
        slide = match["patient"] + match["section"]
        labels_of.setdefault(slide, set()).add(label)
        if label in wanted and choice.magnification in ("all", match["magnification"]):
            taken.append((slide, Picture(label, path.name, path, match["patient"])))
    notes = []
    conflicts = {slide for slide, labels in labels_of.items() if len(labels) > 1}
    if held := [picture for slide, picture in taken if slide in conflicts]:
        named = "; ".join(f"{slide} ({', '.join(sorted(labels_of[slide]))})" for slide in sorted(conflicts))
        kept = "taken under both" if choice.keep_conflicts else "left out (--keep-conflicts takes them)"
        notes.append(f"{len(held)} images of slides that stand under two types, {kept}: {named}")
    if foreign:
        notes.append(
            f"{len(foreign)} images are not named as BreakHis names them or lie under another type, left out: "
            f"{foreign[0].relative_to(root)}"
        )
    pictures = [picture for slide, picture in taken if choice.keep_conflicts or slide not in conflicts]
    if lost := wanted - {picture.label for picture in pictures}:
        raise DataError(f"{root}: no images of {', '.join(sorted(lost))} are left, name the others with --classes")
    return ImportPlan(root, tuple(sorted(pictures)), tuple(notes))


def _images(root: Path) -> Iterator[tuple[str, Path]]:
    """The type's folder and each image in ``TYPE/SLIDE/MAGNIFICATION``."""
    for kind in ("benign", "malignant"):
        for folder in folders_in(root / kind / "SOB"):
            for slide in folders_in(folder):
                for magnification in folders_in(slide):
                    for path in pictures_in(magnification):
                        yield folder.name, path
