"""What ``gensoup export --inspect`` says of a bundle, against what is known to be in it."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest
from typer.testing import CliRunner

from gensoup.cli import app
from gensoup.export import inspection
from gensoup.export.half import to_fp16
from gensoup.export.inspection import inspect_bundle
from gensoup.runtime.bundle import read_bundle, sign_bundle, write_bundle
from gensoup.runtime.engines.graph_outputs import keep_outputs
from gensoup.runtime.errors import BundleError, UsageError
from gensoup.runtime.seal import Signature, seal, unseal
from gensoup.runtime.signature import SigningKey, create_key, public_path

if TYPE_CHECKING:
    from gensoup.export.exporter import Exported


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_members_are_those_of_the_file(tiny_bundle: Path) -> None:
    found = inspect_bundle(tiny_bundle)
    assert found.bundle.size == tiny_bundle.stat().st_size
    with zipfile.ZipFile(tiny_bundle) as archive:
        expected = {
            name: (len(archive.read(name)), hashlib.sha256(archive.read(name)).hexdigest())
            for name in archive.namelist()
        }
    assert found.bundle.members == expected
    assert found.signatures == ()


def test_the_graph_by_hand(tiny_bundle: Path) -> None:
    graph = inspect_bundle(tiny_bundle).graphs["fp32"]
    assert graph.inputs == {"frame": "uint8 [1, 32, 32, 3]"}
    assert graph.outputs == {"probabilities": "float [1, 3]"}
    assert graph.operators == {"Cast": 1, "ReduceMean": 1, "MatMul": 1, "Softmax": 1}
    assert (graph.macs, graph.parameters) == (9, 9)


def test_a_trained_graph(exported: Exported) -> None:
    found = inspect_bundle(exported.path)
    graph, manifest = found.graphs["fp32"], found.bundle.manifest
    proto = onnx.load_model_from_string(found.bundle.model)
    assert graph.operators == Counter(node.op_type for node in proto.graph.node)
    assert graph.macs == pytest.approx(manifest.macs, rel=0.1)  # fvcore counts normalisation and pooling too
    assert graph.parameters == pytest.approx(manifest.parameters, rel=0.05)  # normalisation is folded in
    layers = sum(sum(counts.values()) for counts in graph.groups.values())
    frame_path = onnx.load_model_from_string(keep_outputs(found.bundle.model, ["probabilities"])).graph.node
    assert layers == sum(node.op_type in ("Conv", "Gemm", "MatMul") for node in frame_path)
    assert len(graph.groups) > 2


def test_precisions_are_told_apart(exported: Exported, tmp_path: Path) -> None:
    bundle = read_bundle(exported.path)
    manifest = replace(bundle.manifest, precisions={**bundle.manifest.precisions, "fp16": {"tolerance": 0.02}})
    path = tmp_path / "b.gensoup"
    write_bundle(path, manifest, {**bundle.models, "fp16": to_fp16(bundle.model)}, bundle.golden)
    graphs = inspect_bundle(path).graphs
    assert {kind for counts in graphs["fp32"].groups.values() for kind in counts} == {"fp32"}
    assert "fp16" in {kind for counts in graphs["fp16"].groups.values() for kind in counts}


def test_signatures_are_shown_for_what_they_are(tiny_bundle: Path, tmp_path: Path) -> None:
    path, key = tmp_path / "b.gensoup", tmp_path / "a.key"
    public = create_key(key)
    assert "not signed" in run("export", "--inspect", tiny_bundle)
    sign_bundle(tiny_bundle, SigningKey.load(key), path)
    assert f"signed by {public.name}: holds" in run(
        "export", "--inspect", path, "--require-signature", public_path(key)
    )
    sealed = unseal(path.read_bytes())
    path.write_bytes(seal(sealed.unsigned, [Signature(public.raw, bytes(64))]))
    assert f"signed by {public.name}: DOES NOT HOLD" in run("export", "--inspect", path)
    with pytest.raises(BundleError, match="does not hold"):
        run("export", "--inspect", path, "--require-signature", public_path(key))


def test_the_command_shows_everything_and_writes_json(exported: Exported, tmp_path: Path) -> None:
    report = tmp_path / "out" / "inspected.json"
    output = run("export", "--inspect", exported.path, "--json", report)
    for words in ("model.onnx", "R&D <b> [x] $a_", "Conv", "card.md begins", "thresholds", "frame uint8"):
        assert words in output
    assert re.search(r"fp32 +onnxr\S+ +\S+e-\d+", output) and '{"' not in output  # rows, never raw values
    values = json.loads(report.read_text(encoding="utf-8"))
    assert values["sha256"] == exported.sha256
    assert values["manifest"]["labels"] == list(read_bundle(exported.path).manifest.labels)
    assert values["graphs"]["fp32"]["operators"]["Conv"] > 0
    assert values["card"].startswith("---")


def test_foreign_words_do_not_steer_the_terminal(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    path = tmp_path / "b.gensoup"
    manifest = replace(bundle.manifest, architecture="\x1b[2Jx[red]y", provenance={"note": "a\x1b]0;b\x07\nerror: c"})
    write_bundle(path, manifest, bundle.models, bundle.golden, "# \x1b[31mred\rcard")
    output = run("export", "--inspect", path)
    assert "\x1b" not in output and "\x07" not in output and "\r" not in output
    assert "x[red]y" in output


@pytest.mark.parametrize(
    "intervals", [3, "x", [], {"mcc": "x"}, {"mcc": -1}, {"mcc": []}, {"mcc": [1]}, {"mcc": {"low": 0}}, {"mcc": None}]
)
def test_whatever_a_stranger_states_is_shown(tiny_bundle: Path, tmp_path: Path, intervals: Any) -> None:
    bundle = read_bundle(tiny_bundle)
    metrics = {"mcc": 0.5, "certain": [1, {"a": None}], "intervals": intervals}
    path = tmp_path / "b.gensoup"
    write_bundle(path, replace(bundle.manifest, metrics=metrics), bundle.models, bundle.golden)
    output = run("export", "--inspect", path)
    assert re.search(r"mcc +0\.5 ", output) and '1, {"a": null}' in output.replace("[", "")


def test_a_bundle_is_read_once(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown of a signed bundle is what was checked, though somebody changes the file meanwhile."""
    path = tmp_path / "b.gensoup"
    path.write_bytes(tiny_bundle.read_bytes())
    expected = inspect_bundle(path).to_dict()

    def read_and_changed(*arguments: Any) -> Any:
        bundle = read_bundle(*arguments)
        path.write_bytes(b"another's")
        return bundle

    monkeypatch.setattr(inspection, "read_bundle", read_and_changed)
    assert inspect_bundle(path).to_dict() == expected


