"""The command line: exit codes, and one line for each mistake."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gensoup import __version__
from gensoup.bench.device_profile import DeviceProfile, LatencyEstimate, profile_key
from gensoup.cli import main
from gensoup.runtime.errors import GenSoupError
from gensoup.train.presets import preset_names

USAGE, ERROR = 64, 70
QUICK = [
    *("--size", "32", "--architectures", "shufflenet_v2_x0_5", "--init", "random", "--generations", "1"),
    *(
        "--population",
        "2",
        "--epochs",
        "0.5",
        "--branch-epochs",
        "0.5",
        "--refit-epochs",
        "2",
        "--batch-size",
        "16",
        "--threads",
        "1",
    ),
]


Run = Callable[..., tuple[int, str, str]]


def complaint(stderr: str) -> str:
    """The one line that says what is wrong; progress may stand before it, nothing after it."""
    lines = stderr.splitlines()
    assert sum(line.startswith("error:") for line in lines) == 1, stderr
    assert lines[-1].startswith("error:"), stderr
    assert "Traceback" not in stderr
    assert "defect" not in stderr
    return lines[-1]


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# What costs nothing


def test_help_imports_nothing_heavy_and_names_every_command() -> None:
    program = """
import sys
from gensoup.cli import main
try:
    main(["--help"])
except SystemExit as left:
    assert not left.code, left.code
