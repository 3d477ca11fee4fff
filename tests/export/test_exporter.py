"""From a finished run to a bundle."""

from __future__ import annotations

import hashlib
import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.evaluate import evaluate
from gensoup.bench.roles import ROLES_FILE, read_roles
from gensoup.export import exporter, precisions
from gensoup.export.exporter import export_run
from gensoup.export.graph import ExplainedGraph
from gensoup.export.int8 import Calibrated
from gensoup.export.layers import built, layers
from gensoup.export.parity import ParityError
from gensoup.export.proof import SIMULATED
from gensoup.export.request import check_out, parse_engines
from gensoup.export.saliency import SaliencyRange
from gensoup.export.samples import PARITY_ROLES
from gensoup.export.sensitivity import Int8Choice
from gensoup.export.trained import TrainedModel
from gensoup.runtime.bundle import MODEL_FILES, read_bundle
from gensoup.runtime.classifier import Classifier
from gensoup.runtime.engines import built_precisions, inspect_engine, load_engine
from gensoup.runtime.engines.catalogue import COMPILING
from gensoup.runtime.errors import DataError, GenSoupError, UsageError
from gensoup.runtime.images import read_image


def test_the_bundle_opens_and_answers_as_the_trained_network(exported: Any, tiny_run: Any) -> None:
    classifier = Classifier.load(exported.path, threads=1)
    trained, model = TrainedModel.load(tiny_run.folder)
    assert classifier.labels == trained.labels
    file = read_roles(tiny_run.folder / ROLES_FILE)["test"][0]
    image = read_image(tiny_run.data / file)
    from gensoup.export.parity import reference_probabilities

    expected = reference_probabilities(model, trained.temperature, trained.preprocess(image)[None])[0]
    np.testing.assert_allclose(classifier(image).probabilities, expected, atol=1e-4)


def test_digest_size_and_manifest_are_the_files(exported: Any, tiny_run: Any) -> None:
    content = exported.path.read_bytes()
    assert exported.size_bytes == len(content)
    bundle = read_bundle(exported.path)
    assert exported.sha256 == bundle.sha256 == hashlib.sha256(content[:-64]).hexdigest()
    manifest = bundle.manifest
    assert manifest.labels == tuple(tiny_run.metrics["labels"])
    assert manifest.labels[1] == unicodedata.normalize("NFC", "lésion plate")
    assert (manifest.architecture, manifest.macs) == (tiny_run.metrics["architecture"], tiny_run.metrics["macs"])
    assert manifest.parameters == tiny_run.metrics["parameters"]
    assert manifest.preprocess == tiny_run.settings.preprocess(48)
    assert manifest.metrics["mcc"] == tiny_run.metrics["scores"]["test"]["mcc"]
    assert manifest.metrics["intervals"] and manifest.metrics["role"] == "test"
    assert {"seed", "data_fingerprint", "genes", "versions"} <= set(manifest.provenance)
    assert manifest.provenance["versions"]["torch"] == torch.__version__


def test_parity_is_over_the_validation_images_and_in_the_manifest(exported: Any, tiny_run: Any) -> None:
    roles = read_roles(tiny_run.folder / ROLES_FILE)
    assert exported.parity.frames == sum(len(roles[role]) for role in PARITY_ROLES)
    assert exported.parity.largest_difference < 1e-4 and exported.parity.label_agreement == 1.0
    assert exported.parity.mcc_engine == pytest.approx(exported.parity.mcc_reference)
    stated = read_bundle(exported.path).manifest.precisions["fp32"]
    assert stated["asked"] == "fp32" and set(stated["built"]) == {"fp32"}
    assert stated["largest_difference"] == exported.parity.largest_difference
    assert stated["tolerance"] == exported.parity.tolerance


