"""Golden frames: what every engine is checked with wherever a bundle is opened."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from gensoup.export.parity import reference_probabilities
from gensoup.runtime.bundle import Golden
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.sources.synthetic import LABELS, SyntheticEndoscope

# Height and width: odd sizes, PAL's 576 lines, 1080p.
GOLDEN_SIZES = ((333, 517), (480, 641), (576, 720), (1080, 1920))
STEADY, TRIES = 0.1, 8

# Network inputs uint8 [N, H, W, 3] and the reference's probabilities → how far low precision moves one at most.
Moved = Callable[[NDArray[np.uint8], NDArray[np.float32]], float]


def golden_frames(model: nn.Module, temperature: float, preprocess: Preprocess, moved: Moved | None = None) -> Golden:
    """Frames with known answers, one of each size.

    They are drawn, not taken from the data: no patient's image leaves with a bundle. Drawn frames are strange to many
    networks, and one that lies between two classes tells nothing of an engine: int8 may move it all the way. So of up
    to TRIES scenes the first is taken on which ``moved`` is at most STEADY, or the one that moves least.
    """
    chosen = [_steadiest(place, model, temperature, preprocess, moved) for place in range(len(GOLDEN_SIZES))]
    cameras, frames, probabilities = zip(*chosen, strict=True)
    return Golden(tuple(cameras), np.stack(frames), np.stack(probabilities))


def _steadiest(
    place: int, model: nn.Module, temperature: float, preprocess: Preprocess, moved: Moved | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """Camera frame, network input and probabilities [K]."""
    best, least = None, np.inf
    for seed in range(place, place + TRIES * len(GOLDEN_SIZES), len(GOLDEN_SIZES)):
        camera = SyntheticEndoscope(seed, LABELS[seed % len(LABELS)], *GOLDEN_SIZES[place]).frame(0.0)
        frame = preprocess(camera)
        probabilities = reference_probabilities(model, temperature, frame[None])
        apart = 0.0 if moved is None else moved(frame[None], probabilities)
        if best is None or apart < least:
            best, least = (camera, frame, probabilities[0]), apart
        if least <= STEADY:
            break
    assert best is not None
    return best
