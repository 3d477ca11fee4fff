"""One classifier for GenSoup and for Ultralytics: the graph of either made into what the other takes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gensoup.runtime.bundle import Golden, read_bundle, write_bundle
from gensoup.runtime.engines import load_engine
from gensoup.runtime.manifest import Manifest
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.sources.synthetic import LABELS, SyntheticEndoscope


def graph_for_ultralytics(bundle: Path, out: Path) -> Path:
    """The bundle's fp32 graph behind Ultralytics' input: ``images`` float32 RGB [1, 3, H, W] in 0…1.

    What is put before it (a product, two changes of layout) is undone by the graph's own first nodes; ONNX Runtime
    cancels the layouts out.
    """
    content = read_bundle(bundle)
    model = onnx.load_from_string(content.model)
    size = content.manifest.preprocess.size
    before = [
        helper.make_node("Mul", ["images", "peer_white"], ["peer_grey"]),
        helper.make_node("Gather", ["peer_grey", "peer_order"], ["peer_bgr"], axis=1),
        helper.make_node("Transpose", ["peer_bgr"], ["peer_frame"], perm=[0, 2, 3, 1]),
    ]
    for node in model.graph.node:
        node.input[:] = ["peer_frame" if name == "frame" else name for name in node.input]
    constants = {"peer_white": np.array(255, np.float32), "peer_order": np.array([2, 1, 0], np.int64)}
    _put_before(
        model, before, constants, helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, size, size])
    )
    outputs = [output for output in model.graph.output if output.name == "probabilities"]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    names = dict(enumerate(content.manifest.labels))
    told = {"task": "classify", "stride": "1", "batch": "1", "channels": "3", "imgsz": repr([size, size])}
    helper.set_model_props(model, {**told, "names": repr(names)})
    out.write_bytes(model.SerializeToString())
    return out


def bundle_from_ultralytics(graph: Path, out: Path) -> Path:
    """A bundle around a classifier that Ultralytics exported: ``images`` as above in, one row of probabilities out."""
    model = onnx.load(graph)
    size = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    classes = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    before = [
        helper.make_node("Cast", ["frame"], ["our_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["our_float"], ["our_planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Gather", ["our_planes", "our_order"], ["our_rgb"], axis=1),
        helper.make_node("Div", ["our_rgb", "our_white"], [model.graph.input[0].name]),
    ]
    constants = {"our_white": np.array(255, np.float32), "our_order": np.array([2, 1, 0], np.int64)}
    _put_before(model, before, constants, helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, size, size, 3]))
    for node in model.graph.node:
        node.output[:] = ["probabilities" if name == model.graph.output[0].name else name for name in node.output]
    model.graph.output[0].name = "probabilities"
    content = model.SerializeToString()
    preprocess, engine = Preprocess(size), load_engine(content, 1)
    cameras = tuple(
        SyntheticEndoscope(number, LABELS[number], *shape).frame(0.0) for number, shape in enumerate(_SHAPES)
    )
    frames = np.stack([preprocess(camera) for camera in cameras])
    golden = Golden(cameras, frames, np.stack([engine.infer(frame) for frame in frames]))
    stated = {"member": "model.onnx", "engine": engine.name, "reference": "itself", "tolerance": 1e-3}
    manifest = Manifest(
        labels=tuple(f"class {number}" for number in range(classes)),
        preprocess=preprocess,
        architecture="yolov8n-cls, random weights",
        macs=0,
        parameters=0,
        precisions={"fp32": stated},
        provenance={"model": hashlib.sha256(content).hexdigest()},
    )
    write_bundle(out, manifest, {"fp32": content}, golden)
    return out


_SHAPES = ((1080, 1920), (487, 651))


def _put_before(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], entry: onnx.ValueInfoProto
) -> None:
    """Let a graph begin with ``nodes``, the last of which gives what was its input, and take ``entry``."""
    after = list(model.graph.node)
    del model.graph.node[:], model.graph.input[:]
    model.graph.node.extend([*nodes, *after])
    model.graph.input.append(entry)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.checker.check_model(model)
