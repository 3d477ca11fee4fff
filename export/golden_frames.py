"""Golden frames: what every engine is checked with wherever a bundle is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from gensoup.export.parity import reference_probabilities
from gensoup.runtime.bundle import Golden
from gensoup.runtime.preprocess import Frame, Preprocess
from gensoup.runtime.sources.synthetic import LABELS, SyntheticEndoscope

# Height and width: odd sizes, PAL's 576 lines, 1080p.
GOLDEN_SIZES = ((333, 517), (480, 641), (576, 720), (1080, 1920))
STEADY, SCENES = 0.1, 2

# Network inputs uint8 [N, H, W, 3] and the reference's probabilities → how far low precision moves one at most.
Moved = Callable[[NDArray[np.uint8], NDArray[np.float32]], float]


@dataclass(frozen=True, eq=False)
class _Candidate:
    """place: among GOLDEN_SIZES. moved: a probability, by low precision."""

    place: int
    camera: Frame
    frame: Frame
    probabilities: NDArray[np.float32]
    moved: float


def golden_frames(model: nn.Module, temperature: float, preprocess: Preprocess, moved: Moved | None = None) -> Golden:
    """Frames with known answers, one of each size.

    They are drawn, not taken from the data: no patient's image leaves with a bundle. Drawn frames are strange to many
    networks. One that lies between two classes tells nothing of an engine: int8 may move it all the way. And frames
    that all get one answer tell nothing of an engine that always gives it. So of SCENES scenes a size, in several
    looks, those are taken whose answers differ most, among the ones on which ``moved`` is at most STEADY; where a size
    has none of these, the one that moves least.
    """
    found = [_steady(_drawn(place, model, temperature, preprocess, moved)) for place in range(len(GOLDEN_SIZES))]
    chosen = _farthest([candidate for candidates in found for candidate in candidates])
    return Golden(
        tuple(candidate.camera for candidate in chosen),
        np.stack([candidate.frame for candidate in chosen]),
        np.stack([candidate.probabilities for candidate in chosen]),
    )


def constant_error(probabilities: NDArray[np.float32]) -> float:
    """By how much any answer that is always the same must be off somewhere in ``probabilities`` [N, K], at least."""
    return float(np.ptp(probabilities, axis=0).max()) / 2


def _drawn(
    place: int, model: nn.Module, temperature: float, preprocess: Preprocess, moved: Moved | None
) -> Iterator[_Candidate]:
    for seed in range(place, place + SCENES * len(GOLDEN_SIZES), len(GOLDEN_SIZES)):
        scene = SyntheticEndoscope(seed, LABELS[seed % len(LABELS)], *GOLDEN_SIZES[place]).frame(0.0)
        for camera in _looks(scene):
            frame = preprocess(camera)
            probabilities = reference_probabilities(model, temperature, frame[None])
            apart = 0.0 if moved is None else moved(frame[None], probabilities)
            yield _Candidate(place, camera, frame, probabilities[0], apart)


def _looks(scene: Frame) -> tuple[Frame, ...]:
    """A drawn scene as it is, in poor light, in other colours and as a negative: the network's answers vary more."""
    dark = (scene * np.float32(0.3)).astype(np.uint8)
    return scene, dark, np.ascontiguousarray(scene[..., [1, 2, 0]]), 255 - scene


def _steady(candidates: Iterator[_Candidate]) -> list[_Candidate]:
    """Those that low precision hardly moves, else the one that it moves least."""
    found = list(candidates)
    return [one for one in found if one.moved <= STEADY] or [min(found, key=lambda one: one.moved)]


def _farthest(candidates: list[_Candidate]) -> list[_Candidate]:
    """One candidate a place: the two that differ most, then each time the one least like those that were taken."""
    answers = np.stack([one.probabilities for one in candidates])
    places = np.array([one.place for one in candidates])
    apart = np.abs(answers[:, None] - answers[None]).max(2)
    elsewhere = np.where(places[:, None] != places[None], apart, -1.0)
    taken = list(np.unravel_index(int(elsewhere.argmax()), elsewhere.shape))
    while len(taken) < len(GOLDEN_SIZES):
        nearest = np.where(np.isin(places, places[taken]), -1.0, apart[:, taken].min(1))
        taken.append(nearest.argmax())
    return sorted((candidates[int(number)] for number in taken), key=lambda one: one.place)
