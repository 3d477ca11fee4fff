"""The loss from one classifier to another on the same images."""

from __future__ import annotations

import numpy as np
import pytest

from gensoup.bench.metrics import confusion_matrix, summarise
from gensoup.bench.paired import paired_mcc_loss

TRUTH = np.arange(200) % 4


def spoiled(places: np.ndarray) -> np.ndarray:
    answers = TRUTH.copy()
    answers[places] = (answers[places] + 1) % 4
    return answers


def test_equal_answers_lose_nothing_however_wrong_they_are() -> None:
    answers = spoiled(np.arange(0, 200, 3))
    loss = paired_mcc_loss(TRUTH, answers, answers, 4)
    assert loss.loss == loss.upper == 0.0
    assert loss.reference == pytest.approx(summarise(confusion_matrix(TRUTH, answers, 4))["mcc"])


def test_the_bound_lies_above_the_loss_and_falls_with_more_images() -> None:
    worse = spoiled(np.arange(0, 200, 40))
    loss = paired_mcc_loss(TRUTH, TRUTH, worse, 4)
    assert 0 < loss.loss < loss.upper < 3 * loss.loss
    many = paired_mcc_loss(np.tile(TRUTH, 4), np.tile(TRUTH, 4), np.tile(worse, 4), 4)
    assert many.loss == pytest.approx(loss.loss) and many.upper < loss.upper


def test_pairing_cancels_what_is_hard_for_both() -> None:
    hard = np.arange(0, 200, 4)
    before, after = spoiled(hard), spoiled(np.append(hard, 1))
    paired = paired_mcc_loss(TRUTH, before, after, 4)
    assert paired.upper < 0.03  # one image of 200; unpaired bounds of an MCC of two thirds are six times as wide


def test_whole_groups_are_drawn() -> None:
    worse = spoiled(np.arange(10))
    groups = [str(number // 10) for number in range(200)]
    assert paired_mcc_loss(TRUTH, TRUTH, worse, 4, groups).upper > paired_mcc_loss(TRUTH, TRUTH, worse, 4).upper


def test_a_gain_is_a_negative_loss() -> None:
    assert paired_mcc_loss(TRUTH, spoiled(np.arange(0, 200, 5)), TRUTH, 4).upper < 0


@pytest.mark.parametrize("groups", [None, ["a"]])
def test_lengths_that_differ_are_refused(groups: list[str] | None) -> None:
    with pytest.raises(ValueError, match="one length"):
        paired_mcc_loss(TRUTH, TRUTH, TRUTH[:5] if groups is None else TRUTH, 4, groups)
    with pytest.raises(ValueError, match="at least one"):
        paired_mcc_loss(TRUTH[:0], TRUTH[:0], TRUTH[:0], 4)
