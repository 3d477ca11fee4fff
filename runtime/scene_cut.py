"""Scene cuts: the camera shows another place from one frame to the next, so what was seen before counts no more.

Two frames are compared as thumbnails of 32 × 32: by the structure term of SSIM (Wang, Bovik, Sheikh and Simoncelli,
*Image quality assessment: from error visibility to structural similarity*, IEEE TIP 13(4), 2004, eq. 10) over the whole
thumbnail in colour, which a change of exposure leaves alone; and where that alone would say cut, once more with the
camera's pan taken out, found by phase correlation (Porter, Mirmehdi and Thomas, *Video cut detection using frequency
domain correlation*, ICPR 2000).
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]  # BGR [height, width, 3]
Thumbnail = NDArray[np.float32]

SIDE = 32
# Distances measured with synthetic scenes, and with colonoscopy stills moved by hand: docs/decisions.md.
CUT_DISTANCE = 0.055
# Shortly after a cut only what looks nothing like the frame before is another one: without this, a stretch of water or
# a blurred whip of the camera would switch smoothing off frame by frame, just where it is needed most.
REST_S = 0.25
CLEAR_DISTANCE = 0.25

_NOISE = 0.03 * 255 / math.sqrt(2)  # grey levels, the root of SSIM's C3: what is no structure on a plain wall
_SAMPLED = 4 * SIDE
_EDGE = SIDE // 8  # what a shifted thumbnail does not know at its edges
_FARTHEST = SIDE / 4
_WINDOW = np.asarray(cv2.createHanningWindow((SIDE, SIDE), cv2.CV_32F), np.float32)


def thumbnail(frame: Frame | Thumbnail) -> Thumbnail:
    """A BGR uint8 frame [height, width, 3] of any size as float32 [32, 32, 3]; a thumbnail as it is.

    Large frames are sampled at 128 × 128 points before the mean is taken: the exact mean of 1080p costs milliseconds.
    """
    picture: cv2.typing.MatLike = frame
    if frame.shape[0] > _SAMPLED and frame.shape[1] > _SAMPLED:
        picture = cv2.resize(frame, (_SAMPLED, _SAMPLED), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)


def structure_distance(before: Thumbnail, after: Thumbnail) -> float:
    """1 − the structure term of SSIM: 0 for the same picture at any exposure, about 1 for unrelated ones, at most 2.

    Contrasts count as at least that of noise, so that black is unlike a picture; black and white are alike: both plain.
    """
    one, other = (before - before.mean()).ravel(), (after - after.mean()).ravel()
    spreads = math.sqrt(float(one @ one) / one.size), math.sqrt(float(other @ other) / one.size)
    if max(spreads) < _NOISE:
        return 0.0
    spread = max(spreads[0], _NOISE) * max(spreads[1], _NOISE)
    return 1.0 - (float(one @ other) / one.size + _NOISE**2) / (spread + _NOISE**2)


def cut_distance(before: Thumbnail, after: Thumbnail) -> float:
    """How unlike two thumbnails are, the camera's pan taken out where that makes them more alike."""
    distance = structure_distance(before, after)
    if distance < CUT_DISTANCE:  # panned back it can only be less
        return distance
    (right, down), _ = cv2.phaseCorrelate(_luma(before), _luma(after), _WINDOW)
    if not (abs(right) <= _FARTHEST and abs(down) <= _FARTHEST):  # NaN too, which a flat picture gives
        return distance
    back = np.array([[1, 0, -right], [0, 1, -down]], np.float32)
    panned = np.asarray(cv2.warpAffine(after, back, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE), np.float32)
    inner = slice(_EDGE, -_EDGE)
    return min(distance, structure_distance(before[inner, inner], panned[inner, inner]))


class SceneCut:
    """Tells for each frame whether it shows another scene than the one before; not thread-safe."""

    def __init__(self) -> None:
        self._before: Thumbnail | None = None
        self._last_cut = -math.inf

    def __call__(self, frame: Frame | Thumbnail, at: float) -> bool:
        """Take the next frame, or its thumbnail, ``at`` seconds; False for the first one."""
        after = thumbnail(frame)
        before, self._before = self._before, after
        if before is None:
            return False
        least = CLEAR_DISTANCE if 0 <= at - self._last_cut < REST_S else CUT_DISTANCE
        if cut_distance(before, after) < least:
            return False
        self._last_cut = at
        return True


def _luma(picture: Thumbnail) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.float32)