heavy = {"torch", "torchvision", "numpy", "cv2", "onnx", "onnxruntime", "optuna", "scipy", "matplotlib", "sklearn"}
sys.exit(",".join(sorted(heavy & sys.modules.keys())) or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("demo", "data", "train", "report", "export", "eval", "run", "bench", "compare"):
        assert re.search(rf"\b{command}\b", done.stdout)


def test_module_and_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gensoup", "--version"], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, f"gensoup {__version__}", "")


@pytest.mark.parametrize("command", ["demo", "data", "train", "report", "export", "eval", "run", "bench", "compare"])
def test_every_command_has_help(gensoup: Run, command: str) -> None:
    code, out, err = gensoup(command, "--help")
    assert code == 0 and err == "" and "Usage" in out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["frobnicate"], "frobnicate"),
        (["train", "data", "--out", "x", "--frob", "1"], "--frob"),
        (["train"], "DATA"),
        (["train", "data"], "--out"),
        (["train", "data", "--out", "x", "--size", "big"], "--size"),
        (["train", "data", "--out", "x", "--init", "magic"], "--init"),
        (["bench", "x.gensoup", "--min-fps", "often"], "--min-fps"),
        (["bench", "x.gensoup", "--threads", "9999"], "--threads 9999: must be at most"),
        (["run", "x.gensoup", "--source", "synthetic", "--threads", "9999"], "--threads 9999: must be at most"),
        (["eval", "x.gensoup", "data", "--threads", "9999"], "--threads 9999: must be at most"),
        (["export", "run"], "--out"),
        (["data", "frobnicate"], "frobnicate"),
    ],
)
def test_usage_mistakes_are_64_and_name_the_option(gensoup: Run, arguments: list[str], named: str) -> None:
    code, _, err = gensoup(*arguments)
    assert code == USAGE
    assert named.lower() in complaint(err).lower()
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--size", "10"], "--size 10"),
        (["--architectures", "resnet51"], "resnet50"),
        (["--architectures", ","], "--architectures"),
        (["--generations", "0"], "--generations 0"),
        (["--seed", "-1"], "--seed -1"),
        (["--max-macs", "-5"], "--max-macs"),
        (["--device-profile", "cart.json"], "--min-fps"),
        (["--preset", "gen-soop"], "did you mean gen-soup"),
        (["--losses", "cross_entropi"], "did you mean cross_entropy"),
        (["--optimizers", "adamm"], "did you mean adam"),
        (["--config", "nowhere.yaml"], "--config nowhere.yaml: no such file"),
    ],
)
def test_values_that_make_no_sense_are_64_and_leave_nothing(
    gensoup: Run, shapes: Path, tmp_path: Path, options: list[str], named: str
) -> None:
    code, _, err = gensoup("train", shapes, "--out", tmp_path / "run", "--init", "random", *options)
    assert code == USAGE and named in complaint(err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--weights-dir", "/nowhere"], "--weights-dir /nowhere: no such folder; name"),
        (["--min-fps", "64", "--device-profile", "/no.json"], "/no.json: cannot be read"),
        (["--json", "/dev/null/x"], "--json /dev/null/x: cannot be written (Not a directory); "),
    ],
)
def test_files_that_cannot_be_used_are_70_and_leave_nothing(
    gensoup: Run, shapes: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    code, _, err = gensoup("train", shapes, "--out", tmp_path / "run", *options)
    assert code == ERROR and said in complaint(err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scales: {learning_rat: [log, 0.1, 1]}", "'learning_rat' is unknown; did you mean learning_rate"),
        ("redraw: {optimiser: 0.1}", "did you mean optimizer"),
        ("scales: {weight_decay: [log, 0.1, 0.001]}", "bounds the wrong way round: 0.1 is above 0.001"),
    ],
)
def test_a_wrong_configuration_is_64_and_leaves_nothing(
    gensoup: Run, shapes: Path, tmp_path: Path, text: str, said: str
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(text, encoding="utf-8")
    code, _, err = gensoup("train", shapes, "--out", tmp_path / "run", "--config", config)
    assert code == USAGE and said in complaint(err)
    assert list(tmp_path.iterdir()) == [config]


def test_what_is_wrong_at_a_glance_waits_for_no_import(shapes: Path, tmp_path: Path) -> None:
    full, new = tmp_path / "full", str(tmp_path / "run")
    full.mkdir()
    (full / "model.safetensors").touch()
    (full / "b.gensoup").touch()
    (tmp_path / "kit.json").write_text('{"graphs": []}', encoding="utf-8")
    cart = tmp_path / "cart.json"
    DeviceProfile({}, 30.0, {"squeezenet1_1@96@fp32": LatencyEstimate(1, 2, 3, 9, 0)}).save(cart)
    held = ["--device-profile", str(cart), "--size", "128"]
    train, export = ["train", str(shapes), "--out"], ["export", str(full), "--out"]
    cases: list[tuple[int, list[str]]] = [
        (ERROR, ["train", "nowhere", "--out", new]),
        (ERROR, ["train", str(shapes / "7"), "--out", new]),
        (USAGE, [*train, new, "--resume"]),
        (USAGE, [*train, str(full)]),
        (USAGE, [*train, new, "--config", "nowhere.yaml"]),
        (ERROR, [*train, new, "--weights-dir", "nowhere"]),
        (USAGE, [*train, new, "--preset", "foo"]),
        (USAGE, [*train, new, "--losses", "foo"]),
        (USAGE, [*train, new, "--optimizers", "foo"]),
        (USAGE, [*train, new, "--architectures", "foo"]),
        (ERROR, [*train, new, "--min-fps", "64", "--device-profile", str(tmp_path / "kit.json")]),
        (USAGE, [*train, new, "--min-fps", "64", *held]),
        (USAGE, [*train, new, "--min-fps", "30", *held]),
        (ERROR, ["report", "nowhere"]),
        (ERROR, ["export", "nowhere", "--out", "b.gensoup"]),
        (USAGE, [*export, new]),
        (USAGE, [*export, str(full / "b.gensoup")]),
        (USAGE, [*export, "b.gensoup", "--target", "tflite"]),
        (USAGE, [*export, "b.gensoup", "--engines", "abacus"]),
        (ERROR, ["export", "--inspect", "/nowhere"]),
        (USAGE, ["export", "--probe-kit", new, "--size", "7"]),
        (USAGE, ["export", "--probe-kit", new, "--size", "96", "--architectures", "resnet51"]),
    ]
    program = f"""
import sys
from gensoup.cli import main
for _, case in {cases!r}:
    try:
        main(case)
    except SystemExit as left:
        print(left.code, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.splitlines() == [f"{code} False" for code, _ in cases], done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(cases) and all(line.startswith("error: ") for line in lines)
    assert lines[6].endswith("the presets are " + ", ".join(preset_names()))
    assert "probe kit" in lines[10] and "gensoup train --out" in lines[13]
    assert "was measured at 30 frames" in lines[11] and "at 128 px in fp32, but 96 px" in lines[12]
    assert "--architectures: 'foo' is unknown" in lines[9] and "did you mean resnet50" in lines[-1]
    assert not Path(new).exists()


def test_errors_map_to_their_codes_and_debug_shows_the_traceback(gensoup: Run, tmp_path: Path) -> None:
    code, _, err = gensoup("eval", tmp_path / "no.gensoup", tmp_path)
    assert code == ERROR and "no.gensoup" in complaint(err)
    with pytest.raises(GenSoupError, match=r"no\.gensoup"):
        main(["eval", str(tmp_path / "no.gensoup"), str(tmp_path), "--debug"])


def test_an_unexpected_exception_is_one_line_that_owns_up(gensoup: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("one\ntwo")

    monkeypatch.setattr("gensoup.runtime.classifier.Classifier.load", broken)
    code, _, err = gensoup("eval", "x.gensoup", "data")
    assert code == ERROR
    assert err == "error: ZeroDivisionError: one (a defect of gensoup; --debug shows where)\n"


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt(), 130), (MemoryError(), ERROR)], ids=repr)
def test_interrupted_and_out_of_memory(
    gensoup: Run, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int
) -> None:
    def fail(*arguments: object) -> None:
        raise raised

    monkeypatch.setattr("gensoup.runtime.classifier.Classifier.load", fail)
    got, _, err = gensoup("eval", "x.gensoup", "data")
    assert got == code and "Traceback" not in err
    assert complaint(err).startswith("error: out of memory" if code == ERROR else "error: interrupted")
    assert "--resume" not in err  # that is train's


# Datasets that cannot be used


def make_empty(folder: Path) -> None:
    folder.mkdir()


def make_one_class(folder: Path) -> None:
    (folder / "polyp").mkdir(parents=True)
    (folder / "polyp" / "a.png").write_bytes(b"x")


def make_loose(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.png").write_bytes(b"x")


def make_empty_class(folder: Path) -> None:
    make_one_class(folder)
    (folder / "none").mkdir()


def make_broken(folder: Path) -> None:
    make_one_class(folder)
    (folder / "other").mkdir()
    (folder / "other" / "b.jpg").write_bytes(b"x")


def make_bad_groups(folder: Path) -> None:
    make_broken(folder)
    (folder / "groups.csv").write_text("image;patient\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "no such folder"),
        (make_empty, "empty"),
        (make_one_class, "one class alone ('polyp')"),
        (make_loose, "without class folders"),
        (make_empty_class, "no images in 'none'"),
        (make_broken, "are missing"),
        (make_bad_groups, "groups.csv"),
    ],
)
def test_datasets_that_cannot_be_used_are_one_line_and_leave_nothing(
    gensoup: Run, tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    make(tmp_path / "data")
    code, _, err = gensoup("train", tmp_path / "data", "--out", tmp_path / "run", *QUICK)
    assert code == ERROR and said in complaint(err)
    assert not (tmp_path / "run").exists()


def test_limits_that_nothing_can_meet(gensoup: Run, shapes: Path, tmp_path: Path) -> None:
    code, _, err = gensoup("train", shapes, "--out", tmp_path / "run", *QUICK, "--max-macs", "0.1")
    assert code == ERROR
    assert "no architecture meets the limits" in complaint(err) and "shufflenet_v2_x0_5" in complaint(err)
    slow = LatencyEstimate(90.0, 95.0, 99.0, 100, 3)
    profile = tmp_path / "cart.json"
    DeviceProfile({}, 64.0, {profile_key("shufflenet_v2_x0_5", 32, "fp32"): slow}).save(profile)
    timed = ["--min-fps", "64", "--device-profile", profile]
    code, _, err = gensoup("train", shapes, "--out", tmp_path / "run", *QUICK, *timed)
    assert code == ERROR and "p99 99.0 ms a frame, allowed 13.3 ms" in complaint(err)
    assert [path.name for path in tmp_path.iterdir()] == ["cart.json"]


# The whole way, on names and images that are awkward


def test_train_export_eval_run_on_odd_images_and_awkward_names(
    gensoup: Run, tiny_run: Any, tmp_path: Path, video_file: Path
) -> None:
    before = digests(tiny_run.data)
    run, bundle = tmp_path / "a run [x]", tmp_path / "my bundle [é].gensoup"

    code, out, err = gensoup("train", tiny_run.data, "--out", run, *QUICK, "--json", tmp_path / "result.json")
    assert code == 0, err
    for file in tiny_run.broken:
        assert f"skipped {file}: " in out
    assert (run / "report.html").is_file() and "a run [x]" in out
    metrics = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert metrics["labels"] == tiny_run.metrics["labels"] and tuple(metrics["skipped"]) == tiny_run.broken

    code, out, err = gensoup("export", run, "--out", bundle)
    assert code == 0, err
    assert "onnxruntime-cpu" in out and "100.0%" in out and "my bundle [é].gensoup" in out

    roles = ["--roles", run / "roles.csv"]
    code, out, err = gensoup("eval", bundle, tiny_run.data, *roles, "--json", tmp_path / "eval.json")
    assert code == 0, err
    scores = json.loads((tmp_path / "eval.json").read_text(encoding="utf-8"))
    assert scores["n"] == metrics["images_in_role"]["test"]
    assert scores["mcc"] == pytest.approx(metrics["scores"]["test"]["mcc"], abs=1e-6)
    for label in metrics["labels"]:
        assert label in out

    code, out, err = gensoup(
        "run", bundle, "--source", video_file, "--mode", "throughput", "--json", tmp_path / "frames.jsonl"
    )
    assert code == 0, err
    lines = [json.loads(line) for line in (tmp_path / "frames.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 12 and {line["label"] for line in lines} <= set(metrics["labels"])
    assert {unicodedata.normalize("NFC", line["label"]) for line in lines} == {line["label"] for line in lines}

    code, out, err = gensoup("report", run, "--eval", tmp_path / "eval.json")
    assert code == 0 and "report.html" in out, err
    assert digests(tiny_run.data) == before


def test_a_run_folder_in_use_is_named_with_the_remedy(gensoup: Run, tiny_run: Any) -> None:
    before = digests(tiny_run.folder)
    code, _, err = gensoup("train", tiny_run.data, "--out", tiny_run.folder, *QUICK)
    assert code == USAGE and "--resume" in complaint(err)
    code, _, err = gensoup("train", tiny_run.data, "--out", tiny_run.folder, *QUICK, "--resume")
    assert code == USAGE and "other settings" in complaint(err) and "sizes: [48] → [32]" in complaint(err)
    assert digests(tiny_run.folder) == before


def test_a_run_of_other_images_or_of_a_newer_program_is_not_gone_on_with(
    gensoup: Run, tiny_run: Any, shapes: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    code, _, err = gensoup("train", shapes, "--out", run, "--resume")
    assert code == USAGE and f"--resume: no run in {run} to go on with" in complaint(err) and not run.exists()
    shutil.copytree(tiny_run.folder, run)
    (run / "metrics.json").unlink()  # as if it had been killed at the very end
    code, _, err = gensoup("train", shapes, "--out", run, "--resume")
    assert code == USAGE and "have changed since the run began" in complaint(err)
    optuna = pytest.importorskip("optuna")
    study = optuna.load_study(study_name="gensoup", storage=f"sqlite:///{run / 'study.db'}")
    study.set_user_attr("schema_version", 99)
    code, _, err = gensoup("train", tiny_run.data, "--out", run, "--resume")
    assert code == ERROR and "study.db: written by a newer GenSoup (ledger schema 99): update" in complaint(err)
    (run / "study.db").write_bytes((run / "study.db").read_bytes()[:5000])
    code, _, err = gensoup("train", tiny_run.data, "--out", run, "--resume")
    assert code == ERROR and "study.db: not a ledger that can be used" in complaint(err)
    code, _, err = gensoup("train", tiny_run.data, "--out", run, "--resume", "--seed", "7")
    assert code == USAGE and "seed: 0 → 7" in complaint(err)
    (run / "config.yaml").write_text("schema_version: 99\ndata_fingerprint: x\n", encoding="utf-8")
    code, _, err = gensoup("train", tiny_run.data, "--out", run, "--resume")
    assert code == ERROR and "config.yaml: written by a newer GenSoup" in complaint(err)


class Hostile:
    """Would make a folder if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.mkdir, (self.path,)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_that_are_code_or_another_networks_are_named_and_never_run(
    gensoup: Run, shapes: Path, tmp_path: Path, suffix: str
) -> None:
    import torch
    from safetensors.torch import save_file

    path, trap = tmp_path / f"shufflenet_v2_x0_5{suffix}", tmp_path / "trap"
    call = ("train", shapes, "--out", tmp_path / "run", *QUICK, "--weights-dir", tmp_path)
    path.write_bytes(pickle.dumps({"conv1.0.weight": Hostile(trap)}))
    code, _, err = gensoup(*call)
    assert code == ERROR and path.name in complaint(err) and not trap.exists()
    pickle.loads(path.read_bytes())  # the trap does spring where it is let
    assert trap.is_dir()
    wrong = {"conv1.0.weight": torch.zeros(3, 3, 3, 3)}
    torch.save(wrong, path) if suffix == ".pth" else save_file(wrong, path)
    code, _, err = gensoup(*call)
    assert code == ERROR and path.name in complaint(err) and "[3, 3, 3, 3], not [24, 3, 3, 3]" in complaint(err)
    assert not (tmp_path / "run").exists()


def test_resuming_needs_no_option_said_again(gensoup: Run, tiny_run: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run.folder, run)
    code, out, err = gensoup("train", tiny_run.data, "--out", run, "--resume")
    assert code == 0 and "Result of the search" in out, err


# Bundles, videos, runs that are none


@pytest.mark.parametrize("position", [0.0, 0.3, 0.9, 0.99999])
def test_a_bundle_with_one_byte_changed(gensoup: Run, tiny_bundle: Path, tmp_path: Path, position: float) -> None:
    content = bytearray(tiny_bundle.read_bytes())
    content[int(position * len(content))] ^= 1
    (tmp_path / "b.gensoup").write_bytes(content)
    for command in (["run", tmp_path / "b.gensoup", "--source", "synthetic"], ["bench", tmp_path / "b.gensoup"]):
        code, _, err = gensoup(*command)
        assert code == ERROR and "b.gensoup" in complaint(err)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.999])
