"""ISIC 2019's training set."""

from __future__ import annotations

from pathlib import Path

import pytest

from gensoup.bench.importers.isic_2019 import IMAGES, METADATA, TRUTH, plan
from gensoup.bench.importers.plan import Choice
from gensoup.runtime.errors import DataError

ZEROS = "0.0,0.0,0.0,0.0,0.0,0.0,0.0"


def append(path: Path, line: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + line, encoding="utf-8")


def test_classes_from_the_truth_and_groups_from_the_lesions(isic: Path) -> None:
    for source in (isic, isic.parent, isic / IMAGES):
        found = plan(source, Choice())
        assert found.root == isic
        assert found.table() == {"MEL": (3, 2), "NV": (3, 2), "SCC": (2, 2)}
    group_of = {picture.name: picture.group for picture in found.pictures}
    assert group_of["ISIC_0000000.jpg"] == group_of["ISIC_0000001.jpg"] == "MSK4_0000001"
    assert group_of["ISIC_0000022_downsampled.jpg"] == "ISIC_0000022_downsampled"
    assert found.notes == (f"1 images have no lesion_id in {METADATA}; each is a group of its own",)


def test_an_image_downsampled_on_disk_alone_is_found(isic: Path) -> None:
    (isic / IMAGES / "ISIC_0000003.jpg").rename(isic / IMAGES / "ISIC_0000003_downsampled.jpg")
    (isic / IMAGES / "ISIC_0000022_downsampled.jpg").rename(isic / IMAGES / "ISIC_0000022.jpg")
    found = plan(isic, Choice())
    assert found.table() == {"MEL": (3, 2), "NV": (3, 2), "SCC": (2, 2)}


def test_images_in_a_folder_of_the_same_name(isic: Path) -> None:
    (isic / IMAGES).rename(isic / "inner")
    (isic / IMAGES).mkdir()
    (isic / "inner").rename(isic / IMAGES / IMAGES)
    assert sum(images for images, _ in plan(isic, Choice()).table().values()) == 8


def test_images_that_the_truth_names_and_are_gone(isic: Path) -> None:
    (isic / IMAGES / "ISIC_0000003.jpg").unlink()
    with pytest.raises(DataError, match=rf"{TRUTH}: .*ISIC_0000003.*--skip-missing"):
        plan(isic, Choice())
    found = plan(isic, Choice(skip_missing=True))
    assert found.table()["MEL"] == (2, 2) and "ISIC_0000003" in found.notes[0]


def test_a_lesion_of_two_labels_is_told(isic: Path) -> None:
    text = (isic / METADATA).read_text(encoding="utf-8").replace("BCN_0000008", "MSK4_0000001")
    (isic / METADATA).write_text(text, encoding="utf-8")
    assert "1 lesions carry two labels and stay whole: MSK4_0000001" in plan(isic, Choice()).notes


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (f"ISIC_0000009,0.0,0.0,{ZEROS}\n", r"line 10 \('ISIC_0000009'\) marks 0 classes"),
        (f"ISIC_0000009,1.0,1.0,{ZEROS}\n", "line 10 .* marks 2 classes"),
        (f"ISIC_0000009,yes,0.0,{ZEROS}\n", "line 10 has a cell that is no number"),
        (f"ISIC_0000000,1.0,0.0,{ZEROS}\n", "line 10 gives 'ISIC_0000000' a second class"),
        ("ISIC_0000009,1.0\n", "line 10 has not the 10 cells"),
    ],
)
def test_a_truth_that_contradicts_itself(isic: Path, line: str, named: str) -> None:
    append(isic / TRUTH, line)
    with pytest.raises(DataError, match=named):
        plan(isic, Choice())


def test_what_is_missing_is_named(isic: Path) -> None:
    (isic / METADATA).rename(isic / "m.csv")
    with pytest.raises(DataError, match=f"{METADATA}: is missing"):
        plan(isic, Choice())
    (isic / "m.csv").rename(isic / METADATA)
    (isic / IMAGES).rename(isic / "images")
    with pytest.raises(DataError, match=f"{IMAGES}: is missing, unpack"):
        plan(isic, Choice())
    (isic / TRUTH).unlink()
    expected = f"does not look like ISIC-2019: expected {TRUTH} in SOURCE; found {METADATA}, images$"
    with pytest.raises(DataError, match=expected):
        plan(isic, Choice())
