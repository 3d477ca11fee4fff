"""What is made of probes and gates, and the bundle that lets the gate run an untrained graph."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import probe_vs_gate
import pytest
from probe_vs_gate import agreement, bundle_of, ratio, report, rows_of

from gensoup.bench.probe_kit import KitGraph, ProbeKit
from gensoup.runtime import Classifier
from gensoup.runtime.preprocess import Preprocess


def row(number: int, p99: float | None, verdict: str, factor: float = 2.0) -> probe_vs_gate.Row:
    times = {"p50": 1.0 * number, "p95": 2.0 * number, "p99": None if p99 is None else p99 * factor}
    return {
        "round": 0,
        "key": f"net{number}@96@fp32",
        "engine": "onnxruntime-cpu",
        "rate_hz": 64.0,
        "bound_ms": 13.28,
        "probe": {
            "p50_ms": 0.5 * number,
            "p95_ms": 1.0 * number,
            "p99_ms": p99,
            "engine_ms": {"p50_ms": 0.4 * number, "p99_ms": 0.6 * number},
        },
        "gate": {
            "verdict": verdict,
            "reason": "for a reason",
            "latency_ms": times,
            "stages_ms": {"engine": {"p50": 0.4 * number, "p99": 0.6 * number}},
        },
    }


ROWS = [row(1, 2.0, "PASS"), row(2, 5.0, "PASS"), row(3, 13.0, "FAIL"), row(4, 14.0, "PASS"), row(5, None, "FAIL")]


def test_agreement_counts_every_answer_and_keeps_invalid_apart() -> None:
    assert agreement([*ROWS, row(6, 1.0, "INVALID")]) == {
        "admitted, PASS": 2,
        "admitted, FAIL": 1,
        "refused, PASS": 1,
        "refused, FAIL": 1,
        "INVALID": 1,
    }


def test_the_ratio_and_its_interval() -> None:
    rng = np.random.default_rng(3)
    probe = rng.uniform(1, 10, 60)
    middle, low, high = ratio(probe, probe * np.exp(rng.normal(math.log(1.2), 0.1, 60)))
    assert low < 1.2 < high and low < middle < high and high - low < 0.1
    assert ratio([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == pytest.approx((2.0, 2.0, 2.0))


def test_the_report_says_how_much_and_names_who_disagrees() -> None:
    text = report([*ROWS, {"key": "x@96@fp32", "engine": "onnxruntime-cpu", "failed": "does not load"}])
    assert "| frame p50 | 5 | 1.000 | 2.000 [2.000, 2.000] |" in text
    assert "| engine p50 | 5 | 1.000 | 1.000 [1.000, 1.000] |" in text
    assert "| frame p99 | 4 | 1.000 | 2.000" in text  # the fifth dropped too many frames to have one
    assert "agree on 3 of 5: 60.0% [14.7%, 94.7%]" in text
    assert "* net3@96@fp32, onnxruntime-cpu: probe p99 13.0 ms, admitted; gate FAIL" in text
    assert "* net4@96@fp32" in text and "net1" not in text and "Failed: x@96@fp32 onnxruntime-cpu" in text


def test_rows_of_a_file_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert rows_of(path) == []
    path.write_text(json.dumps(ROWS[0]) + "\n" + json.dumps(ROWS[1])[:20])
    assert rows_of(path) == ROWS[:1]


def test_the_gate_can_open_a_bundle_around_an_untrained_graph(tmp_path: Path, tiny_model: bytes) -> None:
    digest = hashlib.sha256(tiny_model).hexdigest()
    (tmp_path / "g.onnx").write_bytes(tiny_model)
    graphs = [KitGraph("g.onnx", digest, "net", 32, name, 9, 3, Preprocess(32), {}) for name in ("fp32", "int8")]
    kit = ProbeKit(tmp_path, 3, tuple(graphs), complete=True, made_by={})
    bundle_of(kit, graphs[1], tmp_path / "net.gensoup")
    for precision in ("fp32", "int8"):
        classifier = Classifier.load(tmp_path / "net.gensoup", "onnxruntime-cpu", precision, threads=1)
        assert classifier.precision == precision and len(classifier.labels) == 3
