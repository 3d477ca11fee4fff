from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gensoup.runtime import Prediction, Result, State
from gensoup.runtime.overlay import STATE_COLORS, caption, draw, draw_saliency
from gensoup.runtime.preprocess import Preprocess

PREDICTION = Prediction("Polyp", 1, 0.873, np.array([0.127, 0.873], np.float32), 1.0, 2.0)


def result(state: State = State.OK, prediction: Prediction | None = PREDICTION) -> Result:
    return Result(7, 0.0, 0.001, 0.002, 0.0123, 0, state, prediction, "engine")


def test_caption_shows_label_probability_state_and_age() -> None:
    assert caption(result()) == ("Polyp  87%", "OK  12 ms")
    assert caption(result(State.LATE)) == ("Polyp  87%", "LATE  12 ms")


@pytest.mark.parametrize("bad", [result(State.STALE), result(State.FAILED, None)])
def test_an_old_or_missing_label_is_never_shown(bad: Result) -> None:
    assert "Polyp" not in caption(bad)[0]


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("size", [(480, 640), (1080, 1920), (2160, 3840), (96, 60)])
def test_drawing_scales_with_the_frame_and_leaves_it_alone(size: tuple[int, int], state: State) -> None:
    frame = np.full((*size, 3), 128, np.uint8)
    drawn = draw(frame, result(state))
    assert (frame == 128).all()
    assert drawn.shape == frame.shape
    changed = (drawn != frame).any(axis=2)
    rows, columns = np.nonzero(changed.any(axis=1))[0], np.nonzero(changed.any(axis=0))[0]
    assert 0.05 < len(rows) / size[0] < 0.25 or size == (96, 60)
    assert rows[-1] == size[0] - 1
    assert columns[0] == 0
    assert columns[-1] < size[1] - 1  # the text fits
    assert (drawn == np.array(STATE_COLORS[state], np.uint8)).all(axis=2).sum() >= 20


def test_states_differ_in_brightness_or_hue_for_everyone() -> None:
    colors = [np.array(color, int) for color in STATE_COLORS.values()]
    apart = [np.abs(one - other).max() for at, one in enumerate(colors) for other in colors[at + 1 :]]
    assert min(apart) >= 60


@pytest.mark.parametrize("state", list(State))
def test_heat_is_drawn_unless_it_is_no_longer_current(state: State) -> None:
    saliency = np.zeros((7, 7), np.float32)
    saliency[3, 3] = 0.9
    frame, preprocess = np.full((140, 210, 3), 90, np.uint8), Preprocess(224)
    prediction = None if state is State.FAILED else replace(PREDICTION, saliency=saliency)
    drawn = draw_saliency(frame, result(state, prediction), preprocess)
    if state in (State.OK, State.LATE):
        assert (drawn[70, 105] != 90).all() and (drawn[:20] == 90).all()
    else:
        assert drawn is frame
    assert draw_saliency(frame, result(), preprocess) is frame  # no map, no heat