def test_a_bundle_cut_short(gensoup: Run, tiny_bundle: Path, shapes: Path, tmp_path: Path, part: float) -> None:
    content = tiny_bundle.read_bytes()
    (tmp_path / "b.gensoup").write_bytes(content[: int(part * len(content))])
    code, _, err = gensoup("eval", tmp_path / "b.gensoup", shapes, "--json", tmp_path / "eval.json")
    assert code == ERROR and "b.gensoup" in complaint(err)
    assert not (tmp_path / "eval.json").exists()


def test_a_video_that_is_none(gensoup: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.avi").write_text("no video", encoding="utf-8")
    results = tmp_path / "out.jsonl"
    code, _, err = gensoup("run", tiny_bundle, "--source", tmp_path / "clip.avi", "--json", results)
    assert code == ERROR and "clip.avi" in complaint(err)
    assert not results.exists()


def test_a_class_the_bundle_does_not_know(gensoup: Run, tiny_bundle: Path, shapes: Path) -> None:
    code, _, err = gensoup("eval", tiny_bundle, shapes)
    assert code == ERROR and "lésion plate" in complaint(err)


def test_exporting_what_is_no_run(gensoup: Run, tmp_path: Path, tiny_run: Any) -> None:
    code, _, err = gensoup("export", tmp_path, "--out", tmp_path / "b.gensoup")
    assert code == ERROR and "no finished run" in complaint(err)
    code, _, err = gensoup("export", tiny_run.folder, "--out", tmp_path / "b.zip")
    assert code == USAGE and "b.zip" in complaint(err)
    code, _, err = gensoup("report", tmp_path)
    assert code == ERROR and "no finished run" in complaint(err)
    assert list(tmp_path.iterdir()) == []


def test_results_that_cannot_be_written(gensoup: Run, tiny_bundle: Path, tmp_path: Path, video_file: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    code, _, err = gensoup("run", tiny_bundle, "--source", video_file, "--json", tmp_path / "file" / "x.jsonl")
    assert code == ERROR and "x.jsonl" in complaint(err)


def test_dataset_drawn_and_taken_whole(gensoup: Run, tmp_path: Path) -> None:
    code, out, err = gensoup(
        "data", "synth", tmp_path / "frames", "--per-class", "3", "--height", "64", "--width", "80"
    )
    assert code == 0 and "groups.csv" in out, err
    code, _, err = gensoup("train", tmp_path / "frames", "--out", tmp_path / "run", *QUICK)
    assert code == ERROR and "are missing" in complaint(err)
    code, _, err = gensoup("data", "synth", tmp_path / "frames", "--per-class", "3")
    assert code == USAGE and "exists already" in complaint(err)
    shutil.rmtree(tmp_path / "frames")
    assert np.array_equal(list(tmp_path.iterdir()), [])
