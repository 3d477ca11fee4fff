"""What evidence counts as none and as much: fixed once, on training frames and on dark ones, never per frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gensoup.export.graph import standardise, to_planes
from gensoup.export.saliency import ClassActivation, NoSaliencyError, SaliencyRange

TOP_PERCENTILE = 90.0
# Classes that win fewer of the calibration frames take the range's top from all classes together.
MIN_WINS = 8
# Grey levels: black, black as video transports it, and the noise of a covered camera (up to this, evenly spread).
VIDEO_BLACK, NOISE = 16, 12
_NOISE_FRAMES = 4
_BATCH = 16


def calibrate(model: nn.Module, frames: NDArray[np.uint8]) -> SaliencyRange:
    """The range from network inputs uint8 BGR [N, H, W, 3] of training images.

    Raises NoSaliencyError for a network that admits no map, and for one that finds no evidence in any frame.
    """
    activation = ClassActivation(model).eval()
    winners, peaks = [], []
    with torch.inference_mode():
        for start in range(0, len(frames), _BATCH):
            logits, evidence = activation(_planes(frames[start : start + _BATCH]))
            winners.append(logits.argmax(1))
            peaks.append(evidence.flatten(1).amax(1))
        dark = _planes(dark_frames(frames.shape[1]))
        classes = logits.shape[1]
        floor = [float(activation(dark, torch.full((len(dark),), index))[1].amax()) for index in range(classes)]
    winner, peak = torch.cat(winners).numpy(), torch.cat(peaks).numpy()
    top = [_top(peak, winner == index, max(0.0, floor[index])) for index in range(classes)]
    chosen = SaliencyRange(
        tuple(max(0.0, value) for value in floor), tuple(top), tuple(evidence.shape[1:]), len(frames)
    )
    if not any(chosen.gain()):
        raise NoSaliencyError("no training frame gives its class any evidence")
    return chosen


def describe(model: nn.Module, frames: NDArray[np.uint8]) -> tuple[SaliencyRange | None, dict[str, Any]]:
    """The range, None where there is no map, and what the manifest says about it."""
    try:
        chosen = calibrate(model, frames)
    except NoSaliencyError as error:
        return None, {"available": False, "reason": str(error)}
    return chosen, chosen.to_dict()


def dark_frames(size: int) -> NDArray[np.uint8]:
    """What a camera sees in the dark: uint8 [N, size, size, 3], black first."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, NOISE + 1, (_NOISE_FRAMES, size, size, 3), dtype=np.uint8)
    plain = [np.full((1, size, size, 3), level, np.uint8) for level in (0, VIDEO_BLACK)]
    return np.concatenate([*plain, noise])


def _top(peak: NDArray[np.float32], won: NDArray[np.bool_], floor: float) -> float:
    own = peak[won] if won.sum() >= MIN_WINS else peak
    return max(float(np.percentile(own, TOP_PERCENTILE)), 2 * floor, 0.0)


def _planes(frames: NDArray[np.uint8]) -> Tensor:
    return standardise(to_planes(torch.from_numpy(np.ascontiguousarray(frames))))
