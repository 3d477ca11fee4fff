from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from gensoup.runtime import Prediction, Result, State
from gensoup.runtime.lettering import drawable
from gensoup.runtime.overlay import NOTHING, STATE_COLORS, UNCERTAIN, caption, draw, draw_saliency, shown_label
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.smoothing import Smoothed

PREDICTION = Prediction("Polyp", 1, 0.873, np.array([0.127, 0.873], np.float32), 1.0, 2.0)
LONG = "Lésion plate, type 0-IIa, latéralement étalée, du côlon transverse, à surface granulaire homogène"

# Full loss of one kind of cone, for linear RGB: Machado, Oliveira and Fernandes, IEEE TVCG 15(6), 2009.
SIGHT = {
    "trichromat": np.eye(3),
    "protanope": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranope": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanope": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def result(
    state: State = State.OK, prediction: Prediction | None = PREDICTION, smoothed: Smoothed | None = None
) -> Result:
    return Result(7, 0.0, 0.001, 0.002, 0.0123, 0, state, prediction, "engine", smoothed=smoothed)


def smoothed(label: str | None, index: int = 0) -> Smoothed:
    return Smoothed(label, index, 0.61, np.array([0.61, 0.39], np.float32), label is not None, 100.0)


def test_caption_shows_label_probability_state_and_age() -> None:
    assert caption(result()) == ("Polyp  87%", "OK  12 ms")
    assert caption(result(State.LATE)) == ("Polyp  87%", "LATE  12 ms")
    assert caption(result(State.DEGRADED), age_ms=41.8) == ("Polyp  87%", "DEGRADED  42 ms")
    assert caption(result(), age_ms=65_000) == ("Polyp  87%", "OK  65 s")


def test_the_smoothed_label_is_shown_where_there_is_one() -> None:
    assert caption(result(smoothed=smoothed("Ulcer")))[0] == "Ulcer  61%"
    assert caption(result(smoothed=smoothed(None)))[0] == UNCERTAIN


@pytest.mark.parametrize("smooth", [None, smoothed("Polyp", 1), smoothed(None)])
@pytest.mark.parametrize(("state", "prediction"), [(State.STALE, PREDICTION), (State.FAILED, None)])
def test_an_old_or_missing_label_is_never_shown(
    state: State, prediction: Prediction | None, smooth: Smoothed | None
) -> None:
    assert shown_label(result(state, prediction, smooth)) == (NOTHING, None)


@pytest.mark.parametrize(
    ("size", "state"),
    [((480, 640), state) for state in State]
    + [((2160, 3840), State.OK), ((1080, 1920), State.LATE), ((96, 60), State.STALE)],
)
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


@pytest.mark.parametrize("label", [LONG, "息肉" * 40, "W" * 200, "i"])
@pytest.mark.parametrize("size", [(480, 640), (480, 270), (96, 60), (40, 33), (5, 400), (3, 3), (1, 1)])
def test_no_letter_is_cut_off(size: tuple[int, int], label: str) -> None:
    frame = np.zeros((*size, 3), np.uint8)
    drawn = draw(frame, result(prediction=replace(PREDICTION, label=label)))
    assert drawn.shape == frame.shape
    if min(size) < 33:
        return  # nothing can be read there
    written = (drawn > 200).all(axis=2)
    assert written.any()
    assert not written[:, -1].any() and not written[-1].any()


def test_a_long_label_keeps_its_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr("gensoup.runtime.overlay.draw_line", lambda picture, line, *at: lines.append(line.text))
    draw(np.zeros((480, 640, 3), np.uint8), result(prediction=replace(PREDICTION, label=LONG)))
    head, _, tail = lines[0].replace("...", "…").partition("…")
    assert drawable(LONG).startswith(head) and drawable(LONG).endswith(tail) and min(len(head), len(tail)) > 15
    assert lines[1:] == ["  87%", "OK  12 ms"]


@pytest.mark.parametrize("brightness", [0, 128, 255])
@pytest.mark.parametrize("size", [(480, 640), (2160, 3840)])
def test_text_stands_out_of_any_picture(size: tuple[int, int], brightness: int) -> None:
    """The contrast of WCAG 2 for text: at least 4.5; large enough: 2% of the height or more."""
    drawn = draw(np.full((*size, 3), brightness, np.uint8), result(prediction=replace(PREDICTION, label="H")))
    text = (drawn == 255).all(axis=2)[: round(0.945 * size[0])] & (brightness < 255)
    if brightness < 255:
        rows = np.nonzero(text.any(axis=1))[0]
        assert rows[-1] - rows[0] >= 0.02 * size[0]
    ground = float(np.median(drawn[-round(0.1 * size[0]) :, round(0.02 * size[1]) : round(0.1 * size[1])]))
    linear = (ground / 255) ** 2.2
    assert 1.05 / (linear + 0.05) > 4.5


@pytest.mark.parametrize("sight", list(SIGHT))
def test_states_differ_in_color_for_everyone(sight: str) -> None:
    colors = np.array([color[::-1] for color in STATE_COLORS.values()]) / 255
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(SIGHT[sight]).T, 0, 1)
    encoded = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055).astype(np.float32)
    lab = cv2.cvtColor(encoded[None], cv2.COLOR_RGB2LAB)[0]
    apart = [np.linalg.norm(one - other) for at, one in enumerate(lab) for other in lab[at + 1 :]]
    assert min(apart) > 9  # CIE 1976; 2.3 is just noticeable


def test_states_differ_without_color_too() -> None:
    frame = np.zeros((480, 640, 3), np.uint8)
    signs = []
    for state in State:
        drawn = draw(frame, result(state, PREDICTION if state is not State.FAILED else None), age_ms=0)
        signs.append((drawn[-30:-6, 12:34].max(axis=2) > 60).astype(float))
    apart = [np.abs(one - other).mean() for at, one in enumerate(signs) for other in signs[at + 1 :]]
    assert min(apart) > 0.05


@pytest.mark.parametrize("state", list(State))
def test_heat_is_drawn_unless_it_is_no_longer_current(state: State) -> None:
    saliency = np.zeros((7, 7), np.float32)
    saliency[3, 3] = 0.9
    frame, preprocess = np.full((140, 210, 3), 90, np.uint8), Preprocess(224)
    prediction = None if state is State.FAILED else replace(PREDICTION, saliency=saliency)
    drawn = draw_saliency(frame, result(state, prediction), preprocess)
    if state in (State.OK, State.LATE, State.DEGRADED):
        assert (drawn[70, 105] != 90).all() and (drawn[:20] == 90).all()
    else:
        assert drawn is frame
    assert draw_saliency(frame, result(), preprocess) is frame  # no map, no heat


def test_the_heat_of_another_label_is_not_drawn() -> None:
    frame, preprocess = np.full((140, 210, 3), 90, np.uint8), Preprocess(224)
    explained = replace(PREDICTION, saliency=np.ones((7, 7), np.float32))
    for shown, drawn in ((smoothed("Polyp", 1), True), (smoothed("Ulcer"), False), (smoothed(None), False)):
        assert (draw_saliency(frame, result(State.OK, explained, shown), preprocess) is not frame) == drawn
