"""HyperKvasir's labelled images."""

from __future__ import annotations

from pathlib import Path

import pytest

from gensoup.bench.importers.hyperkvasir import TABLE, plan
from gensoup.bench.importers.plan import Choice
from gensoup.runtime.errors import DataError, UsageError

CLASSES = ("bbps-2-3", "cecum", "dyed-lifted-polyps", "polyps", "z-line")


def image_of(root: Path, label: str) -> Path:
    return min(root.rglob(f"{label}/*.jpg"))


def test_every_class_folder_is_a_class(hyperkvasir: Path) -> None:
    for source in (hyperkvasir, hyperkvasir.parent):
        found = plan(source, Choice())
        assert found.root == hyperkvasir
        assert found.table() == dict.fromkeys(CLASSES, (3, None))
        assert len(found.notes) == 1 and "no groups.csv" in found.notes[0]


def test_some_classes_and_a_misspelt_one(hyperkvasir: Path) -> None:
    assert list(plan(hyperkvasir, Choice(("polyps", "z-line"))).table()) == ["polyps", "z-line"]
    with pytest.raises(UsageError, match="did you mean 'polyps'"):
        plan(hyperkvasir, Choice(("polyp", "z-line")))


def test_an_image_that_the_table_names_and_is_gone(hyperkvasir: Path) -> None:
    gone = image_of(hyperkvasir, "polyps")
    gone.unlink()
    with pytest.raises(DataError, match=rf"{TABLE}.*{gone.stem}.*--skip-missing"):
        plan(hyperkvasir, Choice())
    assert plan(hyperkvasir, Choice(skip_missing=True)).table()["polyps"] == (2, None)
    assert plan(hyperkvasir, Choice(("cecum", "z-line"))).table() == {"cecum": (3, None), "z-line": (3, None)}


def test_folders_and_table_that_disagree_are_told(hyperkvasir: Path) -> None:
    moved = image_of(hyperkvasir, "polyps")
    moved.rename(image_of(hyperkvasir, "cecum").parent / moved.name)
    image_of(hyperkvasir, "z-line").with_name("new.jpg").write_bytes(b"x")
    found = plan(hyperkvasir, Choice())
    assert found.table()["cecum"] == (4, None) and found.table()["polyps"] == (2, None)
    assert any(f"cecum/{moved.stem} is 'polyps' there" in note for note in found.notes)
    assert any("lacks 1 of the images" in note and "new" in note for note in found.notes)


def test_without_its_table_it_says_what_was_not_checked(hyperkvasir: Path) -> None:
    (hyperkvasir / TABLE).unlink()
    assert "could not be checked" in plan(hyperkvasir, Choice()).notes[-1]


def test_one_class_in_two_places(hyperkvasir: Path) -> None:
    (hyperkvasir / "upper-gi-tract" / "pathological-findings" / "cecum").mkdir(parents=True)
    with pytest.raises(DataError, match="the class is at"):
        plan(hyperkvasir, Choice())


def test_kvasir_v2_is_told_apart(kvasir: Path) -> None:
    with pytest.raises(DataError, match=r"does not look like HyperKvasir's labelled images.*found dyed-lifted-polyps"):
        plan(kvasir, Choice())
