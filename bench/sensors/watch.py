"""The gate's view of the sensors: :class:`gensoup.bench.gate.DeviceWatch`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gensoup.bench.finding import Finding
from gensoup.bench.sensors.findings import findings
from gensoup.bench.sensors.recorder import Recorder, record


class SensorWatch:
    """Records the device while one engine is measured; what it found stands in the engine's verdict."""

    def __init__(self, engine: str, make: Callable[[str], Recorder] = record) -> None:
        """engine: its name. make: opens the sensors, which may take a second."""
        self._engine = engine
        self._recorder = make(engine)

    def start(self) -> None:
        """See :class:`gensoup.bench.sensors.recorder.Recorder`, as for all of these."""
        self._recorder.start()

    def stop(self) -> None:
        self._recorder.stop()

    def findings(self) -> Sequence[Finding]:
        """What the log says so far; looks that are still to come are not missed."""
        return findings(self._recorder.log(), self._engine)

    def log(self) -> Mapping[str, Any]:
        """Plain values for JSON: :meth:`gensoup.bench.sensors.log.DeviceLog.to_dict`."""
        return self._recorder.log().to_dict()
