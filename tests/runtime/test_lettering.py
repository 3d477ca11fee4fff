from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from gensoup.runtime import lettering
from gensoup.runtime.lettering import Line, draw_line, drawable, fitted, text_width


def inked(line: Line, height: int = 80, width: int = 400) -> np.ndarray:
    """Where letters are, bool [height, width]."""
    picture = np.zeros((height, width, 3), np.uint8)
    draw_line(picture, line, 10, height // 2, (255, 255, 255))
    return np.asarray(picture.max(axis=2) > 0)


@pytest.fixture(params=["truetype", "hershey"])
def fonts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What OpenCV 5 has and what OpenCV 4 has."""
    if request.param == "truetype" and not lettering.TRUETYPE:
        pytest.skip("OpenCV 4 has no TrueType fonts")
    if request.param == "hershey":
        monkeypatch.setattr(lettering, "TRUETYPE", False)
    return str(request.param)


def test_a_line_takes_the_width_it_says(fonts: str) -> None:
    for text in ("Polyp", "jelly gg 87%", "H"):
        line = fitted(text, 380, 30, 10)
        assert (line.text, line.size, line.width) == (text, 30, text_width(text, 30))
        columns = np.nonzero(inked(line).any(axis=0))[0]
        assert columns[0] >= 8 and columns[-1] <= 10 + line.width + 2
        assert columns[-1] >= 10 + 0.8 * line.width


def test_long_text_shrinks_and_then_loses_its_middle(fonts: str) -> None:
    text = "a rather long label of a finding"
    whole = fitted(text, 250, 30, 10)
    assert whole.text == text and 10 <= whole.size < 30 and whole.width <= 250
    cut = fitted(text, 100, 30, 20)
    assert cut.size == 20 and cut.width <= 100
    head, _, tail = cut.text.replace("...", "…").partition("…")
    assert text.startswith(head) and text.endswith(tail) and len(head) > 2 and len(tail) > 1
    grades = [fitted(f"ulcerative colitis, Mayo grade {grade}", 150, 30, 20).text for grade in range(4)]
    assert len(set(grades)) == 4
    assert fitted(text, 8, 30, 20).width <= 8


def test_other_scripts(fonts: str) -> None:
    if fonts == "hershey":
        assert [drawable(text) for text in ("Lésion étalée", "Größe", "息肉")] == ["Lesion etalee", "Gro?e", "??"]
        return
    seen = {text: inked(fitted(text, 380, 30, 10)) for text in ("Lésion", "Lesion", "Полип", "息肉", "??", "?")}
    pictures = list(seen.values())
    assert all((one != other).any() for at, one in enumerate(pictures) for other in pictures[at + 1 :])


@pytest.mark.skipif(not lettering.TRUETYPE, reason="OpenCV 4 has no TrueType fonts")
def test_threads_may_draw_at_once() -> None:
    expected = inked(fitted("Lésion 87%", 380, 30, 10))
    wrong: list[int] = []

    def draw() -> None:
        for number in range(50):
            fitted(f"other {number}", 200, 40 + number, 10)
            if (inked(fitted("Lésion 87%", 380, 30, 10)) != expected).any():
                wrong.append(number)

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_opencv_is_the_one_thought_of() -> None:
    assert (int(cv2.__version__.split(".")[0]) >= 5) == lettering.TRUETYPE
