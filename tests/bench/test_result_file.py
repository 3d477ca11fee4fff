"""The file of ``bench --json``: its schema, its intervals, its trace."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from gate_samples import certified, latencies, measurement_of, spread, trace_of

from gensoup.bench.finding import Finding, Kind
from gensoup.bench.judge import judge
from gensoup.bench.measurement import Measurement
from gensoup.bench.result_file import TraceFile, bench_result, read_bench_result, write_bench_result
from gensoup.bench.result_file import trace_of as kept_trace
from gensoup.runtime.errors import DataError

PASS = measurement_of(trace_of(latencies()), bundle="polyp.gensoup")
ALL_LOST = measurement_of(trace_of(np.full(1920, math.inf)))
INVALID = replace(PASS, findings=(Finding(Kind.INVALID, "no sensor", "nvml"), Finding(Kind.NOTE, "x", "cpu", 1)))
CERTIFIED = certified(spread(500, count=38_400))


def schema() -> Any:
    text = resources.files("gensoup.bench").joinpath("schemas/bench.schema.json").read_text(encoding="utf-8")
    return json.loads(text)


@pytest.mark.parametrize(
    "measurement",
    [
        PASS,
        ALL_LOST,
        INVALID,
        certified(spread(500, count=38_400)),
        measurement_of(),
        measurement_of(trace_of(latencies(9))),
    ],
    ids=["pass", "all dropped", "invalid", "certify", "nothing", "short"],
)
def test_real_output_is_what_the_schema_says(measurement: Measurement, tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    measurement.save(tmp_path / "t.npz")
    write_bench_result(path, bench_result(judge(measurement), measurement, TraceFile.of(tmp_path / "t.npz")))
    values = json.loads(path.read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    validator.validate(values)
    assert set(values) == set(schema()["required"])
    assert read_bench_result(path) == values
    for name, wrong in {"verdict": "MAYBE", "extra": 1, "misses": -1, "trace": {"file": "x"}}.items():
        assert not validator.is_valid({**values, name: wrong})


def test_the_trace_is_found_beside_it_and_known_by_its_bytes(tmp_path: Path) -> None:
    PASS.save(tmp_path / "t.npz")
    path = tmp_path / "v.json"
    values = bench_result(judge(PASS), PASS, TraceFile.of(tmp_path / "t.npz"))
    found = kept_trace(path, values)
    assert found is not None and len(found.repetitions) == 1
    INVALID.save(tmp_path / "t.npz")
    with pytest.raises(DataError, match=r"t\.npz: not the trace"):
        kept_trace(path, values)
    (tmp_path / "t.npz").unlink()
    assert kept_trace(path, values) is None
    assert kept_trace(path, {**values, "trace": None}) is None


@pytest.mark.parametrize("text", ["no JSON", "[1]", '{"verdict": "PASS"}', '{"verdict": "PASS", "schema_version": 1}'])
def test_other_files_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "v.json").write_text(text)
    with pytest.raises(DataError, match=r"v\.json"):
        read_bench_result(tmp_path / "v.json")
    with pytest.raises(DataError, match=r"none\.json"):
        read_bench_result(tmp_path / "none.json")
