"""Decoded images that outlast a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from gensoup.bench.dataset import LabelledFolder
from gensoup.runtime.errors import DataError, WriteError
from gensoup.runtime.images import read_image
from gensoup.runtime.preprocess import Preprocess
from gensoup.train.image_cache import WAITING, ImageCache
from gensoup.train.image_entry import ABOUT, HASHES, MAKING
from gensoup.train.images import ImageStore

Seen = list[tuple[str, int, int]]


@pytest.fixture
def data(make_shapes: Callable[..., Path], tmp_path: Path) -> Path:
    folder = make_shapes(tmp_path / "data", per_class=4, labels=("a", "b"))
    (folder / "a" / "broken.png").write_text("no image", encoding="utf-8")
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return ImageCache(tmp_path / "cache")


def ask(cache: ImageCache, data: Path, *sizes: int, hashed: bool = True) -> tuple[ImageStore, Seen]:
    seen: Seen = []
    steps = [Preprocess(size) for size in sizes or (32,)]
    return cache.decoded(LabelledFolder.open(data), steps, hashed, lambda *call: seen.append(call)), seen


def check(store: ImageStore, data: Path, size: int = 32) -> None:
    folder = LabelledFolder.open(data)
    for number, file in enumerate(folder.files):
        if file not in store.skipped:
            expected = Preprocess(size)(read_image(folder.path / file))
            np.testing.assert_array_equal(store.by_size[size][number], expected)


def test_the_second_run_decodes_nothing_and_gets_the_same(cache: ImageCache, data: Path) -> None:
    first, seen = ask(cache, data)
    assert len(seen) == 9 and set(first.skipped) == {"a/broken.png"}
    again, seen = ask(cache, data)
    assert seen == []
    assert again.skipped == first.skipped and isinstance(again.by_size[32], np.memmap)
    assert again.hashes is not None and np.array_equal(again.hashes, first.hashes)
    for store in (first, again):
        check(store, data)


def test_a_new_size_is_made_beside_the_old_one(cache: ImageCache, data: Path) -> None:
    ask(cache, data, 32)
    store, seen = ask(cache, data, 32, 48)
    assert len(seen) == 9 and sorted(store.by_size) == [32, 48]
    check(store, data, 48)
    assert ask(cache, data, 48, 32)[1] == [] and len(cache.entries()) == 1


def test_it_follows_the_data_and_the_way_of_preprocessing(cache: ImageCache, data: Path) -> None:
    ask(cache, data)
    folder = LabelledFolder.open(data)
    seen: Seen = []
    cropped = cache.decoded(folder, [Preprocess(32, "crop", (0.1, 0, 1, 1))], True, lambda *call: seen.append(call))
    assert len(seen) == 9
    expected = Preprocess(32, "crop", (0.1, 0, 1, 1))(read_image(folder.paths[0]))
    np.testing.assert_array_equal(cropped.by_size[32][0], expected)
    path = min((data / "b").iterdir())
    path.write_bytes(path.read_bytes())  # the same bytes, written anew: who knows
    os.utime(path, ns=(1, 1))
    assert len(ask(cache, data)[1]) == 9
    (data / "b" / "new.png").write_bytes(path.read_bytes())
    store, seen = ask(cache, data)
    assert len(seen) == 10
    check(store, data)


def test_an_image_changed_behind_its_time_is_seen_in_the_sample(cache: ImageCache, data: Path) -> None:
    ask(cache, data)
    path = min((data / "b").iterdir())
    status, before = path.stat(), path.read_bytes()
    image = cv2.imread(str(path))
    assert image is not None
    content = cv2.imencode(".png", 255 - image)[1].tobytes()
    length = max(len(content), len(before))
    path.write_bytes(before.ljust(length, b"\0"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    ask(cache, data)
    path.write_bytes(content.ljust(length, b"\0"))  # other pixels, and nothing else that tells
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    store, seen = ask(cache, data)
    assert len(seen) == 9
    check(store, data)


def test_a_broken_image_that_can_be_read_now_is_taken_in(
    cache: ImageCache, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(path: Path) -> np.ndarray:
        if path.parent.name == "a":
            raise DataError(f"{path}: cannot be read")
        return read_image(path)

    monkeypatch.setattr("gensoup.train.images.read_image", offline)
    assert len(ask(cache, data)[0].skipped) == 5
    monkeypatch.undo()
    store, seen = ask(cache, data)
    assert len(seen) == 9 and set(store.skipped) == {"a/broken.png"}
    check(store, data)


@pytest.mark.parametrize("harm", ["cut", "no about", "half made", "no json", "no hashes"])
def test_what_is_not_whole_is_made_again(cache: ImageCache, data: Path, harm: str) -> None:
    ask(cache, data)
    (entry,) = cache.entries()
    (images,) = entry.path.glob("32-*.npy")
    if harm == "cut":
        images.write_bytes(images.read_bytes()[:-1000])
    elif harm == "no about":
        (entry.path / ABOUT).unlink()
        images.write_bytes(b"")
    elif harm == "half made":
        (entry.path / MAKING).mkdir()
        (entry.path / MAKING / "32.npy").write_bytes(b"0" * 1000)
        images.unlink()
    elif harm == "no hashes":
        (entry.path / HASHES).write_bytes(b"")
    else:
        (entry.path / ABOUT).write_text("{")
    store, seen = ask(cache, data)
    assert len(seen) == 9
    check(store, data)
    assert not (entry.path / MAKING).exists() and ask(cache, data)[1] == []


def test_an_interrupted_making_leaves_no_entry(cache: ImageCache, data: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.decoded(LabelledFolder.open(data), [Preprocess(32)], True, interrupt)
    assert cache.entries() == [] and not list(cache.folder.rglob("*.npy"))


def test_two_at_once_decode_once(cache: ImageCache, data: Path) -> None:
    results: list[tuple[ImageStore, Seen]] = []
    threads = [threading.Thread(target=lambda: results.append(ask(cache, data))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    decoded = [sum(stage == "decode" for stage, _, _ in seen) for _, seen in results]
    assert sorted(decoded) == [0, 9]
    waits = [call for _, seen in results for call in seen if call[0] == WAITING]
    assert all(call == (WAITING, 0, 1) for call in waits[:-1]) and waits[-1:] in ([], [(WAITING, 1, 1)])
    for store, _ in results:
        check(store, data)


def test_the_oldest_goes_above_the_limit(make_shapes: Callable[..., Path], data: Path, tmp_path: Path) -> None:
    other = make_shapes(tmp_path / "other", per_class=4, labels=("a", "b"))
    cache = ImageCache(tmp_path / "cache", limit_gb=60e-6)  # 28 kB of images each, and what describes them
    ask(cache, data)
    ask(cache, other)
    assert len(cache.entries()) == 2
    ask(cache, other, 48)
    assert [entry.data for entry in cache.entries()] == [str(other)]
    assert len(ask(cache, data)[1]) == 9


def test_what_a_run_reads_stays_until_it_ends(make_shapes: Callable[..., Path], data: Path, tmp_path: Path) -> None:
    """Workers on other machines may ask for it at any time, by its path."""
    other = make_shapes(tmp_path / "other", per_class=4, labels=("a", "b"))
    cache = ImageCache(tmp_path / "cache", limit_gb=0)
    store, again = ask(cache, data)[0], ask(cache, data)[0]
    ask(cache, other)
    assert {entry.data for entry in cache.entries()} == {str(data), str(other)}
    assert cache.clear()[::2] == (1, 1)  # the other one goes, this one stays
    del store
    assert cache.clear()[::2] == (0, 1)
    check(again, data)
    del again
    assert cache.clear()[::2] == (1, 0) and list(cache.folder.iterdir()) == []


def test_images_that_nobody_vouches_for_are_not_believed(cache: ImageCache, data: Path) -> None:
    """As a kill leaves them; some may have been unreadable then, and black, that are not now."""
    ask(cache, data, 32, 48)
    (entry,) = cache.entries()
    (entry.path / ABOUT).unlink()
    ask(cache, data, 32)
    assert not list(entry.path.glob("48-*.npy"))


KILLED = """
import os, sys, time
from pathlib import Path
from gensoup.bench.dataset import LabelledFolder
from gensoup.runtime.preprocess import Preprocess
from gensoup.train.image_cache import ImageCache