def test_a_graph_that_is_none_is_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    path = tmp_path / "b.gensoup"
    empty = onnx.ModelProto(doc_string="no graph").SerializeToString()
    write_bundle(path, bundle.manifest, {"fp32": empty}, bundle.golden)
    with pytest.raises(BundleError, match="graph that cannot be read") as caught:
        inspect_bundle(path)
    assert "\n" not in str(caught.value)


def test_without_onnx_it_says_what_to_install(tiny_bundle: Path) -> None:
    code = """
import sys
sys.modules["onnx"] = None
from gensoup.cli import main
main(["export", "--inspect", sys.argv[1]])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tiny_bundle)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "model.onnx" in done.stdout
    assert "gensoup[train]" in done.stdout


def test_mistakes_are_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (["export", tmp_path, "--inspect", tiny_bundle], "takes no run folder"),
        (["export", "--out", "b.gensoup", "--inspect", tiny_bundle], "takes no --out"),
        (["export", "--sign", "k", "--inspect", tiny_bundle], "takes no --sign"),
        (["export", "--probe-kit", "k", "--inspect", tiny_bundle], "takes no --probe-kit"),
        (["export", "--probe-kit", "k", "--size", "96", "--sign", "k"], "takes no --sign"),
        (["export", tmp_path, "--out", "b.gensoup", "--require-signature", "k"], "--inspect"),
        (["export", tmp_path, "--out", "b.gensoup", "--sign", tmp_path / "gone.key"], "gone.key: cannot be read"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            run(*arguments)
        assert "\n" not in str(caught.value)


def test_export_signs(tiny_run: Any, exported: Exported, tmp_path: Path) -> None:
    key, out = tmp_path / "a.key", tmp_path / "b.gensoup"
    name = create_key(key).name
    assert f"signed by {name}" in " ".join(run("export", tiny_run.folder, "--out", out, "--sign", key).split())
    bundle = read_bundle(out, public_path(key))
    assert bundle.sha256 == exported.sha256  # signing changes nothing of what was exported
