"""The recorder around something that takes a while, with replayed sensors and with this machine's own."""

from __future__ import annotations

import json
import math
import threading
import time

import pytest
from replay import ReplayedJetson, ReplayedNvml

from gensoup.bench.finding import Kind
from gensoup.bench.sensors import Sample, SensorError
from gensoup.bench.sensors.choice import open_readers
from gensoup.bench.sensors.cpu import CpuReader
from gensoup.bench.sensors.findings import findings
from gensoup.bench.sensors.jetson import JtopReader
from gensoup.bench.sensors.log import DeviceLog
from gensoup.bench.sensors.nvidia import NvmlReader
from gensoup.bench.sensors.recorder import Recorder, record


class Hasty(NvmlReader):
    """Needs no rest, and goes on to the next recorded reading with every look."""

    settle_s = 0.0

    def read(self):  # type: ignore[no-untyped-def]
        sample = super().read()
        self._nvml.look += 1
        return sample


def test_series_slowdowns_and_shares_come_out_as_they_were_read() -> None:
    library = ReplayedNvml("rtx_a2000.json")
    reader = Hasty(library, pid=4711, name_of=lambda pid: "Xorg", visible="", since_us=0)
    with Recorder([CpuReader(), reader], interval_s=0.05) as recorder:
        time.sleep(0.3)
    log = recorder.log()
    assert log.phase[0] == "before" and log.phase[-1] == "after" and set(log.phase[1:-1]) == {"during"}
    assert log.series["gpu_temperature_c"][:4] == (41, 66, 82, 84)
    assert len(log.slowed_by["nvml: too hot (hardware)"]) == log.phase.count("during") - 2
    assert log.display == {"Xorg (1203)": pytest.approx(3 / log.phase.count("during"), abs=0.01)} and log.others == {}
    assert log.facts_before == log.facts_after and log.facts_before["nvml"]["power_limit_w"] == 70
    assert not library.open
    kinds = {finding.kind for finding in findings(log, "tensorrt")}
    assert Kind.THROTTLED in kinds and Kind.INVALID not in kinds
    assert log.summary()["gpu_temperature_c"] == {
        "before": 41,
        "min": 66,
        "mean": pytest.approx(80, 6),
        "max": 84,
        "after": 84,
    }


def test_a_sensor_that_dies_leaves_its_reason_and_the_others_go_on() -> None:
    jetson = ReplayedJetson("orin_nx.json")
    reader = JtopReader(jetson)
    reader.settle_s = 0.0
    with Recorder([CpuReader(), reader], jetson=True, interval_s=0.05) as recorder:
        time.sleep(0.12)
        jetson.alive = False
        time.sleep(0.3)
    log = recorder.log()
    assert log.errors == {"jtop": "jetson-stats stopped answering"}
    assert None in log.series["gpu_load_percent"] and log.series["cpu_load_percent"].count(None) == 0
    assert any("jetson-stats stopped answering" in finding.text for finding in findings(log, "tensorrt"))


def test_a_sensor_that_hangs_holds_up_neither_the_end_nor_the_truth() -> None:
    answers = threading.Event()

    class Hanging(CpuReader):
        def read(self) -> Sample:
            if threading.current_thread() is not threading.main_thread():
                answers.wait(20)
            return super().read()

    recorder = Recorder([Hanging()], interval_s=0.02, patience_s=0.1)
    started = time.monotonic()
    with recorder:
        time.sleep(0.1)
    assert time.monotonic() - started < 5
    found = findings(recorder.log(), "onnxruntime-cpu")
    answers.set()
    # Within a tenth of a second the processor's counters may not have moved: then its load is not known either.
    assert {one.kind for one in found} == {Kind.INVALID}
    assert "gave no answer for 0.1 s" in found[-1].text


def test_json_there_and_back() -> None:
    with record("onnxruntime-cpu", interval_s=0.05) as recorder:
        time.sleep(0.12)
    log = recorder.log()
    values = DeviceLog(**{**vars(log), "others": {"x (1)": math.nan}}).to_dict()
    text = json.dumps(values, allow_nan=False)
    back = DeviceLog.from_dict(json.loads(text))
    assert back.to_dict() == values and math.isnan(back.others["x (1)"])
    with pytest.raises(ValueError, match="schema 99"):
        DeviceLog.from_dict({**values, "schema_version": 99})


def test_an_engine_without_its_sensor_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*arguments: object, **options: object) -> NvmlReader:
        raise SensorError("NVML cannot be read: pip install 'gensoup[nvidia]'")

    monkeypatch.setattr("gensoup.bench.sensors.choice.NvmlReader", away)
    readers, missing, jetson = open_readers("onnxruntime-cuda")
    assert [reader.name for reader in readers] == ["cpu"] and not jetson
    assert missing == {"nvml": "NVML cannot be read: pip install 'gensoup[nvidia]'"}


def test_looking_costs_little() -> None:
    """A look a second must not be felt by frames of 15 ms; the bound is loose, as other tests run beside this one."""
    with record("onnxruntime-cpu", interval_s=0.02) as recorder:
        time.sleep(0.5)
    assert recorder.log().cost_ms["cpu_mean"] < 5
