"""KVASIR v2 (Pogorelov et al., MMSys 2017): ``kvasir-dataset-v2/CLASS/UUID.jpg``, eight classes, no patients."""

from __future__ import annotations

from pathlib import Path

from gensoup.bench.importers.plan import Choice, ImportPlan, Picture, choose_classes, find_root, folders_in, pictures_in
from gensoup.runtime.errors import DataError

CLASSES = (
    "dyed-lifted-polyps",
    "dyed-resection-margins",
    "esophagitis",
    "normal-cecum",
    "normal-pylorus",
    "normal-z-line",
    "polyps",
    "ulcerative-colitis",
)
# Enough to tell it from HyperKvasir, which has two of these names on its own lowest level.
_TELLING = ("normal-cecum", "normal-pylorus", "normal-z-line")


def plan(source: Path, choice: Choice) -> ImportPlan:
    """Every image of the chosen classes. Raises DataError when a class folder is missing or has no images."""
    root = find_root(
        source,
        "KVASIR v2",
        f"the class folders {', '.join(CLASSES)} (of kvasir-dataset-v2)",
        lambda folder: any((folder / label).is_dir() for label in _TELLING),
    )
    wanted = choose_classes(CLASSES, choice)
    pictures = []
    for label in sorted(wanted):
        found = pictures_in(root / label) if (root / label).is_dir() else []
        if not found:
            raise DataError(f"{root / label}: has no images, unpack the whole set or name the others with --classes")
        pictures += [Picture(label, path.name, path) for path in found]
    notes = ["KVASIR v2 names no patients: no groups.csv, training finds near-duplicates and keeps them together"]
    if unknown := [folder.name for folder in folders_in(root) if folder.name not in CLASSES]:
        notes.append(f"not of KVASIR v2, left out: {', '.join(unknown)}")
    return ImportPlan(root, tuple(sorted(pictures)), tuple(notes))
