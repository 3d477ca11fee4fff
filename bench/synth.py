"""Datasets and videos filmed by the synthetic endoscope. They say nothing about patients."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import cv2
import numpy as np

from gensoup.runtime.device import usable_cores
from gensoup.runtime.errors import GenSoupError, UsageError
from gensoup.runtime.files import atomic_folder, atomic_path
from gensoup.runtime.sources.synthetic import LABELS, MIN_SIDE, SyntheticEndoscope

Progress = Callable[[int, int], None]
_JPEG_QUALITY = 92
_SCENE_SECONDS = 1.75


def write_dataset(
    out: Path,
    per_class: int,
    seed: int = 0,
    height: int = 288,
    width: int = 360,
    frames_per_scene: int = 4,
    progress: Progress | None = None,
) -> None:
    """Write a dataset folder: ``LABEL/scene0000_0.jpg`` … and ``groups.csv`` (``file,group``; a group is a scene).

    per_class: images of each of the LABELS, in scenes of ``frames_per_scene`` frames about a second apart (the last
        scene may have fewer). No two scenes share a background.
    progress: called with images done and in all, from the calling thread.
    The folder appears when it is complete. The same arguments give the same images, whatever the number of cores.
    Raises UsageError when ``out`` exists and is not an empty folder or a number makes no sense, GenSoupError when it
    cannot be written.
    """
    if per_class < 1 or frames_per_scene < 1:
        raise UsageError(f"{per_class} images a class in scenes of {frames_per_scene}: take at least 1 of each")
    _check_size(height, width)
    _check_seed(seed)
    with atomic_folder(out) as folder:
        _write_scenes(folder, per_class, seed, height, width, frames_per_scene, progress)


def write_video(
    out: Path,
    seconds: float = 8.0,
    rate_hz: float = 30.0,
    height: int = 1080,
    width: int = 1920,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[str]:
    """Write a Motion-JPEG ``.avi`` that cuts between scenes of different labels, and return every frame's label.

    A scene lasts about 1.75 s; every label comes once before one comes again, and neighbours always differ.
    Raises UsageError for another suffix or numbers that make no sense, GenSoupError when it cannot be written.
    """
    _check_suffix(out)
    if not (0 < seconds <= 3600 and 1 <= rate_hz <= 1000):
        raise UsageError(f"a video of {seconds} s at {rate_hz} Hz: take up to 3600 s at 1 to 1000 Hz")
    _check_size(height, width)
    _check_seed(seed)
    count = max(1, round(seconds * rate_hz))
    scenes = max(1, round(count / rate_hz / _SCENE_SECONDS))
    order = _label_order(np.random.default_rng([seed, 2]), scenes)
    ends = np.linspace(0, count, scenes + 1).round().astype(int).tolist()
    labels: list[str] = []
    with atomic_path(out) as temporary:
        video = temporary.with_name(f"{temporary.name}.avi")  # OpenCV picks the container by suffix
        writer = _open_writer(out, video, rate_hz, height, width)
        try:
            writer.set(cv2.VIDEOWRITER_PROP_QUALITY, _JPEG_QUALITY)
            for scene, label in enumerate(order):
                endoscope = SyntheticEndoscope(_scene_seed(seed, -1, scene), label, height, width)
                for number in range(ends[scene], ends[scene + 1]):
                    writer.write(endoscope.frame(number / rate_hz))
                    labels.append(label)
                    if progress is not None:
                        progress(len(labels), count)
            writer.release()
            if video.stat().st_size == 0:
                raise GenSoupError(f"{out}: nothing could be written; is the disk full?")
            video.replace(temporary)
        finally:
            writer.release()
            video.unlink(missing_ok=True)
    return labels


def check_video(out: Path) -> None:
    """Raise what :func:`write_video` would before its first frame: UsageError for another suffix, GenSoupError where
    this OpenCV cannot write such a video."""
    _check_suffix(out)
    with tempfile.TemporaryDirectory() as folder:
        _open_writer(out, Path(folder) / "probe.avi", 30.0, MIN_SIDE, MIN_SIDE).release()


def _check_suffix(out: Path) -> None:
    if out.suffix.lower() != ".avi":
        raise UsageError(f"{out}: the video is Motion-JPEG in AVI; name it {out.with_suffix('.avi')}")


def _open_writer(out: Path, file: Path, rate_hz: float, height: int, width: int) -> cv2.VideoWriter:
    """Raises GenSoupError, naming ``out``."""
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), rate_hz, (width, height))
    if not writer.isOpened():
        raise GenSoupError(f"{out}: this OpenCV cannot write Motion-JPEG video; install opencv-python")
    return writer


def _write_scenes(
    folder: Path, per_class: int, seed: int, height: int, width: int, frames_per_scene: int, progress: Progress | None
) -> None:
    for label in LABELS:
        (folder / label).mkdir()
    scenes = -(-per_class // frames_per_scene)
    jobs = [(label, scene) for scene in range(scenes) for label in LABELS]

    def film(label: str, scene: int) -> list[str]:
        scene_seed = _scene_seed(seed, LABELS.index(label), scene)
        endoscope = SyntheticEndoscope(scene_seed, label, height, width)
        rng = np.random.default_rng([seed, 3, scene_seed])
        times = rng.uniform(0, 60) + np.cumsum(rng.uniform(0.5, 1.5, frames_per_scene))
        names = []
        for number in range(min(frames_per_scene, per_class - scene * frames_per_scene)):
            name = f"{label}/scene{scene:04d}_{number}.jpg"
            quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
            _, content = cv2.imencode(".jpg", endoscope.frame(float(times[number])), quality)
            (folder / name).write_bytes(content.tobytes())
            names.append(name)
        return names

    lines: list[str] = []
    done, total = 0, per_class * len(LABELS)
    pool = ThreadPoolExecutor(usable_cores())
    try:
        futures = {pool.submit(film, label, scene): f"{label}-scene{scene:04d}" for label, scene in jobs}
        for future in as_completed(futures):
            names = future.result()
            lines += [f"{name},{futures[future]}\n" for name in names]
            done += len(names)
            if progress is not None:
                progress(done, total)
    finally:
        pool.shutdown(cancel_futures=True)
    (folder / "groups.csv").write_text("file,group\n" + "".join(sorted(lines)), encoding="utf-8")


def _scene_seed(seed: int, series: int, scene: int) -> int:
    """A seed of its own for each scene of each label (``series`` −1: the video), so that no two look alike."""
    return int(np.random.SeedSequence([seed, series + 1, scene]).generate_state(1, np.uint64)[0])


def _label_order(rng: np.random.Generator, scenes: int) -> list[str]:
    """``scenes`` labels in random rounds of all of them, no two neighbours equal."""
    order: list[str] = []
    while len(order) < scenes:
        turn = [LABELS[index] for index in rng.permutation(len(LABELS))]
        if order and turn[0] == order[-1]:
            turn.reverse()
        order += turn
    return order[:scenes]


def _check_size(height: int, width: int) -> None:
    if min(height, width) < MIN_SIDE:
        raise UsageError(f"synthetic frames of {height} × {width} pixels: take at least {MIN_SIDE} × {MIN_SIDE}")


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise UsageError(f"synthetic seed {seed}: must not be negative")