def test_saliency_is_the_trained_networks_and_dark_in_the_dark(exported: Any, tiny_run: Any) -> None:
    manifest = read_bundle(exported.path).manifest
    stated = manifest.saliency
    assert stated["available"] and stated["frames"] > 20
    assert len(stated["floor"]) == len(stated["top"]) == len(manifest.labels)
    assert manifest.precisions["fp32"]["saliency"] is True
    assert manifest.precisions["fp32"]["saliency_parity"]["largest_difference"] < 1e-3
    classifier = Classifier.load(exported.path, threads=1)
    trained, model = TrainedModel.load(tiny_run.folder)
    shown = SaliencyRange(tuple(stated["floor"]), tuple(stated["top"]), tuple(stated["size"]), 0)
    graph = ExplainedGraph(model, trained.temperature, shown).eval()
    brightest = 0.0
    for file in read_roles(tiny_run.folder / ROLES_FILE)["test"][:6]:
        image = read_image(tiny_run.data / file)
        got = classifier(image, saliency=True)
        assert got.saliency is not None and list(got.saliency.shape) == stated["size"]
        with torch.inference_mode():
            expected = graph(torch.from_numpy(trained.preprocess(image)[None]))[1][0].numpy()
        np.testing.assert_allclose(got.saliency, expected, atol=1e-3)
        brightest = max(brightest, float(got.saliency.max()))
    assert brightest > 0.05  # else nothing was compared
    black = classifier(np.zeros((1080, 1920, 3), np.uint8), saliency=True)
    assert black.saliency is not None and black.saliency.max() < 0.1


def test_golden_frames_have_1080p_and_odd_sizes_and_are_no_patients(exported: Any, tiny_run: Any) -> None:
    golden = read_bundle(exported.path).golden
    sizes = [frame.shape[:2] for frame in golden.camera_frames]
    assert (1080, 1920) in sizes
    assert any(height % 2 and width % 2 for height, width in sizes)
    preprocess = tiny_run.settings.preprocess(48)
    for camera, frame in zip(golden.camera_frames, golden.frames, strict=True):
        np.testing.assert_array_equal(preprocess(camera), frame)
    np.testing.assert_allclose(golden.probabilities.sum(1), 1, atol=1e-5)
    assert len({frame.tobytes() for frame in golden.frames}) == len(golden.frames)


def test_the_deployed_bundle_scores_what_the_run_promised(exported: Any, tiny_run: Any) -> None:
    folder = LabelledFolder.open(tiny_run.data).only(read_roles(tiny_run.folder / ROLES_FILE)["test"])
    scores = evaluate(Classifier.load(exported.path, threads=1), folder).scores
    assert scores.mcc == pytest.approx(tiny_run.metrics["scores"]["test"]["mcc"], abs=1e-6)
    assert scores.to_dict()["confusion_matrix"] == tiny_run.metrics["scores"]["test"]["confusion_matrix"]


def test_the_same_run_gives_the_same_bytes(exported: Any, tiny_run: Any, tmp_path: Path) -> None:
    again = export_run(tiny_run.folder, tmp_path / "again.gensoup")
    assert again.sha256 == exported.sha256
    assert again.path.read_bytes() == exported.path.read_bytes()


