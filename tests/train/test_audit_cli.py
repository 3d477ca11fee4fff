"""``gensoup data audit`` as it is typed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gensoup.runtime.errors import DataError, UsageError
from gensoup.train.audit_cli import audit_command

app = typer.Typer()
app.command("audit")(audit_command)


@pytest.fixture
def data(make_shapes: Callable[..., Path], tmp_path: Path) -> Path:
    """Three classes of two scenes each: too few for the border to be measured, so quick."""
    return make_shapes(tmp_path / "data", per_class=4)


def test_it_reports_writes_json_and_ends_in_0(data: Path, tmp_path: Path) -> None:
    (data / "7" / "text.jpg").write_text("no image", encoding="utf-8")
    done = CliRunner().invoke(app, [str(data), "--json", str(tmp_path / "a.json"), "--seed", "5"])
    assert done.exit_code == 0, done.output
    text = re.sub(r"\s+", " ", done.output)
    assert "13 images in 3 classes" in text and "problem broken: 1 image cannot be read" in text
    assert "R&D <b> [x] $a_" in text and "warning roles: training would refuse" in text
    assert "thresholds" in text and "6 of 64 bits" in text
    values = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert values["seed"] == 5 and values["broken"] == {"7/text.jpg": "not an image that can be read"}
    assert [finding["kind"] for finding in values["findings"] if finding["level"] == "problem"] == ["broken"]
    assert len(values["thresholds"]) == 5


def test_strict_ends_in_1_where_there_is_a_problem_and_in_0_else(data: Path) -> None:
    assert CliRunner().invoke(app, [str(data), "--strict"]).exit_code == 0
    (data / "7" / "copy.png").write_bytes((data / "lésion plate" / "000.png").read_bytes())
    done = CliRunner().invoke(app, [str(data), "--strict"])
    assert done.exit_code == 1 and "cross-class" in done.output
    assert CliRunner().invoke(app, [str(data)]).exit_code == 0


def test_results_never_go_into_the_folder(data: Path, tmp_path: Path) -> None:
    before = sorted(data.rglob("*"))
    done = CliRunner().invoke(app, [str(data), "--json", str(data / "audit.json")])
    assert isinstance(done.exception, UsageError) and "--json" in str(done.exception)
    assert sorted(data.rglob("*")) == before
    done = CliRunner().invoke(app, [str(tmp_path / "nowhere")])
    assert isinstance(done.exception, DataError) and "nowhere" in str(done.exception)


def test_without_scikit_learn_the_extra_is_named(data: Path) -> None:
    program = f"""
import sys
sys.modules["sklearn"] = None
from gensoup.cli import main
main(["data", "audit", {str(data)!r}])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (
        done.returncode == 70
        and done.stderr.strip() == "error: 'sklearn' is not installed: pip install 'gensoup[train]'"
    )


def test_the_command_hangs_in_gensoup_data() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gensoup", "data", "audit", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "--strict" in done.stdout
