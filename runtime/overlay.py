"""Results drawn into frames: label, probability, state and age, and where the evidence lies."""

from __future__ import annotations

import cv2
import numpy as np

from gensoup.runtime.heat import draw_heat
from gensoup.runtime.lettering import Color, Frame, Line, draw_line, fitted, text_width
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.result import Result, State
from gensoup.runtime.smoothing import Smoothed

# Okabe and Ito's palette, BGR: told apart with every common colour blindness; the state has a shape and a word as well.
STATE_COLORS: dict[State, Color] = {
    State.OK: (115, 158, 0),
    State.LATE: (0, 159, 230),
    State.DEGRADED: (233, 180, 86),
    State.STALE: (167, 121, 204),
    State.FAILED: (0, 94, 213),
}
# Corners of each state's sign in a square of 2 × 2 around its middle; a disc has none.
_SIGNS: dict[State, tuple[tuple[float, float], ...]] = {
    State.OK: (),
    State.LATE: ((0, -0.95), (1, 0.85), (-1, 0.85)),
    State.DEGRADED: ((0, -1), (1, 0), (0, 1), (-1, 0)),
    State.STALE: ((-0.9, -1), (0.9, -1), (-0.9, 1), (0.9, 1)),  # an hour-glass
    State.FAILED: (  # a cross
        *((0, -0.42), (0.5, -0.92), (0.92, -0.5), (0.42, 0), (0.92, 0.5), (0.5, 0.92)),
        *((0, 0.42), (-0.5, 0.92), (-0.92, 0.5), (-0.42, 0), (-0.92, -0.5), (-0.5, -0.92)),
    ),
}
NOTHING, UNCERTAIN = "no current result", "? uncertain"

_WHITE: Color = (255, 255, 255)
_SUBPIXELS = 4  # bits of a pixel in the corners of signs
_LABEL_SHARE, _STATE_SHARE = 0.055, 0.042  # of the frame's height: 26 and 20 px at 480p
_SMALLEST_SHARE = 0.6  # long labels shrink to so much of their size before their middle is left out
_LEGIBLE = 9  # pixels, where the frame has room for it


def shown_label(result: Result) -> tuple[str, float | None]:
    """What may be called current, and its probability: the smoothed label where there is one, else the raw winner.

    ``UNCERTAIN`` below the label's threshold, ``NOTHING`` for results that are stale or failed; both without a number.
    """
    if result.prediction is None or result.state in (State.STALE, State.FAILED):
        return NOTHING, None
    if isinstance(result.smoothed, Smoothed):
        if result.smoothed.label is None:
            return UNCERTAIN, None
        return result.smoothed.label, result.smoothed.probability
    return result.prediction.label, result.prediction.probability


def caption(result: Result, age_ms: float | None = None) -> tuple[str, str]:
    """The two lines shown: label and probability, then state and age. ``age_ms``: None: when the result was done."""
    label, probability = shown_label(result)
    age = result.age_ms if age_ms is None else age_ms
    return label + _percent(probability), f"{result.state.value}  {_milliseconds(age)}"


def draw(frame: Frame, result: Result, age_ms: float | None = None) -> Frame:
    """A copy of the BGR uint8 frame [height, width, 3] with :func:`caption` in a band at its lower left.

    It scales with the frame's height; what does not fit its width shrinks, then a long label loses its middle,
    never its probability. age_ms: since capture, as shown; None: as it was when the result was done.
    """
    out = np.ascontiguousarray(frame).copy()
    height, width = out.shape[:2]
    label_size = max(round(_LABEL_SHARE * height), min(_LEGIBLE, height // 4), 1)
    state_size = max(round(_STATE_SHARE * height), min(_LEGIBLE, height // 4), 1)
    bar = max(1, label_size // 4)
    left = bar + max(1, label_size // 3)
    room = max(1, round(0.97 * width) - left - label_size // 3)
    label, probability = shown_label(result)
    lines = _first_line(label, _percent(probability), room, label_size)
    sign = round(0.75 * state_size)
    state = fitted(caption(result, age_ms)[1], max(1, room - round(1.4 * sign)), state_size, 1)

    text_right = left + max(sum(line.width for line in lines), round(1.4 * sign) + state.width)
    right = min(width - 1, text_right + label_size // 3)
    top = max(0, height - round(1.35 * label_size + 1.45 * state_size))
    out[top:, :right] //= 5  # darkened, not covered: what lies beneath stays visible
    out[top:, :bar] = STATE_COLORS[result.state]
    baseline, at = top + round(1.05 * label_size), left
    for line in lines:
        draw_line(out, line, at, baseline, _WHITE)
        at += line.width
    baseline = height - round(0.5 * state_size)
    _draw_sign(out, result.state, (left + sign / 2, baseline - 0.36 * state_size), sign / 2)
    draw_line(out, state, left + round(1.4 * sign), baseline, _WHITE)
    return out


def draw_saliency(frame: Frame, result: Result, preprocess: Preprocess) -> Frame:
    """The frame with its saliency map over it; the frame itself where there is none for what is shown.

    The map tells where the raw winner's evidence lies: under another label, none or "uncertain" it would mislead.
    """
    prediction = result.prediction
    if prediction is None or prediction.saliency is None or shown_label(result)[0] != prediction.label:
        return frame
    return draw_heat(frame, prediction.saliency, preprocess)


def _first_line(label: str, percent: str, room: int, size: int) -> tuple[Line, ...]:
    """Label and probability on one line; the label alone is shortened."""
    smallest = max(1, round(_SMALLEST_SHARE * size))
    number = fitted(percent, max(1, room // 2), size, 1) if percent else Line("", size, 0)
    name = fitted(label, max(1, room - number.width), size, smallest)
    if percent and name.size < number.size:  # both in one size, and the label takes what that leaves
        number = Line(number.text, name.size, text_width(number.text, name.size))
        name = fitted(label, max(1, room - number.width), name.size, name.size)
    return (name, number) if percent else (name,)


def _draw_sign(picture: Frame, state: State, middle: tuple[float, float], radius: float) -> None:
    """The state's shape, in its colour with a white edge."""
    color = STATE_COLORS[state]
    edge = max(1, round(radius / 6))
    one = 1 << _SUBPIXELS
    x, y = middle
    if not _SIGNS[state]:
        at, size = (round(x * one), round(y * one)), round(radius * one)
        cv2.circle(picture, at, size, color, -1, cv2.LINE_AA, _SUBPIXELS)
        cv2.circle(picture, at, size, _WHITE, edge, cv2.LINE_AA, _SUBPIXELS)
        return
    corners = np.array([(x + radius * across, y + radius * down) for across, down in _SIGNS[state]])
    points = [np.round(corners * one).astype(np.int32)]
    cv2.fillPoly(picture, points, color, cv2.LINE_AA, _SUBPIXELS)
    cv2.polylines(picture, points, True, _WHITE, edge, cv2.LINE_AA, _SUBPIXELS)


def _percent(probability: float | None) -> str:
    return "" if probability is None else f"  {probability:.0%}"


def _milliseconds(age_ms: float) -> str:
    return f"{age_ms:.0f} ms" if age_ms < 9999.5 else f"{age_ms / 1e3:.0f} s"
