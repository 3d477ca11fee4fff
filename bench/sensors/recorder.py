"""Asks the sensors before a measurement, once a second during it, and after it."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from gensoup.bench.sensors import Reader, Sample, SensorError
from gensoup.bench.sensors.choice import open_readers
from gensoup.bench.sensors.linux import ROOT
from gensoup.bench.sensors.log import DeviceLog, Phase
from gensoup.bench.sensors.processes import Processes, busiest, process_times
from gensoup.runtime.control_groups import quota_stops

INTERVAL_S = 1.0
PATIENCE_S = 20.0


class Recorder:
    """Around the paced frames and nothing else::

    with record("tensorrt") as recorder:
        trace = run_paced(…)
    log = recorder.log()

    or with :meth:`start` and :meth:`stop`; the log can be read before the end too, and knows then what was read so far.

    Looking takes a thread of this process. It has the same priority as the others on purpose: one that is put behind
    them could be held up while it has the interpreter's lock, and the frames with it.
    """

    def __init__(
        self,
        readers: Sequence[Reader],
        missing: Mapping[str, str] | None = None,
        jetson: bool = False,
        interval_s: float = INTERVAL_S,
        root: Path = ROOT,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Takes over open readers and closes them at its end; :func:`record` opens them.

        patience_s: for how long the end waits for a look that is under way.
        """
        self._readers, self._missing, self._jetson = tuple(readers), dict(missing or {}), jetson
        self._interval_s, self._root, self._patience_s = interval_s, root, patience_s
        self._asked = ""  # the reader that was asked last
        self._at: list[float] = []
        self._phases: list[Phase] = []
        self._samples: list[dict[str, Sample]] = []
        self._wall_ms: list[float] = []
        self._cpu_ms: list[float] = []
        self._errors: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gensoup-sensors", daemon=True)
        self._facts: list[dict[str, dict[str, Any]]] = []
        self._stops: list[int] = []
        self._processes: list[Processes] = []
        self._moments: list[float] = []

    def __enter__(self) -> Recorder:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Look at the resting device, a second or two where its sensors are slow, then once a second."""
        self._rest()
        self._take_stock()
        self._look("before")
        self._origin = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """End that, look at the resting device again and close the readers. One that hangs is left to itself."""
        self._stop.set()
        self._thread.join(self._patience_s)
        if self._thread.is_alive():  # a driver that has lost its device may never answer
            self._errors.setdefault(self._asked, f"gave no answer for {self._patience_s:g} s")
            self._facts.append({**self._facts[0], self._asked: {}})
            return
        try:
            self._take_stock()
            self._rest()
            self._look("after")
        finally:
            for reader in self._readers:
                with suppress(Exception):
                    reader.close()

    def log(self) -> DeviceLog:
        """What was read so far."""
        looks = len(self._at)  # the last of what a look appends to
        phases, read = self._phases[:looks], self._samples[:looks]
        at = [max(0.0, moment - self._origin) for moment in self._at[:looks]]
        merged = [_merged(samples) for samples in read]
        names = sorted({name for values in merged for name in values})
        slowed: dict[str, list[float]] = {}
        for moment, phase, samples in zip(at, phases, read, strict=True):
            for reader, sample in samples.items():
                for why in sample.slowed_by if phase == "during" else ():
                    slowed.setdefault(f"{reader}: {why}", []).append(round(moment, 2))
        during = [samples for phase, samples in zip(phases, read, strict=True) if phase == "during"]
        return DeviceLog(
            origin_s=self._origin,
            interval_s=self._interval_s,
            sensors=tuple(reader.name for reader in self._readers),
            jetson=self._jetson,
            at_s=tuple(round(moment, 3) for moment in at),
            phase=tuple(phases),
            series={name: tuple(values.get(name) for values in merged) for name in names},
            missing=self._missing,
            errors=dict(self._errors),
            facts_before=self._facts[0],
            facts_after=self._facts[-1],
            slowed_by={why: tuple(moments) for why, moments in sorted(slowed.items())},
            others=_mean_shares([sample.others for samples in during for sample in samples.values()], len(during)),
            display=_mean_shares([sample.display for samples in during for sample in samples.values()], len(during)),
            processes=self._busiest(),
            quota_stops=self._stops[-1] - self._stops[0],
            cost_ms=self._cost(),
        )

    def _rest(self) -> None:
        time.sleep(max((reader.settle_s for reader in self._readers), default=0.0))

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._look("during")

    def _look(self, phase: Phase) -> None:
        started, spent = time.monotonic(), time.thread_time()
        samples = {}
        for reader in self._readers:
            self._asked = reader.name
            try:
                samples[reader.name] = reader.read()
            except SensorError as error:
                self._errors[reader.name] = str(error)
            except Exception as error:  # a library's defect must not end the measurement, and is told
                self._errors[reader.name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        self._samples.append(samples)
        self._phases.append(phase)
        self._at.append(started)
        if phase == "during":
            self._wall_ms.append((time.monotonic() - started) * 1e3)
            self._cpu_ms.append((time.thread_time() - spent) * 1e3)

    def _take_stock(self) -> None:
        """What takes longer and is told before and after alone."""
        self._facts.append({reader.name: self._facts_of(reader) for reader in self._readers})
        self._stops.append(quota_stops(self._root))
        with suppress(ImportError):
            import psutil

            self._processes.append(process_times(psutil))
            self._moments.append(time.monotonic())

    def _facts_of(self, reader: Reader) -> dict[str, Any]:
        try:
            return reader.facts()
        except Exception as error:
            self._errors[reader.name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
            return {}

    def _busiest(self) -> dict[str, float]:
        if len(self._processes) < 2:
            return {}
        return busiest(self._processes[0], self._processes[-1], self._moments[-1] - self._moments[0])

    def _cost(self) -> dict[str, float]:
        if not self._wall_ms:
            return {}
        costs = {
            "wall_p50": statistics.median(self._wall_ms),
            "wall_max": max(self._wall_ms),
            "cpu_mean": statistics.mean(self._cpu_ms),
        }
        return {name: round(value, 3) for name, value in costs.items()}


def record(engine: str, interval_s: float = INTERVAL_S, root: Path = ROOT) -> Recorder:
    """A recorder for a measurement of this engine, by its name; sensors that cannot be opened are noted in its log."""
    readers, missing, jetson = open_readers(engine, root)
    return Recorder(readers, missing, jetson, interval_s, root)


def _merged(samples: Mapping[str, Sample]) -> dict[str, float]:
    """All readers' values in one; where two know the same, the one that was opened later knows the board better."""
    return {name: value for sample in samples.values() for name, value in sample.values.items()}


def _mean_shares(shares: Sequence[Mapping[str, float]], looks: int) -> dict[str, float]:
    """Mean over all looks, absent ones counting as nothing; NaN where it once could not be read."""
    totals: dict[str, float] = {}
    for told in shares:
        for name, share in told.items():
            totals[name] = totals.get(name, 0.0) + share
    return {name: total if math.isnan(total) else round(total / looks, 2) for name, total in sorted(totals.items())}
