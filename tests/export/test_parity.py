"""Proof that the deployed graph gives what the trained network gave."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gensoup.export.architectures import initial_model
from gensoup.export.graph import to_onnx
from gensoup.export.parity import TOLERANCE, Parity, ParityError, measure_parity, reference_probabilities
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


def test_the_right_graph_is_equal(model: nn.Module, engine: Engine, frames: np.ndarray) -> None:
    parity = measure_parity(model, 1.0, engine, frames, TARGETS)
    parity.check()
    assert parity.frames == 12 and parity.label_agreement == 1.0
    assert 0 <= parity.mean_difference <= parity.largest_difference < 1e-5
    assert parity.mcc_reference == parity.mcc_engine
    assert parity.engine == engine.name and parity.reference.startswith("torch ")


def test_another_temperature_is_noticed_though_all_labels_agree(
    model: nn.Module, engine: Engine, frames: np.ndarray
) -> None:
    parity = measure_parity(model, 0.5, engine, frames, TARGETS)
    assert parity.label_agreement == 1.0
    with pytest.raises(ParityError, match=r"probabilities apart by .*tolerance 0\.001.*labels agree on 100\.0% of 12"):
        parity.check()


def test_another_network_is_noticed(engine: Engine, frames: np.ndarray) -> None:
    other = initial_model("squeezenet1_1", 3, seed=1, pretrained=None).eval()
    with pytest.raises(ParityError):
        measure_parity(other, 1.0, engine, frames, TARGETS).check()


def test_one_wrong_frame_among_many_is_noticed(model: nn.Module, engine: Engine, frames: np.ndarray) -> None:
    class Flaky:
        name = "flaky"
        calls = 0

        def infer(self, frame: np.ndarray) -> np.ndarray:
            self.calls += 1
            answer = engine.infer(frame)
            return np.roll(answer, 1) if self.calls == 7 else answer

    with pytest.raises(ParityError, match="flaky"):
        measure_parity(model, 1.0, Flaky(), frames, TARGETS).check()  # type: ignore[arg-type]


PARITY = Parity("engine", "torch", 5, 0.0, 0.0, 1.0, 0.5, 0.5)


def test_the_tolerance_is_the_line_and_no_number_is_over_it() -> None:
    replace(PARITY, largest_difference=TOLERANCE).check()
    for difference in (TOLERANCE * 1.001, float("inf"), float("nan")):
        with pytest.raises(ParityError) as error:
            replace(PARITY, largest_difference=difference).check()
        assert "\n" not in str(error.value)


def test_reference_is_one_row_a_frame_and_leaves_the_network_in_eval_mode(model: nn.Module, frames: np.ndarray) -> None:
    rows = reference_probabilities(model.train(), 1.0, frames)
    assert rows.shape == (12, 3) and rows.dtype == np.float32
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(rows, reference_probabilities(model, 1.0, frames))  # no dropout in it
    assert not model.training
