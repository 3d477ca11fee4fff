"""Images on their way to a machine that cannot reach them by their path."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import multiprocessing.synchronize
import resource
import signal
import threading
import time
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gensoup.runtime.errors import GenSoupError
from gensoup.runtime.private_cache import cache_root
from gensoup.train import shipping
from gensoup.train.images import Selection
from gensoup.train.learner import Examples
from gensoup.train.shipping import Arrivals, NotHere, ShippedExamples, read_shard, shipped


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def examples(tmp_path: Path) -> Examples:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (50, 8, 8, 3), np.uint8))
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    rows = np.array([3, 4, 40])
    return Examples(Selection(images, rows), np.array([0, 1, 1]), 2)


def far(sent: ShippedExamples) -> ShippedExamples:
    """As it is on another machine, where the path leads nowhere."""
    return replace(sent, path="/nowhere" + sent.path)


def near(path: str, start: int, stop: int) -> np.ndarray:
    """What the machine that has the images answers."""
    return read_shard(path.removeprefix("/nowhere"), start, stop)


def near_path(sent: ShippedExamples) -> Path:
    return Path(sent.path.removeprefix("/nowhere"))


def equal(one: Examples, other: Examples) -> bool:
    same = np.array_equal(one.images[np.arange(len(one))], other.images[np.arange(len(other))])
    return same and np.array_equal(one.targets, other.targets) and one.classes == other.classes


def copies() -> list[str]:
    folder = cache_root() / "shipped"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_on_a_machine_that_has_the_file_nothing_is_copied(examples: Examples) -> None:
    assert equal(Arrivals().examples(shipped(examples), None), examples)
    assert copies() == []


def test_elsewhere_they_come_in_parts_and_go_again(examples: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "SHARD_BYTES", 7 * 8 * 8 * 3)
    parts: list[tuple[int, int]] = []

    def read(path: str, start: int, stop: int) -> np.ndarray:
        parts.append((start, stop))
        return near(path, start, stop)

    arrivals = Arrivals()
    with pytest.raises(NotHere):
        arrivals.examples(far(shipped(examples)), None)
    assert equal(arrivals.examples(far(shipped(examples)), read), examples)
    assert len(parts) == 8 and len(copies()) == 2
    assert (cache_root() / "shipped" / copies()[1]).stat().st_mode & 0o077 == 0
    again = replace(examples, images=Selection(examples.images.images, np.array([7])), targets=np.array([1]))
    assert equal(arrivals.examples(far(shipped(again)), read), again) and len(parts) == 8
    arrivals.close()
    assert copies() == []


def test_another_file_at_the_same_path_is_not_taken(examples: Examples) -> None:
    sent = shipped(examples)
    np.save(sent.path, np.zeros((50, 8, 8, 3), np.uint8))
    with pytest.raises(NotHere):
        Arrivals().examples(sent, None)


def test_what_a_killed_process_left_is_removed(examples: Examples) -> None:
    arrivals = Arrivals()
    arrivals.examples(far(shipped(examples)), near)
    folder = cache_root() / "shipped"
    for name in ("dead.npy", "dead.lock", "older.npy"):  # the last one's lock is gone already
        (folder / name).touch()
    other = replace(examples, images=Selection(np.load(shipped(examples).path, mmap_mode="r"), np.array([1, 2, 3])))
    second = Arrivals()
    second.examples(far(shipped(other)), near)
    assert len(copies()) == 2 and not {"dead.npy", "older.npy"} & set(copies())
    arrivals.close()
    assert len(copies()) == 2  # the second still uses it
    second.close()
    assert copies() == []


def test_a_sweep_that_comes_late_leaves_what_was_made_anew(examples: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has opened a lock file that its last user then removes, and somebody else makes both anew."""
    first, second, held_back = Arrivals(), Arrivals(), shipping.opened
    first.examples(far(shipped(examples)), near)

    def late(path: Path) -> int:
        monkeypatch.setattr(shipping, "opened", held_back)
        descriptor = held_back(path)
        first.close()
        second.examples(far(shipped(examples)), near)
        return descriptor

    monkeypatch.setattr(shipping, "opened", late)
    shipping.sweep()
    assert len(copies()) == 2
    second.close()
    assert copies() == []


