"""Proof that the deployed graph gives what the trained network gave."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn

from gensoup.bench.metrics import score
from gensoup.export.architectures import initial_model
from gensoup.export.graph import to_onnx
from gensoup.export.parity import (
    MAX_MCC_LOSS,
    MIN_AGREEMENT,
    TOLERANCE,
    Parity,
    ParityError,
    compare,
    engine_probabilities,
    reference_probabilities,
)
from gensoup.export.parity_page import worst_frames
from gensoup.export.samples import Samples
from gensoup.runtime.engines import Engine, load_engine

SIZE = 32


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.set_num_threads(1)
    return initial_model("squeezenet1_1", 3, seed=0, pretrained=None).eval()


@pytest.fixture(scope="module")
def engine(model: nn.Module) -> Engine:
    return load_engine(to_onnx(model, 1.0, SIZE), threads=1)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, SIZE, SIZE, 3), dtype=np.uint8)


TARGETS = np.arange(12) % 3


@pytest.fixture(scope="module")
def expected(model: nn.Module, frames: np.ndarray) -> np.ndarray:
    return reference_probabilities(model, 1.0, frames)


def parity(expected: np.ndarray, engine: Engine, frames: np.ndarray, precision: str = "fp32") -> Parity:
    got = engine_probabilities(engine, frames)
    return compare(expected, got, samples_of(frames), precision=precision, engine=engine.name)


def samples_of(frames: np.ndarray) -> Samples:
    roles = tuple("soup" if number < 6 else "search" for number in range(12))
    return Samples(tuple(f"c/{number}.png" for number in range(12)), frames, TARGETS, roles)


def test_the_right_graph_is_equal(expected: np.ndarray, engine: Engine, frames: np.ndarray) -> None:
    result = parity(expected, engine, frames)
    result.check()
    assert result.frames == 12 and result.soup_frames == 6 and result.label_agreement == 1.0
    assert 0 <= result.mean_difference <= result.largest_difference < 1e-5
    assert result.mcc_reference == result.mcc_engine and result.mcc_loss_upper == 0
    scores = score(TARGETS[:6], expected[:6])
    assert result.soup_mcc_reference == result.soup_mcc_engine == pytest.approx(scores.mcc)
    assert result.soup_mcc_reference_interval == pytest.approx(scores.intervals["mcc"])
    assert result.engine == engine.name and result.reference.startswith("torch ")


def test_another_temperature_is_noticed_though_all_labels_agree(
    model: nn.Module, engine: Engine, frames: np.ndarray
) -> None:
    result = parity(reference_probabilities(model, 0.5, frames), engine, frames)
    assert result.label_agreement == 1.0
    with pytest.raises(ParityError, match=r"probabilities apart by .*tolerance 0\.001.*labels agree on 100\.0% of 12"):
        result.check()


def test_another_network_is_noticed(engine: Engine, frames: np.ndarray) -> None:
    other = initial_model("squeezenet1_1", 3, seed=1, pretrained=None).eval()
    with pytest.raises(ParityError):
        parity(reference_probabilities(other, 1.0, frames), engine, frames).check()


def test_one_wrong_frame_among_many_is_noticed(expected: np.ndarray, engine: Engine, frames: np.ndarray) -> None:
    class Flaky:
        name = "flaky"
        calls = 0

        def infer(self, frame: np.ndarray) -> np.ndarray:
            self.calls += 1
            answer = engine.infer(frame)
            return np.roll(answer, 1) if self.calls == 7 else answer

    with pytest.raises(ParityError, match="flaky"):
        parity(expected, Flaky(), frames).check()  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_number_is_another_label_and_as_far_away_as_can_be(
    expected: np.ndarray, frames: np.ndarray, value: float
) -> None:
    got = expected.copy()
    got[3, 0] = value
    result = compare(expected, got, samples_of(frames), precision="int8", engine="one")
    assert result.largest_difference == 1.0 and result.label_agreement == pytest.approx(11 / 12)
    assert not result.holds
    shown = [asdict(frame) for frame in worst_frames(expected, got, samples_of(frames), ("a", "b", "c"))]
    assert shown[0]["difference"] == 1.0
    json.dumps(shown, allow_nan=False)  # JSON has no other numbers


def test_other_classes_are_refused(expected: np.ndarray, frames: np.ndarray) -> None:
    with pytest.raises(ParityError, match="4 probabilities for 3 classes"):
        compare(expected, np.ones((12, 4), np.float32), samples_of(frames), precision="fp32", engine="one")


PARITY = Parity("fp32", "engine", "torch", 5, 0.0, 0.0, 1.0, 0.5, 0.5, 0.0, 2, 0.5, None, 0.5, None, TOLERANCE["fp32"])


def test_the_tolerance_is_the_line_and_no_number_is_over_it() -> None:
    for precision, tolerance in TOLERANCE.items():
        one = replace(PARITY, precision=precision, tolerance=tolerance)
        replace(one, largest_difference=tolerance).check()
        for difference in (tolerance * 1.001, float("inf"), float("nan")):
            with pytest.raises(ParityError) as error:
                replace(one, largest_difference=difference).check()
            assert "\n" not in str(error.value)


def test_int8_is_judged_by_labels_and_the_bound_of_its_loss() -> None:
    one = replace(PARITY, precision="int8", tolerance=None, largest_difference=0.4)
    replace(one, label_agreement=MIN_AGREEMENT, mcc_loss_upper=MAX_MCC_LOSS).check()
    for worse in ({"label_agreement": 0.989}, {"mcc_loss_upper": 0.0101}):
        with pytest.raises(ParityError, match=r"needed: 99%.*allowed: 0\.01"):
            replace(one, **worse).check()  # type: ignore[arg-type]
    assert replace(one, mcc_loss_upper=-1.0).shortfall == 0
    assert replace(one, label_agreement=0.9, mcc_loss_upper=0.05).shortfall == pytest.approx(0.13)


def test_reference_is_one_row_a_frame_and_leaves_the_network_in_eval_mode(model: nn.Module, frames: np.ndarray) -> None:
    rows = reference_probabilities(model.train(), 1.0, frames)
    assert rows.shape == (12, 3) and rows.dtype == np.float32
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(rows, reference_probabilities(model, 1.0, frames))  # no dropout in it
    assert not model.training
