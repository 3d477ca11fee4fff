"""What is in a bundle: members, graphs, signatures, card; read from the bundle itself, with nothing run."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gensoup.runtime.bundle import Bundle, read_bundle
from gensoup.runtime.engines import PROBABILITIES
from gensoup.runtime.engines.graph_outputs import keep_outputs
from gensoup.runtime.errors import BundleError, MissingDependencyError
from gensoup.runtime.signature import PublicKey

_CARD_LINES = 12


@dataclass(frozen=True)
class Graph:
    """One precision's graph. inputs, outputs: name → "uint8 [1, 224, 224, 3]". operators: how many of each kind.

    parameters: numbers in its weights. macs: multiply-adds of convolutions and matrix products that the probabilities
    come from, None where a shape is not static. groups: part of the network, as PyTorch calls it → precision → layers
    with weights.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    operators: Mapping[str, int]
    parameters: int
    macs: int | None
    groups: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Signed:
    """A signature found. key: the signer's short name; public_key: hex. holds: None where `cryptography` is missing."""

    key: str
    public_key: str
    holds: bool | None


@dataclass(frozen=True)
class Inspection:
    """All of it. graphs: precision → graph, or ``graphs_missing`` says why not."""

    bundle: Bundle
    signatures: tuple[Signed, ...]
    graphs: Mapping[str, Graph]
    graphs_missing: str = ""

    @property
    def card_head(self) -> str:
        """The card's first lines, its metadata left out."""
        text = self.bundle.card
        if text.startswith("---\n"):
            text = text[4:].partition("\n---\n")[2]
        return "\n".join(text.strip().splitlines()[:_CARD_LINES])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        manifest = {**asdict(self.bundle.manifest), "preprocess": self.bundle.manifest.preprocess.to_dict()}
        return {
            "bundle": str(self.bundle.path),
            "bytes": self.bundle.size,
            "sha256": self.bundle.sha256,
            "signatures": [asdict(signature) for signature in self.signatures],
            "members": {
                name: {"bytes": size, "sha256": digest} for name, (size, digest) in self.bundle.members.items()
            },
            "manifest": manifest,
            "graphs": {precision: asdict(graph) for precision, graph in self.graphs.items()},
            "graphs_missing": self.graphs_missing,
            "card": self.bundle.card,
        }


def inspect_bundle(path: Path, require_signature: Path | None = None) -> Inspection:
    """Read a bundle and describe it; its network is parsed, not run. Raises BundleError, UsageError."""
    bundle = read_bundle(path, require_signature)
    signatures = tuple(_signed(bundle, number) for number in range(len(bundle.signatures)))
    try:
        graphs, missing = {name: describe(model, path) for name, model in bundle.models.items()}, ""
    except ModuleNotFoundError as error:
        graphs, missing = {}, str(MissingDependencyError(error.name or "onnx", "train"))
    return Inspection(bundle, signatures, graphs, missing)


def describe(model: bytes, path: Path) -> Graph:
    """A graph's inputs, outputs, operators, cost and layers. Raises BundleError for what is no ONNX graph."""
    from gensoup.export.layers import layers
    from gensoup.export.onnx_graph import parse

    try:
        graph, path_of_frames = parse(model).graph, parse(keep_outputs(model, [PROBABILITIES])).graph
        groups: dict[str, Counter[str]] = defaultdict(Counter)
        for layer in layers(model):
            groups[_group(layer.name)][layer.precision] += 1
    except ModuleNotFoundError:
        raise
    except Exception as error:  # protobuf's and onnx's own kinds
        raise BundleError(f"{path}: holds a graph that cannot be read ({type(error).__name__})") from error
    return Graph(
        inputs={str(value.name): _typed(value) for value in graph.inputs},
        outputs={str(value.name): _typed(value) for value in graph.outputs},
        operators=dict(Counter(node.op_type for node in graph).most_common()),
        parameters=sum(math.prod(_shape(value) or ()) for value in graph.initializers.values() if _is_weight(value)),
        macs=_macs(path_of_frames),
        groups={name: dict(counts) for name, counts in groups.items()},
    )


def _signed(bundle: Bundle, number: int) -> Signed:
    signature = bundle.signatures[number]
    key = PublicKey(signature.key)
    try:
        holds: bool | None = key.holds(signature, bundle.sha256)
    except MissingDependencyError:
        holds = None
    return Signed(key.name, signature.key.hex(), holds)


def _group(name: str) -> str:
    """The part of the network that a layer belongs to: ``features.3.squeeze`` → ``features.3``."""
    parts = name.split(".")
    return ".".join(parts[:2]) if len(parts) > 2 else parts[0]


def _macs(graph: Any) -> int | None:
    """Multiply-adds of convolutions and matrix products: outputs times the numbers that go into each."""
    total = 0
    for node in graph:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        out, left, right = (_shape(value) for value in (node.outputs[0], node.inputs[0], node.inputs[1]))
        if out is None or left is None or right is None:
            return None
        transposed = node.op_type == "Gemm" and "transA" in node.attributes and node.attributes["transA"].as_int()
        into = math.prod(right[1:]) if node.op_type == "Conv" else left[0 if transposed else -1]
        total += math.prod(out) * into
    return total


def _shape(value: Any) -> tuple[int, ...] | None:
    if value is None or value.shape is None or not all(isinstance(side, int) for side in value.shape):
        return None
    return tuple(value.shape)


def _is_weight(value: Any) -> bool:
    """Learnt numbers: not the 64-bit integers that shapes and axes are made of."""
    return value.dtype is not None and value.dtype.name in ("FLOAT", "FLOAT16", "INT8", "UINT8")


def _typed(value: Any) -> str:
    kind = "unknown" if value.dtype is None else value.dtype.name.lower()
    return f"{kind} {list(value.shape) if value.shape is not None else '[?]'}"
