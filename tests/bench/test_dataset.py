"""Labelled folders: what is listed, what is ignored, and what is refused in one line."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from gensoup.bench.dataset import LabelledFolder
from gensoup.runtime.errors import DataError


def put(folder: Path, *names: str, content: bytes = b"x") -> Path:
    """Make files (never decoded here) below ``folder``."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        LabelledFolder.open(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_lists_classes_in_natural_order_and_files_sorted(tmp_path: Path) -> None:
    put(tmp_path, "10/b.jpg", "10/a.JPG", "2/c.PnG", "1/d.tiff", "Barrett 3/e.webp")
    folder = LabelledFolder.open(tmp_path)
    assert folder.labels == ("1", "2", "10", "Barrett 3")
    assert folder.files == ("1/d.tiff", "10/a.JPG", "10/b.jpg", "2/c.PnG", "Barrett 3/e.webp")
    assert folder.targets.tolist() == [0, 2, 2, 1, 3]
    assert folder.targets.dtype == np.int64
    assert folder.groups is None
    assert len(folder) == 5
    assert folder.paths[0] == tmp_path / "1/d.tiff"


def test_natural_order_of_mixed_names(tmp_path: Path) -> None:
    names = ["grade 10", "grade 9", "Grade 1", "2b", "2", "02", "x"]
    put(tmp_path, *(f"{name}/a.png" for name in names))
    assert LabelledFolder.open(tmp_path).labels == ("02", "2", "2b", "Grade 1", "grade 9", "grade 10", "x")


def test_nested_folders_belong_to_their_class(tmp_path: Path) -> None:
    put(tmp_path, "a/patient 1/day 2/x.png", "a/y.png", "b/z.png")
    folder = LabelledFolder.open(tmp_path)
    assert folder.files == ("a/patient 1/day 2/x.png", "a/y.png", "b/z.png")
    assert folder.targets.tolist() == [0, 0, 1]


def test_accents_are_nfc_in_labels_and_as_on_disk_in_files(tmp_path: Path) -> None:
    label = "ésophagite"
    on_disk = unicodedata.normalize("NFD", label)
    put(tmp_path, f"{on_disk}/a.png", "normal/b.png")
    folder = LabelledFolder.open(tmp_path)
    assert label in folder.labels
    assert all(path.exists() for path in folder.paths)


def test_hidden_files_are_silent_and_foreign_files_named(tmp_path: Path) -> None:
    put(tmp_path, "a/x.png", "b/y.png", "a/notes.txt", "a/deep/raw.dcm", "readme.md", "root.png")
    put(tmp_path, ".DS_Store", "a/._x.png", ".git/config.png", "b/.cache/z.png", "__MACOSX/a/x.png")
    folder = LabelledFolder.open(tmp_path)
    assert folder.labels == ("a", "b")
    assert folder.files == ("a/x.png", "b/y.png")
    assert folder.ignored == ("a/deep/raw.dcm", "a/notes.txt", "readme.md", "root.png")


def test_linked_class_folders_and_files_are_followed(tmp_path: Path) -> None:
    real = put(tmp_path / "real", "x.png")
    data = put(tmp_path / "data", "a/x.png")
    (data / "b").symlink_to(real, target_is_directory=True)
    (data / "a/broken.png").symlink_to(tmp_path / "nowhere.png")
    folder = LabelledFolder.open(data)
    assert folder.files == ("a/broken.png", "a/x.png", "b/x.png")
    assert folder.fingerprint() == folder.fingerprint()


def test_refuses_a_missing_folder(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "nothing here")


def test_refuses_a_file(tmp_path: Path) -> None:
    assert "is a file" in refusal(put(tmp_path, "x.png") / "x.png")


def test_refuses_an_empty_folder(tmp_path: Path) -> None:
    assert "empty" in refusal(tmp_path)


def test_refuses_images_without_class_folders(tmp_path: Path) -> None:
    assert "directly in it" in refusal(put(tmp_path, "x.png", "y.png"))


def test_refuses_foreign_files_alone(tmp_path: Path) -> None:
    assert "no class folders" in refusal(put(tmp_path, "x.txt"))


def test_refuses_one_class_alone(tmp_path: Path) -> None:
    assert "'polyp'" in refusal(put(tmp_path, "polyp/x.png"))


def test_names_every_class_without_images(tmp_path: Path) -> None:
    put(tmp_path, "a/x.png", "b/y.txt")
    (tmp_path / "c").mkdir()
    message = refusal(tmp_path)
    assert "'b', 'c'" in message
    assert "'a'" not in message


