"""BreakHis."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gensoup.bench.importers.breakhis import CLASSES, plan
from gensoup.bench.importers.plan import Choice
from gensoup.runtime.errors import DataError, UsageError


def test_types_are_classes_and_patients_are_groups(breakhis: Path) -> None:
    root = breakhis.parents[2]  # sets/BreaKHis_v1 in a folder of the same name, as some archives have it
    for source in (breakhis, breakhis.parent, breakhis.parent.parent, root):
        found = plan(source, Choice())
        assert found.root == breakhis
    table = found.table()
    assert sorted(table) == sorted(CLASSES.values())
    assert table["adenosis"] == (8, 1)  # two sections of one patient
    assert table["lobular_carcinoma"] == (4, 1) and table["ductal_carcinoma"] == (4, 1)
    groups = {picture.name: picture.group for picture in found.pictures}
    assert groups["SOB_B_F-14-21998CD-40-001.png"] == groups["SOB_B_PT-14-21998AB-400-001.png"] == "14-21998"


def test_a_slide_of_two_types_is_left_out_and_named_or_kept_in_one_group(breakhis: Path) -> None:
    found = plan(breakhis, Choice())
    assert not any("13412" in picture.name for picture in found.pictures)
    assert len(found.notes) == 1
    assert "8 images" in found.notes[0] and "14-13412 (ductal_carcinoma, lobular_carcinoma)" in found.notes[0]
    kept = plan(breakhis, Choice(keep_conflicts=True))
    held = [picture for picture in kept.pictures if "13412" in picture.name]
    assert len(held) == 8 and {picture.group for picture in held} == {"14-13412"}
    assert {picture.label for picture in held} == {"ductal_carcinoma", "lobular_carcinoma"}


def test_it_is_a_conflict_even_where_one_of_the_types_is_not_wanted(breakhis: Path) -> None:
    found = plan(breakhis, Choice(("ductal_carcinoma", "adenosis")))
    assert found.table() == {"adenosis": (8, 1), "ductal_carcinoma": (4, 1)}
    assert "4 images" in found.notes[0]


def test_one_magnification(breakhis: Path) -> None:
    found = plan(breakhis, Choice(magnification="200"))
    assert all("-200-" in picture.name for picture in found.pictures)
    assert found.table()["adenosis"] == (2, 1)
    with pytest.raises(UsageError, match="--magnification 300: take 40, 100, 200, 400 or all"):
        plan(breakhis, Choice(magnification="300"))


def test_images_that_say_something_else_are_left_out_and_named(breakhis: Path) -> None:
    folder = breakhis / "benign" / "SOB" / "adenosis" / "SOB_B_A_14-22549AB" / "40X"
    (folder / "screenshot.png").write_bytes(b"x")
    (folder / "SOB_B_F-14-9133-40-001.png").write_bytes(b"x")
    note = plan(breakhis, Choice()).notes[-1]
    assert note.startswith("2 images are not named as BreakHis names them or lie under another type")
    assert "benign/SOB/adenosis/SOB_B_A_14-22549AB/40X/SOB_B_F-14-9133-40-001.png" in note


def test_a_class_without_images_is_named(breakhis: Path) -> None:
    shutil.rmtree(breakhis / "malignant" / "SOB" / "papillary_carcinoma")
    with pytest.raises(DataError, match="no images of papillary_carcinoma are left"):
        plan(breakhis, Choice())


def test_half_a_set_is_refused(breakhis: Path) -> None:
    with pytest.raises(DataError, match="does not look like BreakHis: expected BreaKHis_v1/histology_slides/breast"):
        plan(breakhis / "benign", Choice())
