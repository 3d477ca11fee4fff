from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gensoup.runtime import Classifier
from gensoup.runtime.engines import load_engine
from gensoup.runtime.engines.replicas import EngineInTurns, replicas_of
from gensoup.runtime.errors import EngineError

FRAME = np.full((32, 32, 3), (10, 20, 200), np.uint8)


@pytest.mark.parametrize("name", ["onnxruntime-cpu", "openvino-cpu"])
def test_a_copy_outlives_the_original(tiny_bundle: Path, name: str) -> None:
    engine = Classifier.load(tiny_bundle, name, threads=1).engine
    first, second = replicas_of(engine, 2)
    assert first is engine
    assert second is not engine
    expected = engine.infer(FRAME)
    engine.close()
    np.testing.assert_array_equal(second.infer(FRAME), expected)
    with pytest.raises(EngineError, match="is closed"):
        first.infer(FRAME)


def test_an_engine_without_copies_is_shared(tiny_model: bytes) -> None:
    real = load_engine(tiny_model, 1)

    class Single:
        name = "single"
        infer, explain, close, layers = real.infer, real.explain, real.close, real.layers

    shared = replicas_of(Single(), 3)
    assert [type(engine) for engine in shared] == [EngineInTurns] * 3
    assert {engine.name for engine in shared} == {"single"}
    for engine in shared:
        np.testing.assert_array_equal(engine.infer(FRAME), real.infer(FRAME))
        assert engine.layers() == real.layers()
        with pytest.raises(EngineError, match="no saliency"):
            engine.explain(FRAME)
    shared[0].close()
    with pytest.raises(EngineError, match="is closed"):
        shared[1].infer(FRAME)
