"""Reading a probe kit, as a device without PyTorch does."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gensoup.bench.probe_kit import KIT_FILE, KitGraph, ProbeKit
from gensoup.runtime.errors import DataError
from gensoup.runtime.preprocess import Preprocess

GRAPH = KitGraph(
    file="small-32-int8.onnx",
    sha256=hashlib.sha256(b"graph").hexdigest(),
    architecture="small",
    size=32,
    precision="int8",
    macs=9,
    parameters=3,
    preprocess=Preprocess(32, "crop"),
    built={"fp32": 1, "int8": 2},
)


@pytest.fixture
def kit(tmp_path: Path) -> ProbeKit:
    made = ProbeKit(tmp_path / "kit", 5, (GRAPH,), complete=True, made_by={"torch": "2"})
    made.save()
    (made.path / GRAPH.file).write_bytes(b"graph")
    return made


def changed(kit: ProbeKit, **values: Any) -> Path:
    content = json.loads((kit.path / KIT_FILE).read_text())
    for name, value in values.items():
        if name in content:
            content[name] = value
        else:
            content["graphs"][0][name] = value
    (kit.path / KIT_FILE).write_text(json.dumps(content))
    return kit.path


def test_round_trip(kit: ProbeKit) -> None:
    read = ProbeKit.load(kit.path)
    assert read == kit
    assert read.read(read.graphs[0]) == b"graph"
    assert read.graphs[0].key == "small@32@int8"


def test_a_kit_that_is_not_finished_is_refused_with_the_remedy(kit: ProbeKit) -> None:
    replace(kit, complete=False).save()
    with pytest.raises(DataError, match="not finished; run the same gensoup export --probe-kit again"):
        ProbeKit.load(kit.path)
    assert ProbeKit.begun(kit.path).graphs == kit.graphs


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schema_version": 2}, "schema 2 is newer"),
        ({"graphs": []}, "lists no graphs"),
        ({"graphs": 3}, "malformed"),
        ({"file": "../../etc/passwd"}, "not a plain name"),
        ({"file": "..\\evil.onnx"}, "not a plain name"),
        ({"file": ".."}, "not a plain name"),
        ({"size": 64}, "preprocessed to 32"),
        ({"preprocess": {"size": 32}}, "malformed"),
        ({"macs": None}, "malformed"),
    ],
)
def test_a_malformed_kit_is_one_line(kit: ProbeKit, values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        ProbeKit.load(changed(kit, **values))
    assert "\n" not in str(error.value) and str(kit.path) in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_what_is_no_kit_is_one_line(kit: ProbeKit, text: str) -> None:
    (kit.path / KIT_FILE).write_text(text)
    with pytest.raises(DataError, match="make the kit again"):
        ProbeKit.load(kit.path)


def test_a_folder_without_a_kit_and_a_damaged_or_missing_graph(kit: ProbeKit, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="give the folder that gensoup export --probe-kit wrote"):
        ProbeKit.load(tmp_path)
    (kit.path / GRAPH.file).write_bytes(b"grapH")
    with pytest.raises(DataError, match="damaged"):
        kit.read(GRAPH)
    (kit.path / GRAPH.file).unlink()
    with pytest.raises(DataError, match="copy the whole kit again"):
        kit.read(GRAPH)
