"""Results side by side: what is worse, what is noise, what must not be compared."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate_samples import certified, measurement_of, trace_of

from gensoup.bench.compare import compare, read_results
from gensoup.bench.compare_page import compare_page
from gensoup.bench.comparison import Comparison
from gensoup.bench.device_profile import DeviceProfile
from gensoup.bench.judge import judge
from gensoup.bench.measurement import GateSource, Measurement
from gensoup.bench.result_file import TraceFile, bench_result, write_bench_result
from gensoup.cli import main
from gensoup.runtime.errors import DataError, UsageError

Values = dict[str, Any]


def run(seed: int, scale: float = 1.0, misses: int = 0, count: int = 1920) -> np.ndarray:
    """A device of some noise; ``misses`` of its frames, far apart, take 20 ms."""
    values = (7 + np.random.default_rng(seed).gamma(2, 0.3, count)) * scale
    values[np.arange(misses) * (count // max(misses, 1)) + 3] = 20.0
    return values


def write(folder: Path, name: str, measurement: Measurement, trace: bool = True, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    file = None
    if trace:
        measurement.save(folder / f"{name}.npz")
        file = TraceFile.of(folder / f"{name}.npz")
    path = folder / f"{name}.json"
    write_bench_result(path, {**bench_result(judge(measurement), measurement, file), **changes})
    return path


def compared(*paths: Path, tolerance: float = 0.05) -> Comparison:
    (one,) = compare(read_results(paths), tolerance)[0]
    return one


def flags(comparison: Comparison, place: int = 1) -> dict[str, str]:
    return {row.key: row.cells[place].flag.value for row in comparison.rows}


@pytest.mark.parametrize("trace", [True, False], ids=["traces", "stored bounds"])
def test_alike_runs_are_noise_and_a_slower_one_is_worse(tmp_path: Path, trace: bool) -> None:
    first = write(tmp_path, "first", measurement_of(trace_of(run(1))), trace)
    again = write(tmp_path, "again", measurement_of(trace_of(run(2, 1.01))), trace)
    slow = write(tmp_path, "slow", measurement_of(trace_of(run(3, 1.2))), trace)
    found = compared(first, again, slow)
    assert set(flags(found).values()) == {"same"}
    assert flags(found, 2) == {
        "verdict": "same",
        "miss_rate": "same",
        "latency_p50_ms": "worse",
        "latency_p95_ms": "worse",
        "latency_p99_ms": "worse",
    }
    assert found.sentence.startswith("worse than first beyond noise: latency p50 of slow (+2")
    assert set(flags(compared(slow, first)).values()) == {"same", "better"}
    assert not compared(first, slow, tolerance=0.5).worse
    assert ("no trace beside" in " ".join(found.notes)) != trace


def test_misses_are_told_apart_by_their_number_and_by_clusters(tmp_path: Path) -> None:
    none = write(tmp_path, "none", measurement_of(trace_of(run(1))))
    few = write(tmp_path, "few", measurement_of(trace_of(run(2, misses=3))))
    many = write(tmp_path, "many", measurement_of(trace_of(run(3, misses=25))))
    values = run(4)
    values[640:652] = 20.0
    burst = write(tmp_path, "burst", measurement_of(trace_of(values)))
    found = compared(none, few, many, burst)
    assert [flags(found, place)["miss_rate"] for place in (1, 2, 3)] == ["same", "worse", "same"]
    assert [flags(found, place)["verdict"] for place in (1, 2, 3)] == ["same", "worse", "worse"]
    untraced = json.loads(burst.read_text()) | {"trace": None}
    burst.write_text(json.dumps(untraced))
    assert flags(compared(none, burst))["miss_rate"] == "worse"  # taken for independent, which is said
    assert "independent" in " ".join(compared(none, burst).notes)


def test_another_limit_source_device_or_an_invalid_one_is_said(tmp_path: Path) -> None:
    plain = measurement_of(trace_of(run(1)))
    first = write(tmp_path, "first", plain)
    rate = write(tmp_path, "rate", measurement_of(trace_of(run(1), rate=30.0), min_fps=30.0))
    found = compared(first, rate)
    assert found.not_compared == ("rate",) and set(flags(found).values()) == {"unknown"}
    assert "measured at 30 Hz, not at 64" in found.notes[0] and found.sentence.startswith("cannot be told")
    invalid = write(tmp_path, "invalid", measurement_of(trace_of(run(1), late_ms=3.0)))
    assert "invalid is INVALID" in compared(first, invalid).notes[0]
    assert compared(invalid, first).not_compared == ("first",)
    other = GateSource("clip.mp4", "file", 720, 1280)
    source = compared(first, write(tmp_path, "source", measurement_of(trace_of(run(1)), source=other)))
    assert source.notes == ("another source: what differs below may come from that alone",)
    device = compared(first, write(tmp_path, "device", measurement_of(trace_of(run(1)), device={"cpu": "another"})))
    assert device.notes == ("another device: what differs below may come from that alone",)
    assert [one.key for one in device.conditions if one.differs] == ["device"]


def test_one_measurement_twice_is_said(tmp_path: Path) -> None:
    measured = measurement_of(trace_of(run(1)))
    first = write(tmp_path, "first", measured, bundle="polyp.gensoup")
    copy = write(tmp_path / "elsewhere", "copy", measured, trace=False, bundle="renamed.gensoup")
    judged = tmp_path / "judged.json"  # once more, by later rules
    judged.write_text(json.dumps({**json.loads(first.read_text()), "reason": "in other words"}))
    other = write(tmp_path, "other", measurement_of(trace_of(run(2))))
    (twice, thrice, missing) = compared(first, copy, judged, other).notes
    assert twice.startswith("copy and first are one and the same measurement: that they agree says nothing; measure")
    assert thrice.startswith("judged and first are one and the same") and "no trace beside" in missing
    assert compared(first, other).notes == ()
    for name, values in {"a": evaluation(0.9), "b": evaluation(0.9), "c": evaluation(0.9, frames_per_second=9)}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    (note,) = compared(*(tmp_path / f"{name}.json" for name in "abc")).notes
    assert note.startswith("b and a are one and the same measurement")


def test_all_dropped_and_empty_ones(tmp_path: Path) -> None:
    first = write(tmp_path, "first", measurement_of(trace_of(run(1))))
    lost = write(tmp_path, "lost", measurement_of(trace_of(np.full(1920, math.inf))))
    assert set(flags(compared(first, lost)).values()) == {"worse"}
    assert flags(compared(lost, lost))["latency_p99_ms"] == "same"
    empty = write(tmp_path, "empty", measurement_of())
    assert compared(first, empty).not_compared == ("empty",)


def test_certify_is_compared_within_seconds(tmp_path: Path) -> None:
    first, again = (write(tmp_path, name, certified(run(seed, count=38_400))) for name, seed in (("a", 1), ("b", 2)))
    assert not compared(first, again).worse


def evaluation(mcc: float, half: float = 0.04, **changes: Any) -> Values:
    metrics = ("mcc", "accuracy", "macro_precision", "macro_recall", "macro_specificity", "macro_f1")
    values: Values = dict.fromkeys(metrics, mcc) | {"calibration_error": 0.05}
    ends = {name: [values[name] - half, values[name] + half] for name in values}
    facts = {"n": 400, "labels": ["a", "b"], "data": "d", "data_fingerprint": "f" * 64, "bundle": "x/y.gensoup"}
    facts |= {"bundle_sha256": "ab" * 32, "engine": "e", "precision": "fp32", "confusion_matrix": [[1]]}
    return {**values, "intervals": ends, **facts, **changes}


def test_metrics_by_their_intervals(tmp_path: Path) -> None:
    paths = []
    for name, values in {
        "first": evaluation(0.9),
        "noise": evaluation(0.86),
        "worse": evaluation(0.8, calibration_error=0.2),
        "better": evaluation(0.99, half=0.01),
        "data": evaluation(0.9, data_fingerprint="0" * 64),
        "classes": evaluation(0.9, labels=["a", "c"]),
        "unsure": evaluation(0.5, intervals={}),
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
        paths.append(tmp_path / f"{name}.json")
    found = compared(*paths)
    assert found.kind == "eval"
    assert [flags(found, place)["mcc"] for place in range(1, 7)] == [
        *("same", "worse", "better", "unknown", "unknown", "unknown")
    ]
    assert found.not_compared == ("data", "classes", "unsure")
    assert "on other images" in found.notes[0] and "other classes" in found.notes[1]
    values = evaluation(0.9, calibration_error=0.3)
    values["intervals"]["calibration_error"] = [0.25, 0.35]
    (tmp_path / "uncalibrated.json").write_text(json.dumps(values))
    assert flags(compared(paths[0], tmp_path / "uncalibrated.json"))["calibration_error"] == "worse"
    assert flags(compared(tmp_path / "uncalibrated.json", paths[0]))["calibration_error"] == "better"


def test_names_tell_files_apart(tmp_path: Path) -> None:
    one, other = (write(tmp_path / name, "bench", measurement_of(trace_of(run(1)))) for name in ("monday", "friday"))
    assert [result.name for result in read_results((one, other))] == ["monday/bench", "friday/bench"]
    assert [result.name for result in read_results((one, one))] == ["bench (1)", "bench (2)"]


def test_mistakes_are_named(tmp_path: Path, tiny_bundle: Path) -> None:
    good = write(tmp_path, "good", measurement_of(trace_of(run(1))))
    (tmp_path / "eval.json").write_text(json.dumps(evaluation(0.9)))
    (tmp_path / "other.json").write_text("{}")
    DeviceProfile.of_this_machine(64.0, {}).save(tmp_path / "cart.json")
    broken = json.loads(good.read_text())
    del broken["source"]
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    one_end = {name: [1.0] for name in ("p50", "p95", "p99")}
    half = {**json.loads(good.read_text()), "latency_interval_ms": one_end, "trace": None}
    (tmp_path / "half.json").write_text(json.dumps(half))
    cases: list[tuple[type[Exception], str, list[Path]]] = [
        (UsageError, "the only result", [good]),
        (UsageError, "the only result of `gensoup eval`", [good, good, tmp_path / "eval.json"]),
        (UsageError, "is a bundle", [good, tiny_bundle]),
        (UsageError, "is a trace", [good, tmp_path / "good.npz"]),
        (DataError, "not a result", [good, tmp_path / "other.json"]),
        (DataError, "is a device profile, not a result", [good, tmp_path / "cart.json"]),
        (DataError, "cannot be read", [good, tmp_path / "none.json"]),
        (DataError, "one of them is damaged", [good, tmp_path / "broken.json"]),
        (DataError, "one of them is damaged", [good, tmp_path / "half.json"]),
    ]
    for kind, said, paths in cases:
        with pytest.raises(kind, match=said) as caught:
            compare(read_results(paths))
        assert "\n" not in str(caught.value)


def test_what_results_say_does_not_steer_the_terminal(tmp_path: Path) -> None:
    good = write(tmp_path, "good", measurement_of(trace_of(run(1))))
    wild = {**json.loads(good.read_text()), "engine": "\x1b[2Jx", "bundle": "a\nb"}
    (tmp_path / "wild.json").write_text(json.dumps(wild))
    (comparison,), _ = compare(read_results([good, tmp_path / "wild.json"]))
    told = [value for condition in comparison.conditions for value in condition.values]
    assert all(value.isprintable() for value in told) and any("[2Jx" in value for value in told)


Gensoup = Callable[..., int]


def exit_of(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(one) for one in arguments])
    return int(left.value.code or 0)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write(tmp_path, "first", measurement_of(trace_of(run(1))))
    slow = write(tmp_path, "slow [2]", measurement_of(trace_of(run(2, 1.3))))
    rate = write(tmp_path, "rate", measurement_of(trace_of(run(1), rate=30.0), min_fps=30.0))
    out, page = tmp_path / "c.json", tmp_path / "c.html"
    assert exit_of("compare", first, slow, "--json", out, "--html", page) == 0
    told = capsys.readouterr().out
    assert told.startswith("worse than first beyond noise: latency p50") and "slow [2]" in told and "▲ worse" in told
    assert exit_of("compare", first, slow, "--fail-on-worse") == 1
    assert exit_of("compare", slow, first, "--fail-on-worse") == 0
    assert exit_of("compare", first, rate, "--fail-on-worse") == 2
    assert exit_of("compare", first, rate) == 0
    (values,) = json.loads(out.read_text(encoding="utf-8"))["comparisons"]
    assert values["schema_version"] == 1 and values["results"] == ["first", "slow [2]"]
    assert {"result": "slow [2]", "quantity": "latency p99"} in values["worse"]
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 2 and "▲ worse" in text and "<script" not in text
    assert exit_of("compare", first, slow, "--json", first) == 64
    assert exit_of("compare", first, slow, "--tolerance", "-1") == 64


def test_a_page_without_traces_has_no_figure(tmp_path: Path) -> None:
    paths = [write(tmp_path, name, measurement_of(trace_of(run(1))), trace=False) for name in ("a", "b")]
    assert "<svg" not in compare_page(*compare(read_results(paths)))
