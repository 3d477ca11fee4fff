"""Planted faults are found and named, and a sound set stays quiet."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.synth import write_dataset
from gensoup.runtime.errors import DataError
from gensoup.runtime.images import read_image
from gensoup.train.audit import Audit, audit
from gensoup.train.border import BorderReading
from gensoup.train.findings import Finding, findings_of

Save = Callable[[Path, np.ndarray], Path]


def quiet(stage: str, done: int, total: int) -> None:
    pass


def of_kind(found: Audit, kind: str) -> list[Finding]:
    return [finding for finding in findings_of(found) if finding.kind == kind]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, save: Save) -> Audit:
    """Drawn scenes with one fault of each kind, audited; their folder must be as it was."""
    data = tmp_path_factory.mktemp("audit") / "planted"
    write_dataset(data, 32, seed=3, height=96, width=120, frames_per_scene=2)
    for path in sorted((data / "ulcer").iterdir()):  # a mark that one class alone has
        image = read_image(path)
        image[86:, 108:] = (0, 255, 0)
        save(path, image)
    lines = (data / "groups.csv").read_text(encoding="utf-8")
    (data / "normal" / "zcopy.jpg").write_bytes((data / "adenoma" / "scene0000_0.jpg").read_bytes())
    again = read_image(data / "polyp" / "scene0004_0.jpg")
    save(data / "polyp" / "zagain.png", np.roll(cv2.convertScaleAbs(again, alpha=1.05), 1, axis=1))
    lines += "normal/zcopy.jpg,adenoma-scene0000\npolyp/zagain.png,another\nnormal/gone.jpg,x\n"
    (data / "groups.csv").write_text(lines, encoding="utf-8")
    (data / "polyp" / "text.jpg").write_text("no image", encoding="utf-8")
    save(data / "angiectasia" / "zwide.png", np.random.default_rng(0).integers(0, 256, (40, 120, 3), dtype=np.uint8))
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    found = audit(LabelledFolder.open(data), 0, quiet)
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
    return found


def test_broken_files_are_named(planted: Audit) -> None:
    assert dict(planted.broken) == {"polyp/text.jpg": "not an image that can be read"}
    assert planted.classes["polyp"].broken == 1 and planted.classes["polyp"].images == 33
    (finding,) = of_kind(planted, "broken")
    assert finding.level == "problem" and "polyp/text.jpg (not an image" in finding.text


def test_a_copy_in_another_class_is_named(planted: Audit) -> None:
    assert planted.same_bytes == (("adenoma/scene0000_0.jpg", "normal/zcopy.jpg"),)
    first = planted.across_classes.nearest[0]
    assert (first.first, first.second, first.same_bytes) == ("adenoma/scene0000_0.jpg", "normal/zcopy.jpg", True)
    # Frames of one scene look alike too: the copy is like its original's neighbour.
    assert all("zcopy" in pair.second for pair in planted.across_classes.nearest)
    assert planted.across_classes.pairs == len(planted.across_classes.nearest)
    (finding,) = of_kind(planted, "cross-class")
    assert finding.level == "problem" and "normal/zcopy.jpg (equal bytes)" in finding.text


def test_a_look_alike_in_another_group_leaks(planted: Audit) -> None:
    pairs = planted.across_groups.nearest
    assert ("polyp/scene0004_0.jpg", "polyp/zagain.png") in {(pair.first, pair.second) for pair in pairs}
    assert all(pair.second == "polyp/zagain.png" and not pair.same_bytes for pair in pairs)
    assert planted.across_groups.pairs == len(pairs)
    assert planted.across_roles.pairs <= planted.across_groups.pairs
    (finding,) = of_kind(planted, "leak")
    assert finding.level == "problem" and "groups.csv" in finding.text


def test_a_mark_in_one_class_is_reported_with_its_corner(planted: Audit) -> None:
    assert isinstance(planted.border, BorderReading)
    touching = {"bottom", "right", "bottom right"}
    parts = planted.border.parts
    assert min(parts[part] for part in touching) > max(parts[part] for part in ("top", "left", "top left")) + 0.1
    # Five of six classes cannot be told apart, so the overall score alone would not speak up.
    assert planted.border.classes["ulcer"].low > 0.8 and planted.border.border.low < 0.3
    (finding,) = of_kind(planted, "border")
    assert finding.level == "warning" and "right (0." in finding.text and "'ulcer'" in finding.text


def test_counts_sizes_roles_and_groups(planted: Audit) -> None:
    assert (planted.files, planted.grouped_by, planted.unmatched_groups, planted.ungrouped) == (196, "groups.csv", 1, 1)
    assert planted.classes["ulcer"].groups == 16 and planted.classes["ulcer"].median_size == (96, 120)
    assert planted.imbalance == pytest.approx(33 / 32) and planted.effective_classes == pytest.approx(6, abs=0.01)
    assert planted.sizes.distinct == 2 and planted.sizes.commonest[0] == (96, 120, 194)
    assert planted.sizes.odd_aspect == planted.sizes.small == ("angiectasia/zwide.png",)
    assert isinstance(planted.roles, dict) and list(planted.roles) == ["train", "search", "soup", "test"]
    assert sum(role.images for role in planted.roles.values()) == 195
    assert min(role.fewest_groups for role in planted.roles.values()) >= 2
    assert [finding.level for finding in of_kind(planted, "sizes")] == ["warning", "warning", "note"]
    assert len(of_kind(planted, "groups")) == 2


def test_it_is_plain_values_for_json(planted: Audit) -> None:
    values = json.loads(json.dumps(planted.to_dict(), allow_nan=False))
    assert values["across_groups"]["nearest"][0]["second"] == "polyp/zagain.png"
    assert values["border"]["classes"]["ulcer"]["mcc"] > 0.8


def test_the_gravest_come_first(planted: Audit) -> None:
    levels = [finding.level for finding in findings_of(planted)]
    assert levels == sorted(levels, key=("problem", "warning", "note").index)
    assert all("\n" not in finding.text for finding in findings_of(planted))


def test_drawn_scenes_are_sound(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", 32, seed=0, height=128, width=160, frames_per_scene=2)
    found = audit(LabelledFolder.open(tmp_path / "d"), 0, quiet)
    assert [(finding.kind, finding.level) for finding in findings_of(found)] == [("border", "note")]
    assert found.look_alikes > 0 and found.across_groups.pairs == found.across_classes.pairs == 0


def test_without_groups_look_alikes_are_the_groups(make_shapes: Callable[..., Path], tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "d", per_class=3)
    (data / "groups.csv").unlink()
    (data / "7" / "copy.png").write_bytes((data / "7" / "000.png").read_bytes())
    found = audit(LabelledFolder.open(data), 0, quiet)
    assert found.grouped_by == "near-duplicates" and found.classes["7"].images == 4
    assert found.classes["7"].groups == 3 and found.across_groups.pairs == 0 and found.look_alikes == 1
    assert isinstance(found.roles, str) and "are missing" in found.roles
    assert "training would refuse this folder" in of_kind(found, "roles")[0].text
    assert found.border == "not measured: fewer than two classes have 5 groups"
    assert of_kind(found, "border")[0].level == "note"


def test_imbalance_and_one_large_group_are_warned_of(make_shapes: Callable[..., Path], tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "d", per_class=20, labels=("a", "b"))
    for path in sorted((data / "a").iterdir())[2:]:
        path.unlink()
    names = [f"b/{number:03d}.png,one\n" for number in range(20)]
    (data / "groups.csv").write_text("file,group\n" + "".join(names), encoding="utf-8")
    found = audit(LabelledFolder.open(data), 0, quiet)
    assert found.imbalance == 10 and found.largest_group == 20 and found.ungrouped == 2
    assert found.effective_classes == pytest.approx(np.exp(-(np.log(1 / 11) / 11 + np.log(10 / 11) * 10 / 11)))
    assert "10.0 × the images" in of_kind(found, "imbalance")[0].text
    assert "20 of 22 images" in of_kind(found, "groups")[0].text


def test_a_class_or_folder_without_one_readable_image(make_shapes: Callable[..., Path], tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "d", per_class=2, labels=("a", "b"))
    for path in (data / "a").iterdir():
        path.write_bytes(b"x")
    found = audit(LabelledFolder.open(data), 0, quiet)
    assert found.imbalance is None and found.classes["a"].images == 0 and found.classes["a"].broken == 2
    json.dumps(found.to_dict(), allow_nan=False)
    for path in (data / "b").iterdir():
        path.write_bytes(b"x")
    with pytest.raises(DataError, match="none of its 4 images can be read") as error:
        audit(LabelledFolder.open(data), 0, quiet)
    assert "\n" not in str(error.value)


@pytest.mark.real_data
def test_overlays_of_real_frames_are_seen() -> None:
    root = os.environ.get("GENSOUP_DATA")
    if not root or not (Path(root) / "hyperkvasir5").is_dir():
        pytest.skip("GENSOUP_DATA names no folder with hyperkvasir5 in it")
    folder = LabelledFolder.open(Path(root) / "hyperkvasir5")
    chosen = np.concatenate([np.flatnonzero(folder.targets == label)[:60] for label in range(5)])
    found = audit(folder.subset(np.sort(chosen)), 0, quiet)
    (finding,) = of_kind(found, "border")
    assert finding.level == "warning" and "gives the class away" in finding.text
    assert isinstance(found.border, BorderReading) and found.border.border.low > 0.5
