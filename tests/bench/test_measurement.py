from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate_samples import certified, latencies, measurement_of, spread, trace_of

from gensoup.bench.finding import Finding, Kind
from gensoup.bench.judge import judge
from gensoup.bench.measurement import Measurement
from gensoup.bench.tier import QUICK
from gensoup.bench.verdict import Outcome, check_schema
from gensoup.runtime.errors import DataError

NOISY = np.random.default_rng(1).gamma(4.0, 2.0, 1920)


@pytest.mark.parametrize(
    "measurement",
    [
        measurement_of(trace_of(latencies())),
        measurement_of(trace_of(NOISY, late_ms=1.5, idle=float("nan"), taken=float("nan"))),
        measurement_of(replace(trace_of(NOISY), fell_back=("failed over: x (y)",), lost=3, live=True)),
        measurement_of(trace_of(NOISY), findings=(Finding(Kind.THROTTLED, "hot", "nvidia", 1),), device_log={"a": [1]}),
        replace(certified(spread(200, np.inf, 38_400)), interruptions=2, capacity_fps=120.5),
        replace(certified(), repetitions=()),
    ],
)
def test_a_trace_judged_again_gives_the_same_verdict(measurement: Measurement, tmp_path: Path) -> None:
    path = tmp_path / "trace.npz"
    measurement.save(path)
    loaded = Measurement.load(path)
    loaded.check_rules(path)
    for one, other in zip(measurement.repetitions, loaded.repetitions, strict=True):
        for name, values in one.arrays().items():
            np.testing.assert_array_equal(other.arrays()[name], values)
        assert other.scalars() == one.scalars()
    first, again = judge(measurement).to_dict(), judge(loaded).to_dict()
    assert json.dumps(again) == json.dumps(first)
    assert loaded.device_log == measurement.device_log


def test_a_trace_of_certify_is_compact(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    certified(*(rng.gamma(40.0, 0.2, 38_400) for _ in range(3))).save(tmp_path / "trace.npz")
    assert (tmp_path / "trace.npz").stat().st_size < 4_000_000


def test_rules_other_than_a_tiers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.npz"
    weak = replace(QUICK, max_miss_rate=0.5)
    for tier in (weak, replace(weak, name="mine")):
        measurement_of(trace_of(np.full(1920, 20.0)), tier=tier).save(path)
        with pytest.raises(DataError, match="other rules of tier"):
            Measurement.load(path).check_rules(path)


def damage(path: Path, kind: str) -> None:
    if kind == "missing":
        path.unlink()
    elif kind == "text":
        path.write_text("no trace")
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "other":
        np.savez(path, scheduled=np.zeros(500))
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:3000])
    else:
        with np.load(path) as file:
            arrays = dict(file)
        about = json.loads(str(arrays["about"]))
        if kind == "short array":
            arrays["1_done"] = arrays["1_done"][:5]
        elif kind == "no array":
            del arrays["1_done"]
        elif kind == "list":
            about = []
        else:
            about[kind] = {"source": {"kind": "wish"}, "tier": {}, "findings": [{}], "device": 3, "min_fps": "x"}[kind]
        np.savez(path, **{**arrays, "about": np.array(json.dumps(about))})


KINDS = "missing text npy other cut|short array|no array|list|source|tier|findings|device|min_fps"


@pytest.mark.parametrize("kind", [*KINDS.split("|")[0].split(), *KINDS.split("|")[1:]])
def test_what_is_no_trace_is_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "trace.npz"
    measurement_of(trace_of(latencies())).save(path)
    damage(path, kind)
    with pytest.raises(DataError, match=r"trace\.npz") as caught:
        Measurement.load(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_trace_is_one_line_wherever_the_damage_is(tmp_path: Path) -> None:
    path, rng = tmp_path / "trace.npz", random.Random(0)
    measurement_of(trace_of(latencies())).save(path)
    whole, refused = path.read_bytes(), 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            judge(Measurement.load(path))  # some of the zip's bytes mean nothing
        except DataError:
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("min_fps", 0),
        ("min_fps", math.inf),
        ("interruptions", math.inf),
        ("lost", -1),
        ("rate_hz", 0),
        ("rate_hz", 1e999),
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path: Path, where: str, value: float) -> None:
    path = tmp_path / "trace.npz"
    measurement_of(trace_of(latencies())).save(path)
    with np.load(path) as file:
        arrays = dict(file)
    about = json.loads(str(arrays["about"]))
    (about if where in about else about["repetitions"][0])[where] = value
    np.savez(path, **{**arrays, "about": np.array(json.dumps(about))})
    with pytest.raises(DataError, match=r"trace\.npz: not a trace"):
        Measurement.load(path)


def test_another_schema_is_told(tmp_path: Path) -> None:
    path = tmp_path / "trace.npz"
    measurement_of(trace_of(latencies())).save(path)
    with np.load(path) as file:
        arrays = dict(file)
    about = {**json.loads(str(arrays["about"])), "schema_version": 99}
    np.savez(path, **{**arrays, "about": np.array(json.dumps(about))})
    with pytest.raises(DataError, match="schema 99"):
        Measurement.load(path)


def test_a_verdicts_schema_is_checked(tmp_path: Path) -> None:
    values: Any = judge(measurement_of(trace_of(latencies()))).to_dict()
    path = tmp_path / "verdict.json"
    assert check_schema(values, path)["verdict"] == Outcome.PASS.value
    for wrong in ([], {}, {"schema_version": 1}, {**values, "schema_version": 1}):
        with pytest.raises(DataError, match=r"verdict\.json"):
            check_schema(wrong, path)
