"""All checks of ``gensoup doctor`` on this machine, one after the other."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from gensoup.bench.doctor import Line, Mark
from gensoup.bench.doctor.capture import camera_lines, gstreamer_line
from gensoup.bench.doctor.engines import engine_lines, small_network, try_engines
from gensoup.bench.doctor.machine import (
    clock_lines,
    cores_line,
    governor_line,
    power_mode_lines,
    sensor_lines,
    supply_lines,
)
from gensoup.bench.doctor.packages import (
    conflict_lines,
    driver_lines,
    extra_line,
    extras,
    system_tensorrt_lines,
    why_not_imported,
)
from gensoup.bench.doctor.plausible import SECTION as PLAUSIBLE
from gensoup.bench.doctor.plausible import Plausibility, measure, plausible_line, small_classifier
from gensoup.bench.sensors import SensorError
from gensoup.bench.sensors.choice import open_readers
from gensoup.bench.sensors.linux import (
    ROOT,
    energy_preference,
    frequency_driver,
    governor,
    is_jetson,
)
from gensoup.runtime.classifier import Classifier
from gensoup.runtime.control_groups import quota_cores
from gensoup.runtime.device import (
    gpus,
    installed_version,
    nvidia_release,
    power_model,
    power_models,
    usable_cores,
)

SCHEMA_VERSION = 1
Step = Callable[[str], None]


@dataclass(frozen=True)
class Examination:
    """What was found. plausibility: None where no engine runs. seconds: what it took."""

    lines: tuple[Line, ...]
    plausibility: Plausibility | None
    seconds: float

    @property
    def healthy(self) -> bool:
        """Nothing red, and 64 frames a second plausible."""
        return self.plausibility is not None and not any(line.mark is Mark.RED for line in self.lines)

    def to_dict(self) -> dict[str, Any]:
        """The JSON of ``gensoup doctor --json``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "healthy": self.healthy,
            "plausibility": None if self.plausibility is None else self.plausibility.to_dict(),
            "lines": [line.to_dict() for line in self.lines],
            "seconds": round(self.seconds, 1),
        }


def examine(bundle: Path | None = None, step: Step | None = None, root: Path = ROOT) -> Examination:
    """Look at everything. bundle: is timed in place of the small network. step: told what is looked at.

    Raises BundleError for a bundle that cannot be opened.
    """
    started = time.monotonic()
    tell = step or (lambda what: None)
    classifier = None
    if bundle is not None:
        tell("bundle")
        classifier = Classifier.load(bundle)
    tell("packages")
    lines = [*_packages(root)]
    tell("machine")
    jetson = is_jetson(root)
    gpu = bool(gpus()) and not jetson
    lines += _machine(root, gpu)
    tell("engines")
    model = small_network()
    trials = try_engines(model)
    lines += engine_lines(trials, gpu or jetson)
    tell("cameras")
    lines += _capture(root)
    tell(PLAUSIBLE)
    found = None
    timed = {trial.engine: trial.milliseconds for trial in trials if trial.milliseconds is not None}
    if bundle is not None and classifier is not None:
        found = measure(classifier, bundle.name, classifier.engine.name)
    elif timed:
        fastest = min(timed, key=lambda name: timed[name])
        found = measure(small_classifier(model, fastest), "the small network", fastest)
    if found is None:
        lines.append(Line(PLAUSIBLE, "unknown", Mark.RED, "no engine runs here", "pip install 'gensoup[cpu]'"))
    else:
        lines.append(plausible_line(found))
    return Examination(tuple(lines), found, time.monotonic() - started)


def _packages(root: Path) -> list[Line]:
    from importlib.util import find_spec

    try:
        wanted = extras(metadata.requires("gensoup") or ())
    except metadata.PackageNotFoundError:  # run from its folder
        wanted = {}
    for elsewhere in ("tensorrt", "tensorrt-rtx") if is_jetson(root) else ("jetson",):
        wanted.pop(elsewhere, None)
    with ThreadPoolExecutor(max(1, min(4, usable_cores()))) as pool:
        made = pool.map(lambda name: extra_line(name, wanted[name], installed_version, why_not_imported), wanted)
        lines = list(made)
    own = sys.version_info[:2]
    lines += conflict_lines(installed_version)
    lines += system_tensorrt_lines(root, own, find_spec("tensorrt") is not None, is_jetson(root))
    versions = {one.name.lower(): one.version for one in metadata.distributions() if one.name}
    return lines + driver_lines(nvidia_release(root / "proc/driver/nvidia"), versions)


def _machine(root: Path, gpu: bool) -> list[Line]:
    readers, missing, _ = open_readers("tensorrt" if gpu else "onnxruntime-cpu", root)
    samples = []
    facts: dict[str, Any] = {}
    time.sleep(0.2)  # loads are shares of the time since the readers were opened
    for reader in readers:
        with suppress(SensorError):
            samples.append(reader.read())
        facts |= reader.facts()
        reader.close()
    return [
        cores_line(os.cpu_count() or 1, usable_cores(), quota_cores(root)),
        governor_line(governor(root), frequency_driver(root), energy_preference(root)),
        *power_mode_lines(power_model(root), power_models(root)),
        *supply_lines(facts.get("on_battery")),
        *sensor_lines([reader.name for reader in readers], missing),
        *clock_lines(samples),
    ]


def _capture(root: Path) -> list[Line]:
    import cv2

    lines = camera_lines(root / "dev") if sys.platform == "linux" else []
    return [*lines, gstreamer_line(cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER))]
