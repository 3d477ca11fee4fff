"""``gensoup probe`` as a newcomer calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gensoup.bench import probe_process
from gensoup.bench.probe_kit import ProbeKit

Run = Callable[..., tuple[int, str, str]]
MakeKit = Callable[[Mapping[str, bytes]], ProbeKit]
USAGE, ERROR = 64, 70


def test_a_table_and_a_profile(make_kit: MakeKit, tiny_model: bytes, tmp_path: Path, gensoup: Run) -> None:
    kit, out = make_kit({"small": tiny_model, "broken": b"x"}), tmp_path / "cart.json"
    quick = ("--seconds", 0.5, "--frames", "160x120", "--threads", 1, "--engine", "onnxruntime-cpu")
    code, said, err = gensoup("probe", kit.path, "--out", out, *quick)
    assert code == 0 and out.exists()
    assert "small@32@fp32@onnxruntime-cpu" in said and f"profile: {out}" in said
    assert "failed: broken@32@fp32@onnxruntime-cpu: onnxruntime cannot load the model" in said
    assert "2/2" in err and "nothing was measured" not in said
    again = gensoup("probe", kit.path, "--out", out, *quick)
    assert again[0] == 0 and f"profile: {out} (it was finished, nothing was measured; remove it" in again[1]
    code, _, err = gensoup("probe", kit.path, "--out", out, *quick, "--seconds", 4)
    assert code == USAGE and "--seconds: 0.5 then, 4 now); name another file, or remove" in err and err.count("\n") == 1


def test_nothing_that_could_be_measured_is_an_error(
    make_kit: MakeKit, tmp_path: Path, gensoup: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_process, "_START", "raise SystemExit('no memory')")
    kit, out = make_kit({"a": b"x"}), tmp_path / "p.json"
    code, _, err = gensoup("probe", kit.path, "--out", out, "--engine", "onnxruntime-cpu")
    assert code == ERROR and "error: every graph failed, the first: " in err and "(no memory)" in err and out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (("nowhere",), ERROR, "give the folder that gensoup export --probe-kit wrote"),
        (("kit", "--min-fps", "0"), USAGE, "--min-fps 0: must lie between 1 and 1000"),
        (("kit", "--seconds", "-1"), USAGE, "--seconds -1: must be more than 0"),
        (("kit", "--max-latency-ms", "nan"), USAGE, "--max-latency-ms nan"),
        (("kit", "--frames", "8k"), USAGE, "--frames 8k: must be one of 480p"),
        (("kit", "--frames", "1080p@30"), USAGE, "--frames 1080p@30: must be one of"),
        (("kit", "--engine", "tflite"), USAGE, "engine 'tflite': no such engine; usable here: all, onnxruntime-cpu"),
        (("kit", "--engine", "all,openvino-cpu"), USAGE, "--engine all,openvino-cpu: all stands alone"),
        (("kit", "--threads", "9999"), USAGE, "--threads 9999: must be at most "),
        (("kit", "--threads", "9999", "--host", "a b"), USAGE, "--host a b: must be USER@HOST"),  # there may be more
        (("kit", "--out", "kit"), USAGE, "--out kit: is a folder"),
        (("kit", "--wheels", "kit"), USAGE, "--wheels: belongs to --host"),
        (("kit", "--host", "a b"), USAGE, "--host a b: must be USER@HOST"),
        (("kit", "--host", "me@cart", "--identity", "gone"), USAGE, "--identity gone: no such file"),
    ],
)
def test_mistakes_are_one_line(
    make_kit: MakeKit,
    tiny_model: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gensoup: Run,
    arguments: tuple[str, ...],
    code: int,
    line: str,
) -> None:
    make_kit({"a": tiny_model})
    monkeypatch.chdir(tmp_path)
    got, _, err = gensoup("probe", *arguments)
    assert got == code and line in err and err.count("\n") == 1 and "Traceback" not in err
    assert not (tmp_path / "profile.json").exists()


def test_a_kit_in_place_of_a_profile_says_what_makes_one(
    make_kit: MakeKit, tiny_model: bytes, tmp_path: Path, gensoup: Run
) -> None:
    kit = make_kit({"a": tiny_model})
    images = tmp_path / "images"
    for label in ("x", "y"):
        (images / label).mkdir(parents=True)
        (images / label / "1.png").write_bytes(b"")
    arguments = ("train", images, "--out", tmp_path / "run", "--min-fps", 64, "--device-profile")
    code, _, err = gensoup(*arguments, kit.path / "kit.json")
    assert code == ERROR and "is a probe kit, nothing measured yet; gensoup probe" in err and err.count("\n") == 1
    code, _, err = gensoup(*arguments, kit.path)
    assert code == ERROR and "is a folder; gensoup probe KIT" in err
    assert not (tmp_path / "run").exists()
