"""jetson-stats' readings by way of recorded answers: see ``recorded/README.md``; no Jetson was at hand."""

from __future__ import annotations

import math

import pytest
from replay import ReplayedJetson

from gensoup.bench.sensors import SensorError
from gensoup.bench.sensors.jetson import JtopReader


def test_each_reading_has_its_name_and_unit() -> None:
    jetson = ReplayedJetson("orin_nx.json")
    jtop = JtopReader(jetson, pid=4711)
    jetson.look = 1
    sample = jtop.read()
    assert sample.values == {
        "gpu_clock_mhz": 612,
        "gpu_load_percent": 41.3,
        "gpu_temperature_c": 57.4,
        "junction_temperature_c": 58.1,
        "cpu_temperature_c": 58.1,
        "board_power_w": 11.402,
        "memory_used_mib": 3716,
    }
    assert set(jtop.required) <= set(sample.values)
    assert jtop.facts() == {"power_mode": "15W", "jetson_clocks": False, "gpu_clock_max_mhz": 918}
    assert list(sample.display) == ["Xorg (2210)"] and sample.others == {}
    jtop.close()
    assert jetson.closed


def test_others_on_the_gpu_are_named_without_a_share() -> None:
    others = JtopReader(ReplayedJetson("orin_nx.json"), pid=99).read().others
    assert list(others) == ["python3 (4711)"] and math.isnan(others["python3 (4711)"])


def test_where_jetson_stats_asked_nvml_the_clock_is_in_megahertz() -> None:
    jetson = ReplayedJetson("orin_nx.json")
    jetson.looks[0]["gpu"] = {
        "Thor": {"type": "integrated", "status": {"load": 1.0}, "freq": {"governor": "nvml", "cur": 1575}}
    }
    assert JtopReader(jetson).read().values["gpu_clock_mhz"] == 1575


def test_a_sensor_that_is_off_has_no_reading() -> None:
    jetson = ReplayedJetson("orin_nx.json")
    jetson.looks[0]["temperature"]["gpu"] = {"temp": -256, "online": False}
    assert "gpu_temperature_c" not in JtopReader(jetson).read().values


def test_a_service_that_stopped_is_said() -> None:
    jetson = ReplayedJetson("orin_nx.json")
    jtop = JtopReader(jetson)
    jetson.alive = False
    with pytest.raises(SensorError, match="stopped answering"):
        jtop.read()


def test_without_jetson_stats_the_remedy_is_told() -> None:
    with pytest.raises(SensorError, match="sudo pip3 install -U jetson-stats"):
        JtopReader()
