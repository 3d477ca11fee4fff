"""Writing a probe kit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gensoup.bench.probe_kit import KIT_FILE, ProbeKit
from gensoup.export import probe_kit
from gensoup.export.architectures import count_cost
from gensoup.export.layers import built
from gensoup.export.probe_kit import CLASSES, write_probe_kit
from gensoup.runtime.engines import load_engine
from gensoup.runtime.errors import UsageError
from gensoup.runtime.sources.synthetic import SyntheticEndoscope

NAME = "shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> ProbeKit:
    return write_probe_kit(tmp_path_factory.mktemp("kits") / "kit", [NAME], [32], ["fp32", "int8"])


def test_every_graph_runs_and_is_what_the_kit_says(kit: ProbeKit) -> None:
    read = ProbeKit.load(kit.path)
    assert read == kit and [graph.precision for graph in read.graphs] == ["fp32", "int8"]
    scene = SyntheticEndoscope(99, "polyp", 240, 320).frame(0.0)
    answers = []
    for graph in read.graphs:
        content = read.read(graph)
        assert built(content) == graph.built and graph.precision in graph.built
        assert (graph.macs, graph.parameters) == count_cost(NAME, CLASSES, 32)
        answers.append(load_engine(content, threads=1).infer(graph.preprocess(scene)))
        assert answers[-1].shape == (CLASSES,) and answers[-1].sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(answers[0] - answers[1]).max() < 0.1
    assert answers[0].max() < 0.99  # sensible statistics: neither dead nor saturated


def test_a_kit_is_gone_on_with_and_only_what_is_missing_is_made(kit: ProbeKit, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = kit.path / kit.graphs[1].file
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1])
    (kit.path / ".half.onnx.abcdefgh.tmp").write_bytes(b"left by a killed process")
    made: list[str] = []
    real = probe_kit._in_precision
    monkeypatch.setattr(
        probe_kit, "_in_precision", lambda graph, name, frames: made.append(name) or real(graph, name, frames)
    )
    again = write_probe_kit(kit.path, [NAME], [32], ["fp32", "int8"])
    assert made == ["int8"]
    assert again == kit and damaged.read_bytes() == content  # the same bytes


def test_killed_in_the_middle_it_is_not_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(graph: bytes, precision: str, frames: np.ndarray) -> bytes:
        if precision == "int8":
            raise KeyboardInterrupt
        return graph

    monkeypatch.setattr(probe_kit, "_in_precision", killed)
    monkeypatch.setattr(probe_kit, "_untrained", lambda *arguments: b"graph")
    monkeypatch.setattr(probe_kit, "built", lambda content: {"fp32": 1})
    with pytest.raises(KeyboardInterrupt):
        write_probe_kit(tmp_path / "kit", [NAME], [32], ["fp32", "int8"])
    begun = ProbeKit.begun(tmp_path / "kit")
    assert not begun.complete and [graph.precision for graph in begun.graphs] == ["fp32"]
    assert {path.name for path in (tmp_path / "kit").iterdir()} == {KIT_FILE, begun.graphs[0].file}


def test_mistakes_are_one_line_and_touch_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--architectures: 'shufflenet' is unknown; did you mean"):
        write_probe_kit(tmp_path / "kit", ["shufflenet"], [32], ["fp32"])
    with pytest.raises(UsageError, match="--size 4: must be a whole number between 32 and 1024"):
        write_probe_kit(tmp_path / "kit", [NAME], [32, 4], ["fp32"])
    assert not (tmp_path / "kit").exists()
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="no probe kit; name a new one"):
        write_probe_kit(tmp_path, [NAME], [32], ["fp32"])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
