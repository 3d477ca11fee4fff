"""A saliency map laid over the camera's frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.preprocess import Preprocess

Frame = NDArray[np.uint8]

# Viridis is read alike with and without colour blindness, bright where the evidence is strong, and its middle is the
# opposite of mucosa (cividis, tried first, is grey there and hardly seen).
_COLORS = cv2.COLORMAP_VIRIDIS
_STRONGEST = 0.7  # share of the colour in the picture where the map is 1: what lies beneath stays visible
_OUTLINE = 0.5  # drawn as a line too, since mucosa can be as yellow as the map


def spread(saliency: NDArray[np.float32], preprocess: Preprocess, height: int, width: int) -> NDArray[np.float32]:
    """The map [h, w] at the size of a frame: float32 [height, width] in [0, 1], zero where the network sees nothing.

    preprocess: what turned the frame into the network's input. Between the centres of the map's cells values are
        interpolated.
    """
    left, top, right, bottom = (round(edge) for edge in preprocess.view(height, width))
    wide, high = max(1, right - left), max(1, bottom - top)
    large = cv2.resize(np.ascontiguousarray(saliency), (wide, high), interpolation=cv2.INTER_CUBIC)
    x0, y0, x1, y1 = preprocess.used(height, width)
    x0, y0, x1, y1 = max(x0, left), max(y0, top), min(x1, left + wide), min(y1, top + high)
    out = np.zeros((height, width), np.float32)
    out[y0:y1, x0:x1] = large[y0 - top : y1 - top, x0 - left : x1 - left]
    return np.clip(out, 0.0, 1.0, out=out)


def draw_heat(frame: Frame, saliency: NDArray[np.float32], preprocess: Preprocess) -> Frame:
    """A copy of the BGR uint8 frame [height, width, 3] with the map over it: the stronger, the brighter and denser.

    Where the map is 0 the frame stays as it is; a line runs where it is .5. Arguments as for :func:`spread`.
    """
    height, width = frame.shape[:2]
    heat = spread(saliency, preprocess, height, width)
    colors = cv2.applyColorMap(cv2.convertScaleAbs(heat, alpha=255.0), _COLORS)
    share = heat * _STRONGEST
    out = np.asarray(cv2.blendLinear(np.ascontiguousarray(frame), colors, 1 - share, share), np.uint8)
    stroke = max(1, round(height / 360))
    lines, _ = cv2.findContours((heat >= _OUTLINE).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(out, lines, -1, (0, 0, 0), 3 * stroke, cv2.LINE_AA)
    cv2.drawContours(out, lines, -1, (255, 255, 255), stroke, cv2.LINE_AA)
    return out
