"""KVASIR v2."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gensoup.bench.importers.kvasir_v2 import CLASSES, plan
from gensoup.bench.importers.plan import Choice
from gensoup.runtime.errors import DataError, UsageError


def test_all_classes_from_the_folder_itself_or_the_one_around_it(kvasir: Path) -> None:
    for source in (kvasir, kvasir.parent):
        found = plan(source, Choice())
        assert found.root == kvasir
        assert found.table() == dict.fromkeys(CLASSES, (2, None))
        assert not found.grouped and "near-duplicates" in found.notes[0]
        assert all(picture.source == kvasir / picture.label / picture.name for picture in found.pictures)


def test_some_classes_do_not_need_the_others(kvasir: Path) -> None:
    shutil.rmtree(kvasir / "esophagitis")
    with pytest.raises(DataError, match=r"esophagitis: has no images"):
        plan(kvasir, Choice())
    assert list(plan(kvasir, Choice(("polyps", "normal-cecum"))).table()) == ["normal-cecum", "polyps"]
    with pytest.raises(UsageError, match="did you mean 'normal-z-line'"):
        plan(kvasir, Choice(("polyps", "normal-zline")))


def test_a_folder_of_its_own_is_named_and_left_out(kvasir: Path) -> None:
    (kvasir / "my notes").mkdir()
    assert plan(kvasir, Choice()).notes[-1] == "not of KVASIR v2, left out: my notes"


def test_hyperkvasir_is_told_apart(hyperkvasir: Path) -> None:
    with pytest.raises(DataError, match="does not look like KVASIR v2"):
        plan(hyperkvasir, Choice())