def test_a_wrong_graph_is_refused_and_nothing_is_written(
    tiny_run: Any, make_tiny_model: Callable[..., bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = tiny_run.metrics["size"]
    monkeypatch.setattr(exporter, "to_onnx", lambda *arguments: make_tiny_model(size, 3))  # a valid graph, another's
    with pytest.raises(ParityError, match="not equal"):
        export_run(tiny_run.folder, tmp_path / "wrong.gensoup", targets=["onnx"], parity_page=tmp_path / "why.html")
    assert [path.name for path in tmp_path.iterdir()] == ["why.html"]  # the report alone, for it says why
    assert "Refused" in (tmp_path / "why.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["bundle", "bundle.zip", "bundle.gensoup.bak"])
def test_another_name_is_refused_before_any_work(tiny_run: Any, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"--out .*ends in \.gensoup"):
        export_run(tiny_run.folder, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GenSoupError, match="no finished run"):
        export_run(tmp_path, tmp_path / "b.gensoup")


@pytest.fixture
def quick_graph(exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph of ``exported``, not made anew: what is tested is not in it."""
    model = read_bundle(exported.path).model
    monkeypatch.setattr(exporter, "to_onnx", lambda *arguments: model)


@pytest.mark.usefixtures("quick_graph")
def test_a_dataset_that_moved_is_asked_for_and_taken_from_where_it_is(
    tiny_run: Any, exported: Any, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="--data") as error:
        export_run(tiny_run.folder, tmp_path / "b.gensoup", tmp_path / "nowhere")
    assert "\n" not in str(error.value)
    shutil.copytree(tiny_run.data, tmp_path / "moved")
    assert export_run(tiny_run.folder, tmp_path / "b.gensoup", tmp_path / "moved").sha256 == exported.sha256


@pytest.mark.usefixtures("quick_graph")
def test_a_dataset_that_lacks_an_image_is_one_line_with_the_remedy(tiny_run: Any, tmp_path: Path) -> None:
    (tmp_path / "other" / "7").mkdir(parents=True)
    with pytest.raises(DataError, match="--data") as error:
        export_run(tiny_run.folder, tmp_path / "b.gensoup", tmp_path / "other")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "b.gensoup").exists()


@pytest.mark.usefixtures("quick_graph")
def test_every_precision_is_built_proven_and_stated(tiny_run: Any, tmp_path: Path) -> None:
    out, reference = tmp_path / "all.gensoup", ["onnxruntime-cpu"]
    result = export_run(
        tiny_run.folder,
        out,
        precisions=["int8", "fp16"],
        targets=["onnx"],
        engines=reference,
        parity_json=tmp_path / "parity.json",
        parity_page=tmp_path / "parity.html",
    )
    bundle = read_bundle(out)
    assert list(bundle.models) == list(bundle.manifest.precisions) == ["fp32", "fp16", "int8"]
    stated = bundle.manifest.precisions
    for name, one in stated.items():
        assert one["asked"] == name and one["built"] == built(bundle.models[name]) and name in one["built"]
        assert one["member"] == MODEL_FILES[name]
        assert (tmp_path / f"all{MODEL_FILES[name].removeprefix('model')}").read_bytes() == bundle.models[name]
        engine = load_engine(bundle.models[name], threads=1)
        got = np.stack([engine.infer(frame) for frame in bundle.golden.frames])
        assert np.abs(got - bundle.golden.probabilities).max() <= bundle.manifest.tolerance(name)
        # No engine may pass that always gives one answer: that is what a collapsed int8 does.
        constant = (bundle.golden.probabilities.max(0) + bundle.golden.probabilities.min(0)) / 2
        assert np.abs(constant - bundle.golden.probabilities).max() > bundle.manifest.tolerance(name)
    assert sum(stated["int8"]["built"].values()) == sum(stated["fp32"]["built"].values())
    assert len(stated["int8"]["kept_in_fp32"]) + stated["int8"]["built"]["int8"] <= stated["fp32"]["built"]["fp32"]
    _, model = TrainedModel.load(tiny_run.folder)
    modules = dict(model.named_modules())
    assert all(layer.name in modules for layer in layers(bundle.models["int8"]) if layer.kind == "Conv")
    assert stated["int8"]["calibration"]["frames"] == len(read_roles(tiny_run.folder / ROLES_FILE)["train"])
    assert [one["engine"] for one in stated["fp16"]["engines"]] == [SIMULATED]
    report = json.loads((tmp_path / "parity.json").read_text(encoding="utf-8"))
    assert report["holds"] and [row["precision"] for row in report["parity"]] == ["fp32", "fp16", "fp16", "int8"]
    for row in (report["parity"][place] for place in (0, 1, 3)):  # what runs is asked of the engine, never assumed
        engine = load_engine(bundle.models[row["precision"]], threads=1)
        assert row["ran"] == built_precisions(inspect_engine(engine))
        assert stated[row["precision"]]["ran"] == row["ran"] and sum(row["ran"].values()) > 0
    assert report["parity"][2]["ran"] == {}
    worst = report["parity"][3]["worst"]
    assert len(worst) == 8 and worst[0]["difference"] == pytest.approx(report["parity"][3]["largest_difference"])
    assert (tiny_run.data / worst[0]["file"]).is_file()
    page = (tmp_path / "parity.html").read_text(encoding="utf-8")
    assert page.count("<figure") == 4 * 8 and "R&amp;D &lt;b&gt;" in page and "<script" not in page
    assert worst[0]["file"].encode() not in out.read_bytes()  # no user's file names leave with a bundle
    assert {path.name for path in result.target_files} == {"all.onnx", "all.fp16.onnx", "all.int8.onnx"}


@pytest.mark.usefixtures("quick_graph")
def test_an_earlier_export_goes_whole_or_not_at_all(tiny_run: Any, tmp_path: Path, gensoup: Any) -> None:
    out, reference = tmp_path / "b.gensoup", ["onnxruntime-cpu"]
    for name in ("b.gensoup", "b.onnx", "b.int8.onnx", "b.fp16.xml", "b.fp16.bin", "bb.onnx", "b.png"):
        (tmp_path / name).write_text(name)
    with pytest.raises(
        UsageError, match=r"b.gensoup: exists already \(b.onnx, .*b.int8.onnx beside it\); --force repl"
    ):
        export_run(tiny_run.folder, out, targets=["onnx"], engines=reference)
    code, _, error = gensoup("export", tiny_run.folder, "--out", out)
    assert code == 64 and "--force" in error and out.read_text() == "b.gensoup"
    exported = export_run(tiny_run.folder, out, targets=["onnx"], engines=reference, force=True)
    assert {path.name for path in tmp_path.iterdir()} == {"b.gensoup", "b.onnx", "bb.onnx", "b.png"}
    assert {path.name for path in exported.removed} == {"b.int8.onnx", "b.fp16.xml", "b.fp16.bin"}
    assert (tmp_path / "b.onnx").read_bytes() == read_bundle(out).model


def test_a_file_in_the_way_of_a_target_is_kept(tmp_path: Path) -> None:
    (tmp_path / "b.xml").touch()
    with pytest.raises(UsageError, match=r"b.gensoup: b.xml beside it exists already; --force"):
        check_out(tmp_path / "b.gensoup", ["fp32"], ["openvino"], False)
    assert check_out(tmp_path / "b.gensoup", ["fp32"], ["onnx"], False) == []  # no bundle: nobody's but the user's
    (tmp_path / "b.onnx").mkdir()
    with pytest.raises(UsageError, match=r"b.onnx is a folder"):
        check_out(tmp_path / "b.gensoup", ["fp32"], ["onnx"], True)


def test_errors_of_writing_name_the_users_file(tiny_run: Any, tmp_path: Path, gensoup: Any) -> None:
    (tmp_path / "file").touch()
    for options in (("--out", tmp_path / "file" / "b.gensoup"), ("--out", "b.gensoup", "--json", tmp_path / "file/x")):
        code, _, error = gensoup("export", tiny_run.folder, *options)
        assert code == 70 and error.startswith(f"error: {options[-2]} {options[-1]}: cannot be written")


@pytest.mark.usefixtures("quick_graph")
def test_openvinos_ir_gives_the_golden_outputs(tiny_run: Any, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    export_run(tiny_run.folder, tmp_path / "b.gensoup", targets=["openvino"])
    golden = read_bundle(tmp_path / "b.gensoup").golden
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # its own choice is bf16 where the CPU has it: off by .02 here
    compiled = openvino.Core().compile_model(tmp_path / "b.xml", "CPU", exact)
    for frame, probabilities in zip(golden.frames, golden.probabilities, strict=True):
        np.testing.assert_allclose(compiled([frame[None]])["probabilities"][0], probabilities, atol=1e-3)
    assert {path.name for path in tmp_path.iterdir()} == {"b.gensoup", "b.xml", "b.bin"}


@pytest.mark.usefixtures("quick_graph")
def test_an_int8_that_fails_on_one_engine_writes_nothing(
    tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(calibrated: Calibrated, *rest: Any) -> Int8Choice:
        model = calibrated.quantised([layer.node for layer in calibrated.layers])
        flat = onnx.load_model_from_string(model)
        for tensor in flat.graph.initializer:
            if tensor.name.endswith("_scale"):
                tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) / 50, tensor.name))
        return Int8Choice(flat.SerializeToString(), (), None)  # type: ignore[arg-type]

    monkeypatch.setattr(precisions, "choose_int8", never)
    with pytest.raises(ParityError, match=r"int8 on onnxruntime-cpu .*labels agree on"):
        export_run(tiny_run.folder, tmp_path / "b.gensoup", precisions=["int8"], targets=["onnx"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precisions": ["fp64"]}, "--precision: 'fp64' is unknown, choose from fp32, fp16, int8"),
        ({"targets": ["tflite"]}, "--target: 'tflite' is unknown, choose from onnx, openvino, tensorrt, tensorrt-rtx"),
        ({"engines": ["abacus"]}, "--engines: 'abacus' is unknown, choose from onnxruntime-cpu"),
        ({"engines": ["tensorrt"]}, "--engines tensorrt: is built from a bundle, and proven then; --target tensorrt"),
    ],
)
def test_unknown_names_are_told_before_any_work(tmp_path: Path, options: dict[str, list[str]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        export_run(tmp_path / "none", tmp_path / "b.gensoup", **options)  # type: ignore[arg-type]


def test_nothing_is_proven_unasked_that_compiles_first() -> None:
    assert parse_engines(None)[0] == "onnxruntime-cpu" and not set(parse_engines(None)) & set(COMPILING)
