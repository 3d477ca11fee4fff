"""Engines that are tried for real, and what is said of those that cannot be."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from small_network import multiply_adds
from small_network import small_network as made

from gensoup.bench.doctor import Mark
from gensoup.bench.doctor.engines import SIZE, Trial, engine_lines, small_network, try_engines
from gensoup.runtime.engines import load_engine
from gensoup.runtime.engines.catalogue import ENGINES, REFERENCE
from gensoup.runtime.errors import EngineError


def test_the_small_network_is_the_one_that_the_script_makes() -> None:
    assert onnx.load_from_string(small_network()) == made()
    assert round(multiply_adds() / 1e6) == 41
    engine = load_engine(small_network(), threads=1)
    answers = [engine.infer(np.full((SIZE, SIZE, 3), grey, np.uint8)) for grey in (0, 255)]
    assert all(answer.shape == (2,) and answer.sum() == pytest.approx(1) for answer in answers)
    assert not np.allclose(*answers)


def test_engines_of_this_machine_are_tried() -> None:
    trials = {trial.engine: trial for trial in try_engines(small_network())}
    assert tuple(trials) == ENGINES
    reference = trials[REFERENCE]
    assert reference.milliseconds is not None and 0 < reference.milliseconds < 1000
    for trial in trials.values():
        assert trial.milliseconds is not None or trial.text


def test_an_engine_that_is_installed_and_fails_is_red() -> None:
    def broken(name: str, model: bytes, precision: str) -> None:
        raise EngineError(f"{name}: the library lacks a symbol")

    (trial,) = try_engines(b"", (REFERENCE,), broken)  # type: ignore[arg-type]
    assert trial.text == "failed: the library lacks a symbol" and trial.installed
    lines = engine_lines([trial], gpu=False)
    assert [line.mark for line in lines] == [Mark.RED, Mark.RED] and lines[1].text == "no engine runs here"


def test_a_gpu_that_no_engine_uses_is_red() -> None:
    on_cpu = Trial("onnxruntime-cpu", 2.0, "", True)
    away = Trial("tensorrt", None, "'tensorrt' is not installed", False)
    builds = Trial(
        "tensorrt", None, "10.3 on RTX A2000; gensoup export BUNDLE --target tensorrt builds its engines", True
    )
    on_gpu = Trial("onnxruntime-cuda", 1.0, "", True)
    marks = [
        [line.mark for line in engine_lines(trials, gpu=True)]
        for trials in ([on_cpu, away], [on_cpu, builds], [on_gpu])
    ]
    assert marks == [[Mark.GOOD, Mark.NOTE, Mark.RED], [Mark.GOOD, Mark.NOTE], [Mark.GOOD]]
    assert Mark.RED not in [line.mark for line in engine_lines([on_cpu, away], gpu=False)]
