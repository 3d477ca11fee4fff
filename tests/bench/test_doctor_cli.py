from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gensoup.bench.doctor import Line, Mark
from gensoup.bench.doctor.examination import Examination
from gensoup.bench.doctor.plausible import Plausibility

Run = Callable[..., tuple[int, str, str]]
GOOD = Line("engines", "onnxruntime-cpu", Mark.GOOD, "2.0 ms")
RED = Line("machine", "[gpu]", Mark.RED, "side by side", "take one away")


def test_this_machine_is_examined(gensoup: Run, tmp_path: Path, tiny_bundle: Path) -> None:
    code, out, err = gensoup("doctor", tiny_bundle, "--json", tmp_path / "doctor.json")
    values = json.loads((tmp_path / "doctor.json").read_text(encoding="utf-8"))
    red = [line for line in values["lines"] if line["mark"] == "red"]
    assert code == (0 if values["healthy"] else 1) and values["healthy"] == (not red), err
    assert values["plausibility"]["network"] == "tiny.gensoup" and values["plausibility"]["frames"] == 96
    for line in values["lines"]:
        assert line["topic"] in out
    assert all(line["remedy"] for line in red)
    assert {"installed", "machine", "engines", "capture", "64 frames a second"} == {
        line["section"] for line in values["lines"]
    }


@pytest.mark.parametrize(("lines", "p95", "healthy"), [([GOOD], 5.0, True), ([GOOD, RED], 5.0, False)])
def test_the_table_and_the_exit_code(
    gensoup: Run, monkeypatch: pytest.MonkeyPatch, lines: list[Line], p95: float, healthy: bool
) -> None:
    found = Examination(tuple(lines), Plausibility("n", "e", 1.0, p95, 96, 0, 0.0), 1.0)
    monkeypatch.setattr("gensoup.bench.doctor.examination.examine", lambda bundle, step: found)
    code, out, _ = gensoup("doctor")
    assert code == (0 if healthy else 1)
    assert ("healthy: 64 frames" in out) == healthy
    assert ("[gpu]" in out and "→ take one away" in out and "1 to mend" in out) != healthy
    code, out, _ = gensoup("doctor", "--json", "-")
    assert json.loads(out)["healthy"] is healthy


def test_a_bundle_that_is_none_is_named_at_once(gensoup: Run, tmp_path: Path) -> None:
    code, _, err = gensoup("doctor", tmp_path / "away.gensoup")
    assert code == 70 and err.count("\n") == 1 and "away.gensoup" in err
