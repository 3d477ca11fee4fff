"""Figures of the final network's scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from gensoup.train import figures_scores, summary


def words(svg: str) -> str:
    return " ".join(ElementTree.fromstring(svg).itertext())


def test_a_small_confusion_matrix_has_its_counts_and_names_as_they_are() -> None:
    shown = words(figures_scores.confusion([[41, 7], [0, 93]], ["R&D <b> $a_", "lésion"]))
    for expected in ("41", "7", "93", "R&D <b> $a_", "lésion", "predicted", "true"):
        assert expected in shown


def test_a_large_one_has_a_colour_scale_instead_and_short_names() -> None:
    labels = [f"{number} {'long ' * 20}" for number in range(24)]
    shown = words(figures_scores.confusion((np.eye(24) * 777).astype(int).tolist(), labels))
    assert "777" not in shown and "share of the true class" in shown
    assert labels[0] not in shown and "…" in shown


def test_a_class_without_images_divides_by_nothing() -> None:
    assert "3" in words(figures_scores.confusion([[3, 0], [0, 0]], ["a", "b"]))


@pytest.mark.parametrize("images", [4, 400])
def test_reliability_draws_for_few_images_as_for_many(images: int, make_metrics: Callable[..., Any]) -> None:
    _, truth, probabilities, _ = make_metrics(images=images)
    shown = words(figures_scores.reliability(summary.reliability(truth, probabilities)))
    assert "share that is right" in shown and "images" in shown


def test_gap_shows_each_role_with_and_without_intervals(make_metrics: Callable[..., Any]) -> None:
    scores = make_metrics()[0]["scores"]
    shown = words(figures_scores.gap(scores, 0.8766, {"mcc": 0.4321, "intervals": {}}))
    for expected in (
        "0.877",
        "0.432",
        "bundle",
        *(f"{scores[role]['mcc']:.3f}" for role in ("search", "soup", "test")),
    ):
        assert expected in shown
    bare = {role: {"mcc": 0.5, "intervals": {}} for role in scores}
    assert "bundle" not in words(figures_scores.gap(bare, 0.5))
