"""Golden frames must tell a sound engine from one that always gives the same answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gensoup.export.golden_frames import GOLDEN_SIZES, STEADY, constant_error, golden_frames
from gensoup.export.parity import reference_probabilities
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.sources.synthetic import LABELS, SyntheticEndoscope

PREPROCESS = Preprocess(32)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """Two classes: whatever is lit is the first, with hardly a doubt; only the dark is the second."""
    torch.set_num_threads(1)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        network[2].weight.copy_(torch.tensor([[6.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
        network[2].bias.copy_(torch.tensor([8.0, 0.0]))
    return network.eval()


def test_scenes_that_all_get_one_answer_are_seen_in_other_looks(model: nn.Module) -> None:
    plain = np.stack(
        [
            PREPROCESS(SyntheticEndoscope(seed, LABELS[seed % len(LABELS)], *size).frame(0.0))
            for seed, size in enumerate(GOLDEN_SIZES)
        ]
    )
    assert constant_error(reference_probabilities(model, 1.0, plain)) < 0.01  # what it was before there were looks
    golden = golden_frames(model, 1.0, PREPROCESS)
    assert constant_error(golden.probabilities) > 0.3
    assert tuple(camera.shape[:2] for camera in golden.camera_frames) == GOLDEN_SIZES
    for camera, frame in zip(golden.camera_frames, golden.frames, strict=True):
        np.testing.assert_array_equal(PREPROCESS(camera), frame)
    np.testing.assert_array_equal(golden.probabilities, reference_probabilities(model, 1.0, golden.frames))


def test_what_low_precision_moves_is_passed_over(model: nn.Module) -> None:
    def moved(frames: np.ndarray, probabilities: np.ndarray) -> float:
        assert frames.shape == (1, 32, 32, 3) and probabilities.shape == (1, 2)
        return STEADY * 2 if probabilities[0, 1] > 0.5 else STEADY

    free, held = golden_frames(model, 1.0, PREPROCESS), golden_frames(model, 1.0, PREPROCESS, moved)
    assert (free.probabilities[:, 1] > 0.5).any() and not (held.probabilities[:, 1] > 0.5).any()


def test_where_all_are_moved_the_least_moved_are_taken(model: nn.Module) -> None:
    golden = golden_frames(model, 1.0, PREPROCESS, lambda frames, answers: 1.0 + float(frames.mean()))
    brightness = golden.frames.mean((1, 2, 3))
    assert (brightness < 60).all()  # the dark ones


def test_a_constant_answer_is_off_by_half_of_the_range() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
    assert constant_error(probabilities) == pytest.approx(0.35)
    assert constant_error(probabilities[:1]) == 0.0
