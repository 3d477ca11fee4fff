"""What an audit keeps of each image."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gensoup.bench.dataset import LabelledFolder
from gensoup.runtime.images import read_image
from gensoup.train.border import border_strips, thumbnail
from gensoup.train.images import perceptual_hash
from gensoup.train.scan import scan


def test_every_file_once_and_small_pictures_of_the_sample_alone(
    make_shapes: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "d", per_class=4)
    (data / "7" / "text.jpg").write_text("no image", encoding="utf-8")
    (data / "7" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    folder = LabelledFolder.open(data)
    text = folder.files.index("7/text.jpg")
    calls: list[tuple[str, int, int]] = []
    sample = np.array(sorted({1, 5, text}))
    traits = scan(folder, sample, lambda *call: calls.append(call))
    assert calls == [("read", number, 14) for number in range(1, 15)]
    assert list(traits.broken) == ["7/gone.png", "7/text.jpg"]
    assert "cannot be read" in traits.broken["7/gone.png"] and "not an image" in traits.broken["7/text.jpg"]
    assert traits.sampled.tolist() == [index for index in sample if index != text]
    for index, path in enumerate(folder.paths):
        if folder.files[index] in traits.broken:
            assert not traits.sizes[index].any() and traits.digests[index] == b""
            continue
        image = read_image(path)
        assert traits.sizes[index].tolist() == [64, 72]
        assert np.array_equal(traits.hashes[index], perceptual_hash(image))
        assert traits.digests[index] == hashlib.sha256(path.read_bytes()).digest()
        assert traits.middles[index].shape == (24, 24) and traits.middles[index].std() > 1
    for row, index in enumerate(traits.sampled):
        image = read_image(folder.paths[index])
        assert np.array_equal(traits.strips[row], border_strips(image))
        assert np.array_equal(traits.thumbnails[row], thumbnail(image))


def test_an_interruption_does_not_read_on(make_shapes: Callable[..., Path], tmp_path: Path) -> None:
    folder = LabelledFolder.open(make_shapes(tmp_path / "d", per_class=100))
    read: list[int] = []
    first, pressed = folder.paths[0].read_bytes(), threading.Event()
    original = hashlib.sha256

    def interrupt(stage: str, done: int, total: int) -> None:
        pressed.set()
        raise KeyboardInterrupt

    def counted(content: bytes) -> Any:
        read.append(len(content))
        assert content == first or pressed.wait(60)  # nothing is read ahead of the first image's report
        return original(content)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("gensoup.train.scan.hashlib.sha256", counted)
        scan(folder, np.arange(0), interrupt)
    assert len(read) < len(folder)
