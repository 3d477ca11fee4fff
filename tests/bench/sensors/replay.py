"""Libraries that answer from recorded readings; NVML's types, constants and errors are the real ones."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml

RECORDED = Path(__file__).parent / "recorded"
_STRUCTURES = {
    "nvmlDeviceGetUtilizationRates": pynvml.c_nvmlUtilization_t,
    "nvmlDeviceGetMemoryInfo": pynvml.c_nvmlMemory_t,
    "nvmlDeviceGetProcessUtilization": pynvml.c_nvmlProcessUtilizationSample_t,
}


class ReplayedNvml:
    """``pynvml`` whose calls answer from a file; ``look`` says which of the readings. ``changes``: other answers."""

    def __init__(self, file: str, **changes: Any) -> None:
        self.answers: dict[str, Any] = {**json.loads((RECORDED / file).read_text()), **changes}
        self.look = 0
        self.open = False

    def __getattr__(self, name: str) -> Any:
        if not name.startswith(("nvmlDeviceGet", "nvmlSystemGet")):
            return getattr(pynvml, name)
        if name not in self.answers:
            if name.startswith("nvmlDeviceGetHandle"):
                return lambda which: which

            def absent(*arguments: Any) -> Any:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)

            return absent
        return lambda *arguments: self._answer(name, arguments)

    def nvmlInit(self) -> None:
        if "nvmlInit" in self.answers:
            self._answer("nvmlInit", ())
        self.open = True

    def nvmlShutdown(self) -> None:
        self.open = False

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> Any:
        told = self.answers[name]
        if name in ("nvmlDeviceGetClockInfo",):
            told = told[str(arguments[1])]
        processes = name.endswith("RunningProcesses")
        if isinstance(told, list) and (not processes or (told and isinstance(told[0], list))):
            told = told[min(self.look, len(told) - 1)]
        if isinstance(told, dict) and "error" in told:
            raise pynvml.NVMLError(told["error"])
        if processes:
            return [SimpleNamespace(**one) for one in told]
        if name in _STRUCTURES:
            many = told if isinstance(told, list) else [told]
            made = [_STRUCTURES[name](**one) for one in many]
            return made if isinstance(told, list) else made[0]
        return told


class ReplayedJetson:
    """``jtop.jtop()``, started, that answers from a file; ``look`` says which of the readings."""

    def __init__(self, file: str) -> None:
        self.looks = json.loads((RECORDED / file).read_text())
        self.look = 0
        self.alive = True
        self.closed = False

    def __getattr__(self, name: str) -> Any:
        return self.looks[min(self.look, len(self.looks) - 1)][name]

    def ok(self, spin: bool = False) -> bool:
        assert spin  # the other way waits for a second
        return self.alive

    def close(self) -> None:
        self.closed = True
