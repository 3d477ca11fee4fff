"""What a certificate takes a device to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from gensoup.runtime import identity
from gensoup.runtime.identity import device_facts, fingerprint_of


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


CPUFREQ = "sys/devices/system/cpu/cpufreq"
ORIN = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
    "var/lib/nvpmodel/status": "pmode:0002\n",
    f"{CPUFREQ}/policy0/scaling_governor": "schedutil\n",
    f"{CPUFREQ}/policy0/scaling_max_freq": "1728000\n",
    f"{CPUFREQ}/policy4/scaling_governor": "schedutil\n",
    f"{CPUFREQ}/policy4/scaling_max_freq": "1344000\n",
}
LAPTOP = {
    "sys/firmware/acpi/platform_profile": "balanced\n",
    "sys/devices/system/cpu/intel_pstate/no_turbo": "0\n",
    f"{CPUFREQ}/policy0/scaling_governor": "powersave\n",
    f"{CPUFREQ}/policy0/scaling_max_freq": "4700000\n",
}


def test_settings_of_a_jetson_and_a_laptop(tmp_path: Path) -> None:
    orin = device_facts(put(tmp_path / "orin", ORIN))
    assert orin["jetson_release"] == ORIN["etc/nv_tegra_release"].strip()
    assert orin["power_mode"] == "2 MAXN_SUPER"
    assert (orin["governor"], orin["cpu_max_mhz"], orin["cpu_boost"]) == ("schedutil", "1344/1728", None)
    laptop = device_facts(put(tmp_path / "laptop", LAPTOP))
    assert (laptop["power_mode"], laptop["governor"], laptop["cpu_boost"]) == ("balanced", "powersave", "on")
    assert laptop["cpu_max_mhz"] == "4700"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("var/lib/nvpmodel/status", "pmode:0000\n"),
        (f"{CPUFREQ}/policy4/scaling_governor", "performance\n"),
        (f"{CPUFREQ}/policy4/scaling_max_freq", "729600\n"),
        (f"{CPUFREQ}/boost", "0\n"),
        ("etc/nv_tegra_release", "# R36 (release), REVISION: 5.0\n"),
        ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
    ],
)
def test_a_setting_or_driver_that_changes_makes_another_device(tmp_path: Path, file: str, text: str) -> None:
    before = fingerprint_of(device_facts(put(tmp_path, ORIN)))
    assert fingerprint_of(device_facts(tmp_path)) == before
    put(tmp_path, {file: text})
    assert fingerprint_of(device_facts(tmp_path)) != before


def test_hardware_and_driver_make_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    told = identity.fingerprint()
    before = fingerprint_of(device_facts())
    for name, value in {"cpu": "x", "gpus": ["RTX 9"], "nvidia_driver": "1", "memory_bytes": 1 << 45}.items():
        monkeypatch.setattr(identity, "fingerprint", lambda: {**told, name: value})  # noqa: B023
        assert fingerprint_of(device_facts()) != before, name


def test_what_changes_by_itself_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    told = identity.fingerprint()
    before = fingerprint_of(device_facts())
    later = {"os": "Linux-9.9", "python": "3.99", "memory_bytes": told["memory_bytes"] - (1 << 20)}
    monkeypatch.setattr(identity, "fingerprint", lambda: {**told, **later})
    assert fingerprint_of(device_facts()) == before
