"""The decoded images of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gensoup.bench.dataset import LabelledFolder
from gensoup.runtime.errors import GenSoupError, WriteError
from gensoup.runtime.images import read_image
from gensoup.runtime.preprocess import Preprocess
from gensoup.train.images import Selection, _reserved, decode, perceptual_hash
from gensoup.train.split import split_folder


def content_of(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file's digest and time of change."""
    return {
        path.relative_to(folder).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_each_size_holds_what_preprocessing_makes_of_the_files(shapes: Path, tmp_path: Path) -> None:
    before = content_of(shapes)
    folder = LabelledFolder.open(shapes).subset(range(0, 120, 10))
    calls: list[tuple[str, int, int]] = []
    steps = [Preprocess(32, "crop"), Preprocess(48, "crop")]
    store = decode(folder, steps, tmp_path, False, lambda *call: calls.append(call))
    assert sorted(store.by_size) == [32, 48]
    assert store.hashes is None and store.skipped == {}
    for size, images in store.by_size.items():
        assert images.shape == (12, size, size, 3) and images.dtype == np.uint8
        for number, path in enumerate(folder.paths):
            np.testing.assert_array_equal(images[number], Preprocess(size, "crop")(read_image(path)))
    assert calls == [("decode", number, 12) for number in range(1, 13)]
    assert content_of(shapes) == before


def test_a_role_reads_its_images_as_they_are_used(shapes: Path, tmp_path: Path) -> None:
    folder = LabelledFolder.open(shapes)
    split = split_folder(folder, [Preprocess(32)], "four", 0, tmp_path, lambda *call: None)
    examples = split.examples("search", 32)
    assert isinstance(examples.images, Selection) and isinstance(examples.images.images, np.memmap)  # nothing copied
    expected = np.stack([Preprocess(32)(read_image(split.folder.paths[row])) for row in split.roles["search"]])
    assert len(examples.images) == len(examples) == len(expected)
    for index in (slice(2, 5), np.array([7, 0, 3])):
        part = examples.images[index]
        assert type(part) is np.ndarray and part.flags.c_contiguous
        np.testing.assert_array_equal(part, expected[index])


def test_broken_images_are_named_with_their_reason_and_skipped(
    make_shapes: Callable[..., Path], save: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "data", per_class=2, labels=("a", "b", "c"))
    (data / "a" / "text.jpg").write_text("no image at all", encoding="utf-8")
    (data / "b" / "empty.png").touch()
    content = save(data / "c" / "cut.jpg", np.zeros((40, 40, 3), np.uint8)).read_bytes()
    (data / "c" / "cut.jpg").write_bytes(content[:200])
    (data / "c" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    folder = LabelledFolder.open(data)
    store = decode(folder, [Preprocess(32)], tmp_path / "cache", True, lambda *call: None)
    assert list(store.skipped) == ["a/text.jpg", "b/empty.png", "c/cut.jpg", "c/gone.png"]
    assert "not an image" in store.skipped["a/text.jpg"]
    assert "empty" in store.skipped["b/empty.png"]
    assert "cut short" in store.skipped["c/cut.jpg"]
    assert "cannot be read" in store.skipped["c/gone.png"]
    assert not any(str(tmp_path) in reason for reason in store.skipped.values())
    good = [index for index, file in enumerate(folder.files) if file not in store.skipped]
    assert len(good) == 6 and all(store.by_size[32][index].any() for index in good)
    assert store.hashes is not None and store.hashes.shape == (len(folder), 64)
    assert all(np.array_equal(store.hashes[index], perceptual_hash(read_image(folder.paths[index]))) for index in good)


def test_a_cache_that_cannot_be_written_is_one_line_that_names_it(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(GenSoupError, match="cache: cannot be written") as error:
        decode(LabelledFolder.open(shapes), [Preprocess(32)], tmp_path / "cache", False, lambda *call: None)
    assert "\n" not in str(error.value)


def test_hash_is_of_grey_levels_and_not_of_channel_order() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    assert perceptual_hash(frame).shape == (64,) and perceptual_hash(frame).dtype == np.bool_
    np.testing.assert_array_equal(
        perceptual_hash(frame), perceptual_hash(np.clip(frame * 0.9, 0, 255).astype(np.uint8))
    )


def test_the_space_on_the_disk_is_taken_before_anything_is_decoded(shapes: Path, tmp_path: Path) -> None:
    """A page that is first written when the disk is full would be a SIGBUS, not an error."""
    store = decode(LabelledFolder.open(shapes).subset([0]), [Preprocess(256)], tmp_path, False, lambda *call: None)
    many = _reserved(tmp_path / "many.npy", 40, 256)
    taken = (tmp_path / "many.npy").stat()
    assert taken.st_blocks * 512 >= taken.st_size > many.nbytes == 40 * 256 * 256 * 3
    assert store.by_size[256].any() and not many.any()


def test_no_room_for_the_cache_is_one_line(shapes: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(WriteError, match=r"cache: cannot be written .*ulimit -f"):
            decode(LabelledFolder.open(shapes), [Preprocess(64)], tmp_path / "cache", False, lambda *call: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