def progress(stage, done, total):
    if done == 3:
        print("decoding", flush=True)
        time.sleep(600)

ImageCache(Path(sys.argv[1])).decoded(LabelledFolder.open(sys.argv[2]), [Preprocess(32)], True, progress)
"""


def test_what_a_killed_process_left_is_swept_by_a_run_on_other_images(
    make_shapes: Callable[..., Path], cache: ImageCache, data: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", KILLED, str(cache.folder), str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "decoding\n"
        (left,) = cache.folder.glob(f"*/{MAKING}")
        other = make_shapes(tmp_path / "other", per_class=4, labels=("a", "b"))
        ask(cache, other)
        assert left.exists()  # it is still at it
        process.send_signal(signal.SIGKILL)
    assert left.exists()
    ask(cache, other)
    assert not left.parent.exists() and len(cache.entries()) == 1
    check(ask(cache, data)[0], data)


def test_a_link_in_place_of_an_entry_is_not_followed(cache: ImageCache, data: Path, tmp_path: Path) -> None:
    ask(cache, data)
    (entry,) = cache.entries()
    elsewhere = entry.path.rename(tmp_path / "elsewhere")
    entry.path.symlink_to(elsewhere)
    (elsewhere / ABOUT).write_text("{")
    with pytest.raises(WriteError, match="is a link"):
        ask(cache, data)
    assert cache.clear() == (0, 0, 0) and len(list(elsewhere.iterdir())) > 2


def test_what_was_long_unused_goes(
    make_shapes: Callable[..., Path], cache: ImageCache, data: Path, tmp_path: Path
) -> None:
    ask(cache, data)
    (entry,) = cache.entries()
    os.utime(entry.path / ABOUT, (0, time.time() - 31 * 86_400))
    ask(cache, make_shapes(tmp_path / "other", per_class=4, labels=("a", "b")))
    assert [one.data for one in cache.entries()] == [str(tmp_path / "other")]


def test_nobody_else_may_look(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    ask(ImageCache(), data)
    (entry,) = ImageCache().entries()
    assert entry.path.is_relative_to(tmp_path / "xdg" / "gensoup")
    assert entry.path.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in entry.path.glob("*-*.npy"))


def test_no_room_is_one_line_with_ways_out(cache: ImageCache, data: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(
            WriteError, match=r"cannot be written .*ulimit -f.*gensoup data cache --dir .* --clear.*--cache"
        ) as error:
            ask(cache, data, 64)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(error.value) and cache.entries() == []
    check(ask(cache, data, 64)[0], data, 64)
