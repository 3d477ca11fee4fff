"""TensorRT: real builds ahead of time without a GPU, engine files, refusals; the frame path where there is a GPU."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gensoup.runtime.engines import Layer, check_precision
from gensoup.runtime.engines.engine_files import (
    EngineKey,
    engines_folder,
    fetch_engine,
    find_ahead_of_time,
    model_digest,
    store_engine,
)
from gensoup.runtime.engines.onnxruntime import OnnxRuntimeEngine
from gensoup.runtime.engines.tensorrt import TensorRtEngine
from gensoup.runtime.engines.tensorrt_build import build_ahead_of_time, build_here, build_plan, known_sms
from gensoup.runtime.engines.tensorrt_library import load_tensorrt, parse_layers
from gensoup.runtime.errors import EngineError, MissingDependencyError, UsageError

KEY = EngineKey("0" * 64, "tensorrt", "10.3.0", "fp16", ("86",), ("probabilities",), driver="12060", gpu="RTX A2000")


@pytest.fixture
def rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the extra [tensorrt-rtx], which has wheels for x86 alone")


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize(
    ("precision", "built"), [("fp32", {"fp32": 3}), ("fp16", {"fp16": 3}), ("int8", {"int8": 2, "fp32": 1})]
)
def test_engines_are_built_for_other_gpus_and_found_on_arrival(
    small_graph: Callable[..., bytes], tmp_path: Path, precision: str, built: dict[str, int]
) -> None:
    model = small_graph(precision)
    told: list[tuple[str, int, int]] = []
    (path,) = build_ahead_of_time(model, precision, ["80", "86"], tmp_path, lambda *step: told.append(step))
    assert path.parent == tmp_path and path.stat().st_size > 50_000
    done = [step[1] for step in told]
    assert done == sorted(done) and len(set(done)) > 10 and done[-1] == told[-1][2]
    notes = json.loads(path.with_suffix(".json").read_text())
    assert notes["notes"]["built"] == built
    assert (notes["key"]["driver"], notes["key"]["gpu"]) == ("", "")

    version = load_tensorrt("tensorrt-rtx").__version__
    wanted = EngineKey(model_digest(model), "tensorrt-rtx", version, precision, ("86",), ("probabilities",))
    assert find_ahead_of_time(tmp_path, wanted).plan == path.read_bytes()
    for other, word in (
        (replace(wanted, sms=("89",)), "another GPU generation"),
        (replace(wanted, version="1.0"), "another version of the library"),
        (replace(wanted, precision="bf16"), "another precision"),
        (replace(wanted, model_sha256="0" * 64), "engines of other models"),
    ):
        with pytest.raises(EngineError, match=word):
            find_ahead_of_time(tmp_path, other)

    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(EngineError, match="damaged: copy it again"):
        find_ahead_of_time(tmp_path, wanted)
    path.chmod(0o666)
    with pytest.raises(EngineError, match="can be written by others"):
        find_ahead_of_time(tmp_path, wanted)


@pytest.mark.usefixtures("rtx")
def test_saliency_gets_an_engine_of_its_own(small_graph: Callable[..., bytes], tmp_path: Path) -> None:
    paths = build_ahead_of_time(small_graph(saliency=True), "fp32", ["89"], tmp_path)
    outputs = [json.loads(path.with_suffix(".json").read_text())["key"]["outputs"] for path in paths]
    assert outputs == [["probabilities"], ["probabilities", "saliency"]]


@pytest.mark.usefixtures("rtx")
def test_a_build_that_is_not_what_was_asked_for_is_refused(small_graph: Callable[..., bytes], tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"asked for fp16 and built otherwise: .* are 3 fp32"):
        build_ahead_of_time(small_graph("fp32"), "fp16", ["86"], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("rtx")
def test_what_cannot_be_built_is_one_line(small_graph: Callable[..., bytes], tmp_path: Path) -> None:
    assert {"80", "86", "89"} <= set(known_sms())
    with pytest.raises(UsageError, match=r"--sm 87: must be of .*86"):
        build_ahead_of_time(small_graph(), "fp32", ["86", "87"], tmp_path)
    with pytest.raises(EngineError, match="no ONNX model"):
        build_ahead_of_time(b"no model", "fp32", ["86"], tmp_path)
    with pytest.raises(EngineError, match="cannot parse the model") as caught:
        build_plan("tensorrt-rtx", small_graph().replace(b"Transpose", b"Transmute"), sms=["86"])
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("rtx")
def test_without_a_gpu_nothing_runs_and_the_reason_is_said(small_graph: Callable[..., bytes]) -> None:
    if has_gpu():
        pytest.skip("there is a GPU here")
    for attempt in (
        lambda: TensorRtEngine("tensorrt-rtx", small_graph(), "fp32"),
        lambda: build_here("tensorrt-rtx", small_graph(), "fp32"),
    ):
        with pytest.raises(EngineError, match="nvidia-smi should show the GPU"):
            attempt()


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for library, module in (("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt_rtx")):
        monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(MissingDependencyError, match=rf"gensoup\[{library}\]"):
            load_tensorrt(library)  # type: ignore[arg-type]


def test_engine_files_belong_to_exactly_one_key() -> None:
    path = store_engine(KEY, b"plan", {"seconds": 1})
    assert path.parent == engines_folder() and path.parent.stat().st_mode & 0o777 == 0o700
    found = fetch_engine(KEY)
    assert found is not None and (found.plan, found.notes["seconds"], found.key) == (b"plan", 1, KEY)
    changed: list[dict[str, object]] = [
        {"driver": "12080"},
        {"gpu": "RTX A4000"},
        {"version": "10.4.0"},
        {"sms": ("89",)},
        {"precision": "int8"},
        {"flags": ("workspace 1",)},
        {"model_sha256": "1" * 64},
        {"outputs": ("probabilities", "saliency")},
        {"library": "tensorrt-rtx"},
    ]
    assert [fetch_engine(replace(KEY, **change)) for change in changed] == [None] * len(changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", ["plan", "description", "other", "writable"])
def test_an_engine_file_that_is_not_what_was_stored_is_not_there(damage: str) -> None:
    path = store_engine(KEY, b"plan", {})
    if damage == "plan":
        path.write_bytes(b"plant")
    elif damage == "description":
        path.with_suffix(".json").write_text("[]")
    elif damage == "other":  # a whole engine of another key under this one's name
        other = store_engine(replace(KEY, gpu="RTX A4000"), b"other", {})
        path.write_bytes(other.read_bytes())
        path.with_suffix(".json").write_bytes(other.with_suffix(".json").read_bytes())
    else:
        path.chmod(0o666)
    assert fetch_engine(KEY) is None


@pytest.mark.parametrize("mask", [0, 0o002, 0o022])
def test_engines_are_found_again_under_any_mask(tmp_path: Path, mask: int) -> None:
    """Under Ubuntu's mask, 002, what anybody makes is for the group to write, and such an engine is not read."""
    before = os.umask(mask)
    try:
        store_engine(KEY, b"plan", {})
        store_engine(replace(KEY, driver="", gpu=""), b"other", {}, tmp_path)
    finally:
        os.umask(before)
    found = fetch_engine(KEY)
    assert found is not None and found.plan == b"plan"
    assert find_ahead_of_time(tmp_path, KEY).plan == b"other"


