"""A planned import becomes a dataset folder, whole or not at all."""

from __future__ import annotations

import csv
import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.importers import isic_2019, kvasir_v2
from gensoup.bench.importers.plan import Choice, ImportPlan, Picture
from gensoup.bench.importers.write import Link, write_import
from gensoup.runtime.errors import DataError, GenSoupError, UsageError


def state(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Digest, mode and time of change of every file; links to a file do not count as a change of it."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mode,
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("link", ["hard", "symbolic", "copy"])
def test_a_dataset_folder_with_groups_and_an_untouched_set(isic: Path, tmp_path: Path, link: Link) -> None:
    before = state(isic)
    plan = isic_2019.plan(isic, Choice())
    seen: list[tuple[int, int]] = []
    out = tmp_path / "out" / "isic"
    copied = write_import(plan, out, link, lambda done, total: seen.append((done, total)))
    assert copied == (8 if link == "copy" else 0)
    assert seen == [(number, 8) for number in range(1, 9)]
    folder = LabelledFolder.open(out)
    assert folder.labels == ("MEL", "NV", "SCC") and len(folder) == 8
    assert folder.groups is not None and folder.unmatched_groups == 0
    with (out / "groups.csv").open(newline="", encoding="utf-8") as file:
        assert {row["file"]: row["group"] for row in csv.DictReader(file)} == dict(
            zip(folder.files, folder.groups, strict=True)
        )
    for picture in plan.pictures:
        target = out / picture.label / picture.name
        assert target.read_bytes() == picture.source.read_bytes()
        assert target.is_symlink() == (link == "symbolic")
        assert target.samefile(picture.source) == (link != "copy")
    assert state(isic) == before
    assert [path.name for path in out.parent.iterdir()] == ["isic"]


def test_no_groups_file_where_the_set_has_none(kvasir: Path, tmp_path: Path) -> None:
    write_import(kvasir_v2.plan(kvasir, Choice()), tmp_path / "out")
    assert LabelledFolder.open(tmp_path / "out").groups is None
    assert not (tmp_path / "out" / "groups.csv").exists()


def test_another_file_system_gets_copies(kvasir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    plan = kvasir_v2.plan(kvasir, Choice())
    assert write_import(plan, tmp_path / "out") == len(plan.pictures)
    first = plan.pictures[0]
    target = tmp_path / "out" / first.label / first.name
    assert target.read_bytes() == first.source.read_bytes() and not target.samefile(first.source)


def test_linked_images_of_the_set_are_followed(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "real.png").write_bytes(b"real")
    for name in "ab":
        (tmp_path / "set" / f"{name}.png").symlink_to(Path("..") / "real.png")
    pictures = tuple(Picture(name, f"{name}.png", tmp_path / "set" / f"{name}.png") for name in "ab")
    for link in ("hard", "symbolic", "copy"):
        write_import(ImportPlan(tmp_path / "set", pictures), tmp_path / link, link)  # type: ignore[arg-type]
        assert (tmp_path / link / "a" / "a.png").read_bytes() == b"real"


def test_an_unreadable_image_is_named_and_nothing_is_left_behind(kvasir: Path, tmp_path: Path) -> None:
    plan = kvasir_v2.plan(kvasir, Choice())
    plan.pictures[-1].source.unlink()
    with pytest.raises(DataError, match=plan.pictures[-1].name):
        write_import(plan, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sets"]


def test_an_interruption_leaves_nothing_behind(kvasir: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_import(kvasir_v2.plan(kvasir, Choice()), tmp_path / "out", progress=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sets"]


def test_a_full_folder_a_file_and_the_set_itself_are_refused(kvasir: Path, tmp_path: Path) -> None:
    plan = kvasir_v2.plan(kvasir, Choice())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "file").touch()
    for name in ("full", "file"):
        with pytest.raises(UsageError, match=f"{name}: exists already"):
            write_import(plan, tmp_path / name)
    assert (tmp_path / "full" / "mine").exists()
    with pytest.raises(UsageError, match="lies in the set itself"):
        write_import(plan, kvasir / "out")
    with pytest.raises(GenSoupError, match="out: cannot be written"):
        write_import(plan, tmp_path / "file" / "out")
    (tmp_path / "empty").mkdir()
    write_import(plan, tmp_path / "empty")
    assert len(LabelledFolder.open(tmp_path / "empty")) == 16
