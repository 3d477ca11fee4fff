"""Small sets that follow the public ones name by name."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gensoup.bench.importers.hyperkvasir import CATEGORIES, ORGANS

Save = Callable[[Path, np.ndarray], Path]

HYPERKVASIR = {
    "cecum": (ORGANS[0], CATEGORIES[0]),
    "polyps": (ORGANS[0], CATEGORIES[1]),
    "bbps-2-3": (ORGANS[0], CATEGORIES[2]),
    "dyed-lifted-polyps": (ORGANS[0], CATEGORIES[3]),
    "z-line": (ORGANS[1], CATEGORIES[0]),
}
TRUTH_HEADER = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK\n"
METADATA_HEADER = "image,age_approx,anatom_site_general,lesion_id,sex\n"


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def uuid(number: int) -> str:
    return f"{number:08x}-1b2c-4d5e-8f90-0123456789ab"


@pytest.fixture
def kvasir(tmp_path: Path, save: Save) -> Path:
    """KVASIR v2 with two images a class."""
    from gensoup.bench.importers.kvasir_v2 import CLASSES

    root = tmp_path / "sets" / "kvasir-dataset-v2"
    for number, label in enumerate(CLASSES):
        for image in (2 * number, 2 * number + 1):
            save(root / label / f"{uuid(image)}.jpg", picture(image))
    return root


@pytest.fixture
def hyperkvasir(tmp_path: Path, save: Save) -> Path:
    """HyperKvasir's labelled images: five of the classes, three images each."""
    root = tmp_path / "sets" / "labeled-images"
    lines = ["Video file,Organ,Finding,Classification\n"]
    for number, (label, (organ, category)) in enumerate(HYPERKVASIR.items()):
        for image in range(3 * number, 3 * number + 3):
            save(root / organ / category / label / f"{uuid(image)}.jpg", picture(image))
            lines.append(f"{uuid(image)},{'Lower GI' if organ == ORGANS[0] else 'Upper GI'},{label},{category}\n")
    (root / "image-labels.csv").write_text("".join(lines), encoding="utf-8")
    return root


@pytest.fixture
def isic(tmp_path: Path, save: Save) -> Path:
    """ISIC 2019's training set: three classes, two lesions of two images, an image without a lesion."""
    root = tmp_path / "sets" / "ISIC2019"
    rows = [
        ("ISIC_0000000", "NV", "MSK4_0000001"),
        ("ISIC_0000001", "NV", "MSK4_0000001"),
        ("ISIC_0000022_downsampled", "NV", ""),
        ("ISIC_0000003", "MEL", "HAM_0000004"),
        ("ISIC_0000004", "MEL", "HAM_0000004"),
        ("ISIC_0000005", "MEL", "BCN_0000007"),
        ("ISIC_0000006", "SCC", "BCN_0000008"),
        ("ISIC_0000007", "SCC", "BCN_0000009"),
    ]
    truth, metadata = [TRUTH_HEADER], [METADATA_HEADER]
    for number, (image, label, lesion) in enumerate(rows):
        save(root / "ISIC_2019_Training_Input" / f"{image}.jpg", picture(number))
        cells = ["1.0" if name == label else "0.0" for name in TRUTH_HEADER.strip().split(",")[1:]]
        truth.append(f"{image},{','.join(cells)}\n")
        metadata.append(f"{image},55.0,anterior torso,{lesion},female\n")
    (root / "ISIC_2019_Training_GroundTruth.csv").write_text("".join(truth), encoding="utf-8")
    (root / "ISIC_2019_Training_Metadata.csv").write_text("".join(metadata), encoding="utf-8")
    (root / "ISIC_2019_Training_Input" / "ATTRIBUTION.txt").write_text("who took them", encoding="utf-8")
    return root


def add_slide(breast: Path, save: Save, letter: str, kind: str, slide: str, magnifications: tuple[int, ...]) -> None:
    """One image of a BreakHis slide at each magnification, named as in the set."""
    from gensoup.bench.importers.breakhis import CLASSES

    side = "benign" if letter == "B" else "malignant"
    folder = breast / side / "SOB" / CLASSES[kind] / f"SOB_{letter}_{kind}_{slide}"
    for magnification in magnifications:
        name = f"SOB_{letter}_{kind}-{slide}-{magnification}-001.png"
        save(folder / f"{magnification}X" / name, picture(zlib.crc32(name.encode())))


@pytest.fixture
def breakhis(tmp_path: Path, save: Save) -> Path:
    """BreakHis: patients of several sections, one of two types by its sections, a slide of two types."""
    breast = tmp_path / "sets" / "BreaKHis_v1" / "histology_slides" / "breast"
    for letter, kind, slide in (
        ("B", "A", "14-22549AB"),
        ("B", "A", "14-22549CD"),
        ("B", "F", "14-21998CD"),
        ("B", "PT", "14-21998AB"),
        ("B", "TA", "14-3411F"),
        ("M", "DC", "14-2523"),
        ("M", "DC", "14-13412"),
        ("M", "LC", "14-13412"),
        ("M", "LC", "14-15570C"),
        ("M", "MC", "14-13418DE"),
        ("M", "PC", "14-9146"),
    ):
        add_slide(breast, save, letter, kind, slide, (40, 100, 200, 400))
    return breast