def test_an_empty_folder_of_engines_says_so(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="it holds no engines"):
        find_ahead_of_time(tmp_path, KEY)
    with pytest.raises(EngineError, match="no such folder"):
        find_ahead_of_time(tmp_path / "none", KEY)


def test_the_inspectors_words_of_both_generations() -> None:
    ten = {"Name": "conv", "LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "Channel major FP16 format"}]}
    eleven = {"Name": "conv", "LayerType": "CaskConvolution", "Inputs": [{"DataType": "Int8", "Format": "kLINEAR"}]}
    names_only = "conv + relu"
    layers = parse_layers(json.dumps({"Layers": [ten, eleven, names_only]}))
    assert [layer.precision for layer in layers] == ["fp16", "int8", "unknown"]
    for text in ("", "[]", "{}"):
        with pytest.raises(EngineError, match="inspector gave no layers"):
            parse_layers(text)


def test_a_precision_is_what_most_heavy_layers_run_in() -> None:
    def layers(*precisions: str) -> list[Layer]:
        return [Layer("l", "Conv", precision) for precision in precisions] + [Layer("s", "Softmax", "fp32")] * 5

    check_precision("fp16", layers("fp16", "fp16", "fp32"), "engine")
    check_precision("int8", layers("fp32", "fp32", "int8"), "engine")
    check_precision("fp16", layers(), "engine")  # one fused block tells nothing
    for asked, built in (("fp16", ("fp32", "fp32", "fp16")), ("int8", ("fp32", "fp16"))):
        with pytest.raises(EngineError, match=f"asked for {asked}"):
            check_precision(asked, layers(*built), "engine")


def has_gpu() -> bool:
    from gensoup.runtime.engines.cuda import Cuda

    try:
        return bool(Cuda("tensorrt").device())
    except (EngineError, MissingDependencyError):
        return False


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_on_a_gpu_answers_are_the_references(
    small_graph: Callable[..., bytes], frames: list[np.ndarray], library: str, precision: str
) -> None:
    pytest.importorskip(library.replace("-", "_"))
    if not has_gpu():
        pytest.skip("no NVIDIA GPU here")
    model = small_graph(precision, saliency=True)
    build_here(library, model, precision)  # type: ignore[arg-type]
    engine = TensorRtEngine(library, model, precision)  # type: ignore[arg-type]
    reference = OnnxRuntimeEngine(model, 1)
    former = []
    for frame in frames:
        expected, expected_map = reference.explain(frame)
        former.append((engine.infer(frame), expected))
        answer, saliency = engine.explain(frame)
        np.testing.assert_allclose(answer, expected, atol=0.01)
        np.testing.assert_allclose(saliency, expected_map, atol=0.02)
    for answer, expected in former:  # a later frame must not overwrite an earlier answer
        np.testing.assert_allclose(answer, expected, atol=0.01)
    with pytest.raises(EngineError, match="is expected"):
        engine.infer(frames[0][:16])
    assert engine.layers()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(frames[0])


@pytest.mark.gpu
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_on_a_gpu_the_providers_answer(
    small_graph: Callable[..., bytes], frames: list[np.ndarray], provider: str, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if provider == "tensorrt" and "TensorrtExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no TensorRT")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers() or not has_gpu():
        pytest.skip("no NVIDIA GPU here, or an onnxruntime without CUDA")
    model = small_graph(saliency=True)
    engine, reference = OnnxRuntimeEngine(model, 1, provider, tmp_path), OnnxRuntimeEngine(model, 1)  # type: ignore[arg-type]
    for frame in frames:
        np.testing.assert_allclose(engine.infer(frame), reference.infer(frame), atol=1e-3)