def test_refuses_two_spellings_of_one_label(tmp_path: Path) -> None:
    put(tmp_path, "é/a.png", unicodedata.normalize("NFD", "é") + "/b.png", "x/c.png")
    if len(list(tmp_path.iterdir())) == 2:
        pytest.skip("this file system knows one spelling alone")
    assert "two class folders" in refusal(tmp_path)


def test_refuses_names_that_are_not_utf8(tmp_path: Path) -> None:
    put(tmp_path, "a/x.png", "b/y.png")
    try:
        (tmp_path / "a" / os.fsdecode(b"\xff.png")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system refuses such names itself")
    message = refusal(tmp_path)
    assert "not UTF-8" in message
    message.encode()


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    return put(tmp_path, "a/1.png", "a/2.png", "b/é.png", "b/4.png")


def write_groups(folder: Path, text: str, encoding: str = "utf-8") -> None:
    (folder / "groups.csv").write_bytes(text.encode(encoding))


def test_groups_and_groups_of_their_own(grouped: Path) -> None:
    name = unicodedata.normalize("NFD", "b/é.png")
    write_groups(
        grouped, f"file,group\r\na\\1.png,patient 1\r\n./{name},patient 1\r\n\r\nz/gone.png,p\r\n", "utf-8-sig"
    )
    folder = LabelledFolder.open(grouped)
    assert folder.files == ("a/1.png", "a/2.png", "b/4.png", "b/é.png")
    assert folder.groups == ("patient 1", "a/2.png", "b/4.png", "patient 1")
    assert folder.unmatched_groups == 1
    assert folder.ignored == ()


def test_groups_with_commas_are_quoted(grouped: Path) -> None:
    write_groups(grouped, 'file,group\na/1.png,"Doe, J"\n')
    groups = LabelledFolder.open(grouped).groups
    assert groups is not None
    assert groups[0] == "Doe, J"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "first line"),
        ("name,patient\na/1.png,1\n", "first line"),
        ("file;group\na/1.png;1\n", "first line"),
        ("file,group\na/1.png\n", "line 2"),
        ("file,group\na/1.png,1\na/2.png,1,2\n", "line 3"),
        ("file,group\na/1.png,\n", "line 2"),
        ("file,group\n,1\n", "line 2"),
        ("file,group\na/1.png,1\na/1.png,2\n", "second group"),
        ("file,group\n1.png,1\n2.png,1\n", "no line names an image"),
        ('file,group\n"a/1.png,1\n', "CSV"),
    ],
)
def test_refuses_malformed_groups(grouped: Path, text: str, expected: str) -> None:
    write_groups(grouped, text)
    message = refusal(grouped)
    assert "groups.csv" in message
    assert expected in message


def test_refuses_groups_that_are_not_utf8(grouped: Path) -> None:
    write_groups(grouped, "file,group\nb/é.png,1\n", "utf-16")
    assert "UTF-8" in refusal(grouped)


def test_subset_keeps_labels_and_order_given(grouped: Path) -> None:
    write_groups(grouped, "file,group\na/1.png,p\n")
    part = LabelledFolder.open(grouped).subset(np.array([3, 0]))
    assert part.labels == ("a", "b")
    assert part.files == ("b/é.png", "a/1.png")
    assert part.targets.tolist() == [1, 0]
    assert part.groups == ("b/é.png", "p")
    assert len(LabelledFolder.open(grouped).subset([])) == 0


def test_fingerprint_sees_names_sizes_and_groups_not_the_place(tmp_path: Path) -> None:
    names = ("a/1.png", "a/2.png", "b/é.png")
    first = LabelledFolder.open(put(tmp_path / "one", *names)).fingerprint()
    nfd = (unicodedata.normalize("NFD", name) for name in names)
    assert LabelledFolder.open(put(tmp_path / "two", *nfd)).fingerprint() == first
    assert LabelledFolder.open(put(tmp_path / "two", "b/new.png")).fingerprint() != first
    assert LabelledFolder.open(put(tmp_path / "three", *names, content=b"xx")).fingerprint() != first
    write_groups(tmp_path / "one", "file,group\na/1.png,p\n")
    assert LabelledFolder.open(tmp_path / "one").fingerprint() != first


def test_fingerprint_does_not_depend_on_the_order_of_files(grouped: Path) -> None:
    folder = LabelledFolder.open(grouped)
    assert folder.subset([3, 1, 0, 2]).fingerprint() == folder.fingerprint()


def test_the_folder_is_never_written_to(grouped: Path) -> None:
    def state() -> list[tuple[str, int]]:
        return sorted((str(path), path.stat().st_mtime_ns) for path in grouped.rglob("*"))

    before = state()
    LabelledFolder.open(grouped).fingerprint()
    assert state() == before
