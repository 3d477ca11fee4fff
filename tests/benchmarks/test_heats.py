"""Searches with and without heats, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import heats
import pytest

METRICS = {
    "scores": {"test": {"mcc": 0.5, "negative_log_likelihood": 0.7}},
    "images_trained": 100,
    "individuals": [{"seconds": 2.0}, {"seconds": 3.0}],
    "architecture": "a",
}
ROW = {"mcc": 0.5, "loss": 0.7, "images": 100, "seconds": 5.0, "network": "a"}


def test_a_search_goes_on_where_it_was_and_is_run_once_for_each_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []

    def killed(data: Path, run: Path, words: list[str]) -> None:
        called.append(words)
        run.mkdir(exist_ok=True)
        raise SystemExit("killed")

    def begun(data: Path, run: Path, words: list[str]) -> None:
        (run / "config.yaml").touch()
        killed(data, run, words)

    def finished(data: Path, run: Path, words: list[str]) -> None:
        called.append(words)
        run.mkdir(exist_ok=True)
        (run / "metrics.json").write_text(json.dumps(METRICS))

    for search_seconds in (killed, begun, finished):
        monkeypatch.setattr(heats, "search_seconds", search_seconds)
        if search_seconds is finished:
            assert heats.search(tmp_path, tmp_path, ["--seed=0"], tmp_path / "cache") == ROW
        else:
            with pytest.raises(SystemExit):
                heats.search(tmp_path, tmp_path, ["--seed=0"], tmp_path / "cache")
    assert ["--resume" in words for words in called] == [False, False, True]
    heats.search(tmp_path, tmp_path, ["--seed=0"], tmp_path / "other")
    assert len(called) == 3
    heats.search(tmp_path, tmp_path, ["--seed=0", "--size=64"], tmp_path / "cache")
    assert len(called) == 4 and "--resume" not in called[-1]


def test_differences_are_paired_by_seed() -> None:
    def rows(*mccs: float, seconds: float) -> list[dict[str, Any]]:
        return [{**ROW, "mcc": mcc, "seconds": seconds, "network": "ab"[mcc > 0.8]} for mcc in mccs]

    lines = heats.table(rows(0.7, 0.8, 0.9, seconds=10.0), rows(0.72, 0.82, 0.89, seconds=5.0))
    assert lines[2] == "| without | 3 | 0.8000 | 0.7000 | 100 | 10 | a 2, b 1 |"
    assert lines[3] == "| with | 3 | 0.8100 | 0.7000 | 100 | 5 | a 1, b 2 |"
    assert lines[-1].startswith("| +0.0100 [-0.0100, +0.0200] | 2–1 | ")
    assert lines[-1].endswith(" | +0.0000 [+0.0000, +0.0000] | 0.50 |")
