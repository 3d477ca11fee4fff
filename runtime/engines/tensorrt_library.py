"""TensorRT 10.3 to 11 and TensorRT for RTX: two packages with one interface, taken by names, never by enum values."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from typing import Any, Literal, get_args

from gensoup.runtime.engines import Layer, first_line
from gensoup.runtime.errors import EngineError, MissingDependencyError

Library = Literal["tensorrt", "tensorrt-rtx"]
LIBRARIES: tuple[str, ...] = get_args(Library)

_OLDEST, _BEYOND = (10, 3), (12, 0)
_WORDS = {
    "fp32": ("fp32", "float"),
    "fp16": ("fp16", "half"),
    "bf16": ("bf16", "bfloat16"),
    "int8": ("int8",),
    "fp8": ("fp8",),
    "uint8": ("uint8",),
    "int32": ("int32",),
    "int64": ("int64",),
}


def module_name(library: Library) -> str:
    """What Python calls it."""
    return library.replace("-", "_")


def load_tensorrt(library: Library) -> Any:
    """The package of a library. It imports and builds ahead of time without a GPU (for RTX), but runs nothing then.

    Raises MissingDependencyError, or EngineError for a package that cannot be loaded or is too old or too new.
    """
    try:
        module = importlib.import_module(module_name(library))
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module_name(library):
            raise MissingDependencyError(module_name(library), library) from error
        raise EngineError(f"{library} cannot be loaded ({first_line(error)})") from error
    except Exception as error:  # its loader raises what ctypes does, FileNotFoundError and RuntimeError
        raise EngineError(f"{library} cannot be loaded ({first_line(error)})") from error
    major_minor = tuple(int(part) for part in module.__version__.split(".")[:2])
    if library == "tensorrt" and not _OLDEST <= major_minor < _BEYOND:
        raise EngineError(f"tensorrt {module.__version__}: 10.3 to 11 are known; pip install 'gensoup[tensorrt]'")
    return module


def error_log(module: Any) -> Any:
    """A logger for TensorRT that prints nothing and keeps the errors in ``.errors``; its exceptions carry no reason."""
    loud = {module.ILogger.ERROR, module.ILogger.INTERNAL_ERROR}

    class ErrorLog(module.ILogger):
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in loud:
                self.errors.append(" ".join(message.split()))

        def reason(self) -> str:
            return self.errors[0] if self.errors else "no reason given"

    return ErrorLog()


def engine_layers(module: Any, engine: Any) -> list[Layer]:
    """The layers of a built engine as its inspector tells them; built with detailed verbosity."""
    inspector = engine.create_engine_inspector()
    return parse_layers(inspector.get_engine_information(module.LayerInformationFormat.JSON))


def parse_layers(text: str) -> list[Layer]:
    """The inspector's JSON of TensorRT 10 ("Format/Datatype") and 11 ("DataType") → layers. Raises EngineError."""
    try:
        entries = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"tensorrt's inspector gave no layers ({first_line(error)})") from error
    layers = []
    for entry in entries:
        if isinstance(entry, str):  # built for names only
            layers.append(Layer(entry, "unknown", "unknown"))
            continue
        inputs = entry.get("Inputs") or entry.get("Outputs") or [{}]
        told = inputs[0] if isinstance(inputs[0], dict) else {}
        word = str(
            told.get("DataType") or told.get("Datatype") or told.get("Format/Datatype") or told.get("Format", "")
        )
        layers.append(Layer(str(entry.get("Name", "")), str(entry.get("LayerType", "unknown")), _precision(word)))
    return layers


def network_layers(module: Any, network: Any) -> list[Layer]:
    """The layers of a parsed, strongly typed network: there each tensor's type is fixed before anything is built.

    A layer that reads what was just dequantised is int8: the builder fuses the pair.
    """
    made_by = {}
    layers: list[Layer] = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        made_by.update({layer.get_output(number).name: layer.type for number in range(layer.num_outputs)})
        first = layer.get_input(0) if layer.num_inputs else None
        precision = "none" if first is None else _precision(first.dtype.name)
        if first is not None and made_by.get(first.name) == module.LayerType.DEQUANTIZE:
            precision = "int8"
        layers.append(Layer(layer.name, layer.type.name.lower(), precision))
    return layers


def _precision(word: str) -> str:
    """From "FLOAT", "Half", "Row major linear FP16 format (kLINEAR)" and the like."""
    parts: Sequence[str] = word.lower().replace("(", " ").replace(",", " ").split()
    return next((name for name, words in _WORDS.items() if any(part in words for part in parts)), word or "unknown")
