"""What the report's figures share."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from gensoup.bench.figures import COLOURS, INK, OTHERS, Palette, drawing, plain_power, svg


def test_the_most_frequent_have_their_own_look_and_the_rest_share_one() -> None:
    names = [f"n{number}" for number in range(12) for _ in range(12 - number)]
    palette = Palette(names)
    assert palette.names() == [*(f"n{number}" for number in range(len(COLOURS))), OTHERS]
    looks = {(palette.colour(name), palette.marker(name)) for name in palette.names()[:-1]}
    assert len(looks) == len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == len(COLOURS)
    assert palette.shown("n11") == OTHERS and palette.shown("n0") == "n0"
    assert palette.colour("n11") == palette.colour("n10") not in COLOURS
    assert palette.rest == 12 - len(COLOURS)
    assert Palette(reversed(names)).names() == palette.names()


def test_a_palette_that_suffices_has_no_others() -> None:
    assert Palette(["b", "a", "b"]).names() == ["b", "a"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-6, "1e-6"), (2e-4, "2e-4"), (0.01, "0.01"), (1.0, "1"), (300.0, "300"), (1e5, "1e5")],
)
def test_powers_are_plain_text(value: float, text: str) -> None:
    assert plain_power(value) == text


def test_a_figure_takes_the_pages_colour_and_repeats_no_name() -> None:
    with drawing(2) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=INK)
        axes.set_title("<b> & $a_")
        text = svg(figure, 'a "title" & <more>')
    element = ElementTree.fromstring(text)
    assert element.get("aria-label") == 'a "title" & <more>' and element.get("role") == "img"
    assert "currentColor" in text and INK not in text
    assert "<b> & $a_" in "".join(element.itertext())
    assert not re.search(r"<g id=", text)
    named = {one.get("id") for one in element.iter()} - {None}
    used = re.findall(r'(?:href="|url\()#([^")]+)', text)
    assert set(used) <= named
