"""A probe kit: untrained graphs, architecture × size × precision, and ``kit.json`` that says what they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gensoup.bench.device_profile import profile_key
from gensoup.runtime.errors import DataError
from gensoup.runtime.files import write_atomic
from gensoup.runtime.preprocess import Preprocess

KIT_FILE = "kit.json"
SCHEMA_VERSION = 1
MAX_GRAPH_BYTES = 1 << 30


@dataclass(frozen=True)
class KitGraph:
    """One graph of the kit.

    file: its name in the kit's folder. macs: multiply-adds of a frame. built: layers with weights of each precision.
    """

    file: str
    sha256: str
    architecture: str
    size: int
    precision: str
    macs: int
    parameters: int
    preprocess: Preprocess
    built: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its key in a device profile."""
        return profile_key(self.architecture, self.size, self.precision)


@dataclass(frozen=True)
class ProbeKit:
    """What ``kit.json`` says. complete: False while ``gensoup export --probe-kit`` has not finished.

    made_by: versions of what made the graphs.
    """

    path: Path
    classes: int
    graphs: tuple[KitGraph, ...]
    complete: bool
    made_by: Mapping[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """What the kit is known by: of its graphs, what is in them included, in any order."""
        graphs = sorted(json.dumps(_told(graph), sort_keys=True) for graph in self.graphs)
        return hashlib.sha256(json.dumps([self.classes, graphs]).encode()).hexdigest()

    def check(self) -> None:
        """Read every graph. Raises DataError for the first that is missing or damaged."""
        for graph in self.graphs:
            self.read(graph)

    def save(self) -> None:
        """Write ``kit.json``, atomically."""
        graphs = [_told(graph) for graph in self.graphs]
        values = {
            "schema_version": SCHEMA_VERSION,
            "complete": self.complete,
            "classes": self.classes,
            "made_by": dict(self.made_by),
            "graphs": graphs,
        }
        write_atomic(self.path / KIT_FILE, json.dumps(values, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> ProbeKit:
        """Read ``kit.json`` of a kit's folder; the graphs themselves are read one by one, by :meth:`read`.

        Raises DataError, one line with the file and the remedy, when it is missing, malformed, newer or not finished.
        """
        kit = cls.begun(path)
        if not kit.complete:
            raise DataError(f"{path}: the kit is not finished; run the same gensoup export --probe-kit again to go on")
        if not kit.graphs:
            raise DataError(f"{path / KIT_FILE}: lists no graphs; make the kit again")
        return kit

    @classmethod
    def begun(cls, path: Path) -> ProbeKit:
        """As :meth:`load`, for a kit that need not be finished."""
        file = path / KIT_FILE
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(
                f"{file}: cannot be read ({error.strerror}); give the folder that gensoup export --probe-kit wrote"
            ) from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file}: not a probe kit (no JSON); make the kit again") from error
        try:
            version = int(values["schema_version"])
            if version > SCHEMA_VERSION:
                raise DataError(
                    f"{file}: schema {version} is newer than this gensoup reads ({SCHEMA_VERSION}): update it"
                )
            graphs = tuple(_graph(entry) for entry in values["graphs"])
            if len({graph.key for graph in graphs}) != len(graphs):
                raise ValueError("a graph is listed twice")
            made_by = {str(name): str(value) for name, value in values["made_by"].items()}
            return cls(path, int(values["classes"]), graphs, bool(values["complete"]), made_by)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            fault = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{file}: malformed probe kit ({fault}); make the kit again") from error

    def read(self, graph: KitGraph) -> bytes:
        """A graph's ONNX bytes, checked against its hash. Raises DataError when the file is missing or another."""
        file = self.path / graph.file
        try:
            if file.stat().st_size > MAX_GRAPH_BYTES:
                raise DataError(f"{file}: larger than 1 GiB, no graph of a probe kit; make the kit again")
            content = file.read_bytes()
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror}); copy the whole kit again") from error
        if hashlib.sha256(content).hexdigest() != graph.sha256:
            raise DataError(f"{file}: damaged (its SHA-256 does not match {KIT_FILE}); copy the whole kit again")
        return content


def _told(graph: KitGraph) -> dict[str, Any]:
    """A graph as ``kit.json`` has it."""
    return {**asdict(graph), "preprocess": graph.preprocess.to_dict()}


def _graph(entry: Mapping[str, Any]) -> KitGraph:
    graph = KitGraph(
        file=str(entry["file"]),
        sha256=str(entry["sha256"]),
        architecture=str(entry["architecture"]),
        size=int(entry["size"]),
        precision=str(entry["precision"]),
        macs=int(entry["macs"]),
        parameters=int(entry["parameters"]),
        preprocess=Preprocess.from_dict(entry["preprocess"]),
        built={str(name): int(count) for name, count in entry["built"].items()},
    )
    if Path(graph.file).name != graph.file or "\\" in graph.file or graph.file in ("", ".", ".."):
        raise ValueError(f"file '{graph.file}' is not a plain name")
    if graph.preprocess.size != graph.size:
        raise ValueError(f"{graph.file}: size {graph.size}, but preprocessed to {graph.preprocess.size}")
    return graph
