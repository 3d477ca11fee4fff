"""Which sensors should be there for a measurement, and opening them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gensoup.bench.sensors import Reader, SensorError
from gensoup.bench.sensors.cpu import CpuReader
from gensoup.bench.sensors.jetson import JtopReader
from gensoup.bench.sensors.linux import ROOT, is_jetson
from gensoup.bench.sensors.nvidia import NvmlReader
from gensoup.runtime.engines.catalogue import ON_CPU

# Of each sensor, the series without which it counts as unreadable.
REQUIRED = {kind.name: kind.required for kind in (CpuReader, NvmlReader, JtopReader)}


def needed_sensors(engine: str, jetson: bool) -> tuple[str, ...]:
    """Names of the readers without which a measurement of this engine says nothing."""
    if jetson:
        return "cpu", "jtop"
    return ("cpu",) if engine in ON_CPU else ("cpu", "nvml")


def open_readers(engine: str, root: Path = ROOT) -> tuple[list[Reader], dict[str, str], bool]:
    """The readers of this machine, why others that should be there are not (by name), and whether it is a Jetson."""
    jetson = is_jetson(root)
    wanted = list(needed_sensors(engine, jetson))
    if not jetson and "nvml" not in wanted and (root / "proc/driver/nvidia/version").exists():
        wanted.append("nvml")  # told as well, since it shares heat and supply with the processor
    makers: dict[str, Callable[[], Reader]] = {
        "cpu": lambda: CpuReader(root=root),
        "jtop": JtopReader,
        "nvml": lambda: NvmlReader(bus_id=computing_gpu(), root=root),
    }
    readers: list[Reader] = []
    missing: dict[str, str] = {}
    for name in wanted:
        try:
            readers.append(makers[name]())
        except SensorError as error:
            missing[name] = str(error)
    return readers, missing, jetson


def computing_gpu() -> str | None:
    """The PCI address of CUDA's device 0, the one that every engine takes; None without cuda-bindings or a driver."""
    try:
        from cuda.bindings import runtime

        status, address = runtime.cudaDeviceGetPCIBusId(32, 0)
    except (ImportError, RuntimeError):
        return None
    if status != runtime.cudaError_t.cudaSuccess:
        return None
    return bytes(address).partition(b"\0")[0].decode()
