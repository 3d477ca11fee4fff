"""``gensoup export BUNDLE --target``: engines for other GPUs are really built; mistakes name the option."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gensoup.cli import app
from gensoup.export.engines_cli import EngineJob, prove, split_targets
from gensoup.runtime import golden_proof
from gensoup.runtime.bundle import read_bundle
from gensoup.runtime.engines.catalogue import obstacle
from gensoup.runtime.engines.engine_files import model_digest
from gensoup.runtime.errors import BundleError, GenSoupError, UsageError


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["export", *(str(argument) for argument in arguments)])
    if isinstance(result.exception, GenSoupError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_engines_of_a_bundle_are_built_for_named_gpus(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the extra [tensorrt-rtx], which has wheels for x86 alone")
    folder = tmp_path / "engines"
    told = run(tiny_bundle, "--target", "tensorrt-rtx", "--sm", "8.6,89", "--engines-dir", folder)
    (engine,) = folder.glob("*.engine")
    assert engine.name in told.replace("\n", "") and "probabilities, heavy layers 1 fp32" in told
    key = json.loads(engine.with_suffix(".json").read_text())["key"]
    assert key["sms"] == ["86", "89"]
    assert key["model_sha256"] == model_digest(read_bundle(tiny_bundle).model)


def test_the_training_stack_is_not_needed(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the extra [tensorrt-rtx], which has wheels for x86 alone")
    arguments = ["export", str(tiny_bundle), "--target", "tensorrt-rtx", "--sm", "86", "--engines-dir", str(tmp_path)]
    script = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'torchvision'):\n    sys.modules[name] = None\n"
        f"from gensoup.cli import main\nmain({arguments!r})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*.engine"))) == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--target", "tensorrt-rtx", "--sm", "86"], "--sm: needs --engines-dir DIR too"),
        (["--target", "tensorrt-rtx", "--engines-dir", "x"], "--engines-dir: needs --sm, such as 86,89"),
        (["--sm", "86", "--engines-dir", "x"], "--sm: belongs to --target tensorrt-rtx"),
        (["--target", "tensorrt-rtx", "--sm", ",", "--engines-dir", "x"], "--sm: names no GPU generation"),
        (
            ["--target", "tensorrt,tensorrt-rtx", "--sm", "86", "--engines-dir", "x"],
            "--sm: TensorRT builds for the GPU",
        ),
        (["--target", "onnx"], "is a file: from a bundle --target tensorrt or tensorrt-rtx"),
        ([], "is a file: from a bundle --target tensorrt or tensorrt-rtx"),
        (["--target", "tensorrt-rtx", "--out", "x.gensoup"], "--out: needs a run folder"),
    ],
)
def test_mistakes_name_the_option(tiny_bundle: Path, arguments: list[str], line: str) -> None:
    with pytest.raises(UsageError) as caught:
        run(tiny_bundle, *arguments)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_a_precision_that_the_bundle_lacks_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the extra [tensorrt-rtx], which has wheels for x86 alone")
    options = ["--target", "tensorrt-rtx", "--sm", "86", "--engines-dir", tmp_path / "e", "--precision", "fp16"]
    with pytest.raises(UsageError, match=r"--precision fp16: .* holds fp32"):
        run(tiny_bundle, *options)
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("engine", ["onnxruntime-cpu", "openvino-cpu"])
def test_what_was_built_is_held_to_the_golden_frames(
    looking_bundle: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a build for this machine's GPU; on engines that are at hand."""
    if (reason := obstacle(engine)) is not None:
        pytest.skip(str(reason))
    bundle = read_bundle(looking_bundle)
    prove(bundle, engine, "fp32")
    wrong = replace(bundle.golden, probabilities=bundle.golden.probabilities[::-1].copy())
    with pytest.raises(BundleError, match=f"{engine} gives other probabilities"):
        prove(replace(bundle, golden=wrong), engine, "fp32")
    monkeypatch.setattr(golden_proof, "check_engine", lambda *arguments: None)
    with pytest.raises(BundleError, match=f"{engine} with saliency gives other probabilities"):
        prove(replace(bundle, golden=wrong), engine, "fp32")


def test_targets_are_files_or_engines() -> None:
    assert split_targets(None, None, None) == ([], None)
    assert split_targets("onnx, tensorrt,openvino", None, None) == (["onnx", "openvino"], EngineJob(("tensorrt",)))
    files, job = split_targets("tensorrt-rtx", "8.6,89,86", Path("d"))
    assert (files, job) == ([], EngineJob(("tensorrt-rtx",), ("86", "89"), Path("d")))