def test_who_made_a_copy_shares_the_one_that_has_taken_its_place(
    examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose lock becomes a shared one has none in between: a sweep removes the copy, and another makes it anew."""
    first, second, fill, made = Arrivals(), Arrivals(), shipping._fill, []

    def filled(path: Path, *arguments: Any) -> None:
        fill(path, *arguments)
        made.append(path)
        if len(made) == 1:
            path.unlink()
            path.with_suffix(".lock").unlink()
            second.examples(far(shipped(examples)), near)

    monkeypatch.setattr(shipping, "_fill", filled)
    assert equal(first.examples(far(shipped(examples)), near), examples)
    assert len(made) == 2 and len(copies()) == 2
    second.close()
    assert len(copies()) == 2
    first.close()
    assert copies() == []


def take(sent: ShippedExamples, together: Barrier, results: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    """In a process of its own: all begin at once, and hold what they have until all have it."""
    count = 0

    def read(path: str, start: int, stop: int) -> np.ndarray:
        nonlocal count
        count += 1
        return near(path, start, stop)

    together.wait(60)
    arrivals = Arrivals()
    found = arrivals.examples(sent, read)
    results.put((count, int(np.asarray(found.images[np.arange(len(found))]).sum())))
    together.wait(60)
    arrivals.close()


def test_processes_of_one_machine_share_one_copy(examples: Examples) -> None:
    context = multiprocessing.get_context("fork")
    together, results = context.Barrier(4), context.Queue()
    sent = far(shipped(examples))
    processes = [context.Process(target=take, args=(sent, together, results)) for _ in range(4)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(count for count, _ in found) == [0, 0, 0, 1]
    assert {total for _, total in found} == {int(np.asarray(examples.images[np.arange(3)]).sum())}
    assert copies() == []


def test_no_room_is_one_line(examples: Examples) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(GenSoupError, match=r"/shipped/.*\.npy: cannot be written \(File too large\)"):
            Arrivals().examples(far(shipped(examples)), near)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_images_that_went_meanwhile_are_one_line(examples: Examples) -> None:
    sent = far(shipped(examples))
    np.save(near_path(sent), np.zeros((50, 8, 8, 3), np.uint8))
    with pytest.raises(GenSoupError, match=r"images\.npy: cannot be sent to another machine any more \(it holds other"):
        Arrivals().examples(sent, near)
    near_path(sent).unlink()
    with pytest.raises(GenSoupError, match=r"images\.npy: cannot be sent .* \(No such file or directory\)$"):
        Arrivals().examples(sent, near)


def test_where_files_cannot_be_locked_it_is_said(examples: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", never)
    with pytest.raises(GenSoupError, match=r"cannot be locked there \(No locks available\); name another place"):
        Arrivals().examples(far(shipped(examples)), near)


def linger(sent: ShippedExamples, half: multiprocessing.synchronize.Event) -> None:
    """In a process of its own: is still at its copy when it is killed."""

    def read(path: str, start: int, stop: int) -> np.ndarray:
        half.set()
        time.sleep(60)
        raise AssertionError

    Arrivals().examples(sent, read)


def test_the_half_that_a_killed_process_has_is_waited_for_and_removed(examples: Examples) -> None:
    context = multiprocessing.get_context("fork")
    half = context.Event()
    process = context.Process(target=linger, args=(far(shipped(examples)), half))
    process.start()
    assert half.wait(60) and len(copies()) == 2
    shipping.sweep()
    assert len(copies()) == 2
    threading.Timer(0.3, process.kill).start()
    shipping.sweep(60)
    assert copies() == []
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
