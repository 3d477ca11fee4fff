"""What all layouts share: finding the set, reading its tables, choosing classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gensoup.bench.importers import LAYOUTS, plan_import
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
from gensoup.runtime.errors import DataError, UsageError


def is_root(folder: Path) -> bool:
    return (folder / "marker").exists()


def find(source: Path, depth: int = 2, above: bool = False) -> Path:
    return find_root(source, "The Set", "marker in SOURCE", is_root, depth, above)


@pytest.mark.parametrize("below", ["", "a", "a/b"])
def test_the_set_is_found_at_and_below_the_folder_named(tmp_path: Path, below: str) -> None:
    (tmp_path / below).mkdir(parents=True, exist_ok=True)
    (tmp_path / below / "marker").touch()
    assert find(tmp_path) == tmp_path / below


def test_but_not_deeper_and_above_only_where_that_makes_sense(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c" / "marker").touch()
    with pytest.raises(DataError, match=r"does not look like The Set: expected marker in SOURCE; found a$"):
        find(tmp_path)
    assert find(tmp_path, depth=3) == tmp_path / "a" / "b" / "c"
    (tmp_path / "a" / "b" / "d").mkdir()
    (tmp_path / "a" / "b" / "c" / "marker").rename(tmp_path / "a" / "b" / "marker")
    assert find(tmp_path / "a" / "b" / "d", above=True) == tmp_path / "a" / "b"
    with pytest.raises(DataError, match="found nothing"):
        find(tmp_path / "a" / "b" / "d")


def test_what_is_found_instead_is_named_shortly(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"f{number}.txt").touch()
    (tmp_path / ".hidden").touch()
    with pytest.raises(DataError, match=r"found f0.txt, f1.txt, f2.txt, f3.txt, f4.txt and 4 more$"):
        find(tmp_path)


def test_two_copies_are_not_chosen_between(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "marker").touch()
    with pytest.raises(DataError, match=r"holds The Set 2 times .*give one of these"):
        find(tmp_path)


def test_no_folder_and_an_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        find(tmp_path / "nowhere")
    (tmp_path / "set.zip").touch()
    with pytest.raises(DataError, match=r"set.zip: is a file, unpack it"):
        find(tmp_path / "set.zip")


def test_only_visible_images_are_pictures(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "Thumbs.db", "._a.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert [path.name for path in pictures_in(tmp_path)] == ["a.png", "b.JPG"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "it is empty"),
        (b"image,other\nx,1\n", r"no column 'label' \(image, other\)"),
        (b"image,label\nx,1\ny\n", "line 3"),
        (b"image,label\nx,1,2\n", "line 2"),
        (b'image,label\n"x,1\n', "cannot be read as UTF-8 CSV"),
        ("image,label\né,1\n".encode("utf-16"), "cannot be read as UTF-8 CSV"),
        (None, "cannot be read as UTF-8 CSV"),
    ],
)
def test_tables_that_cannot_be_understood(tmp_path: Path, content: bytes | None, named: str) -> None:
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=named) as error:
        list(read_table(path, ("image", "label")))
    assert "table.csv" in str(error.value) and "\n" not in str(error.value)


def test_a_table_with_a_mark_and_spaces(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a, ignored,b\r\n x ,?, y\r\n", encoding="utf-8-sig")
    assert list(read_table(tmp_path / "t.csv", ("b", "a"))) == [(2, {"b": "y", "a": "x"})]


def test_classes_are_checked_with_the_nearest_name() -> None:
    available = ["polyps", "cecum", "z-line"]
    assert choose_classes(available, Choice()) == set(available)
    assert choose_classes(available, Choice(("cecum", "polyps"))) == {"cecum", "polyps"}
    with pytest.raises(UsageError, match="--classes polps: no such class; did you mean 'polyps'"):
        choose_classes(available, Choice(("cecum", "polps")))
    with pytest.raises(UsageError, match="at least two"):
        choose_classes(available, Choice(("cecum", "cecum")))


def test_missing_images_are_refused_or_noted() -> None:
    assert check_missing([], Path("t.csv"), Choice()) == []
    with pytest.raises(DataError, match=r"t.csv: .*\(a and 1 more\).*--skip-missing"):
        check_missing(["a", "b"], Path("t.csv"), Choice())
    assert "2 images that are not there" in check_missing(["a", "b"], Path("t.csv"), Choice(skip_missing=True))[0]


def test_a_plan_needs_two_classes_and_names_of_their_own() -> None:
    first, second = Picture("a", "x.png", Path("1/x.png")), Picture("b", "x.png", Path("2/x.png"))
    assert ImportPlan(Path("r"), (first, second)).table() == {"a": (1, None), "b": (1, None)}
    with pytest.raises(DataError, match="one class alone"):
        ImportPlan(Path("r"), (first,))
    with pytest.raises(DataError, match="no images"):
        ImportPlan(Path("r"), ())
    with pytest.raises(DataError, match="has the name of"):
        ImportPlan(Path("r"), (first, second, Picture("a", "x.png", Path("3/x.png"))))


@pytest.mark.parametrize(
    ("layout", "near"),
    [("kvasir", "kvasir-v2"), ("hyper-kvasir", "hyperkvasir"), ("ISIC2019", "isic-2019"), ("BreaKHis", "breakhis")],
)
def test_a_layout_misspelt_gives_the_nearest_and_all(layout: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"LAYOUT '{layout}': .*did you mean '{near}'") as error:
        plan_import(layout, Path("x"), Choice())
    assert all(name in str(error.value) for name in LAYOUTS)


def test_options_of_another_layout_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--magnification 40"):
        plan_import("isic-2019", tmp_path, Choice(magnification="40"))
    with pytest.raises(UsageError, match="--keep-conflicts"):
        plan_import("kvasir-v2", tmp_path, Choice(keep_conflicts=True))
