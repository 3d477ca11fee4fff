"""fp16 in the graph, and a graph for any CPU that rounds as fp16 does.

ONNX Runtime's own converter does the work (the one of onnxconverter-common is no longer looked after). On a CPU ONNX
Runtime has no fp16 kernels: it computes in fp32 and takes the casts between its own nodes out again, so a value of
1e5 passes there that is infinite on a GPU. Parity measured that way would prove nothing; :func:`rounding` keeps the
casts in the graph, where they must be obeyed.
"""

from __future__ import annotations

import logging

import onnx
import onnx_ir as ir

from gensoup.export.layers import WEIGHTED
from gensoup.export.onnx_graph import finish, makers, parse
from gensoup.runtime.engines import PROBABILITIES
from gensoup.runtime.errors import GenSoupError

FP16_MAX = 65504.0


def to_fp16(model: bytes) -> bytes:
    """``model`` (fp32 ONNX bytes) with its layers in fp16, from the first that has weights to the last.

    What stands before them, the normalisation of grey levels, and behind them, temperature and softmax, stays in fp32,
    and so do inputs and outputs: fp16 has 11 bits, and probabilities near 1 are told apart by the last of them. What
    saliency alone is made by stays in fp32 too.
    Raises GenSoupError when no layer became fp16.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    proto = onnx.load_model_from_string(model)
    path = makers(parse(model).graph, PROBABILITIES)
    weighted = [place for place, node in enumerate(path) if node.op_type in WEIGHTED]
    if not weighted:
        raise GenSoupError("fp16: the graph has no layer with weights")
    halved = {node.name for node in path[weighted[0] : weighted[-1] + 1]}
    kept = [node.name for node in proto.graph.node if node.name not in halved]
    logger = logging.getLogger("onnxruntime.transformers.float16")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        converted = convert_float_to_float16(proto, keep_io_types=True, node_block_list=kept, op_block_list=[])
    finally:
        logger.setLevel(level)
    result = parse(converted.SerializeToString())
    _settle_casts(result)
    return finish(result)


def rounding(model: bytes) -> bytes:
    """The fp32 graph that rounds every weight and every result where ``model`` (fp16 ONNX bytes) holds fp16.

    Sums inside a layer are in fp32, as tensor cores do them. Overflow becomes infinity and underflow zero, as there.
    """
    result = parse(model)
    graph = result.graph
    for initializer in graph.initializers.values():
        if initializer.dtype == ir.DataType.FLOAT16:
            assert initializer.const_value is not None
            wide = initializer.const_value.numpy().astype("float32")
            initializer.const_value = ir.tensor(wide, name=initializer.name)
            initializer.dtype = ir.DataType.FLOAT
    for value in [value for node in graph for value in node.outputs if value.dtype == ir.DataType.FLOAT16]:
        producer = value.producer()
        assert producer is not None
        value.dtype = ir.DataType.FLOAT
        if producer.op_type == "Cast":
            producer.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT))
        _round(graph, producer, value)
    return finish(result)


def _round(graph: ir.Graph, producer: ir.Node, value: ir.Value) -> None:
    """Cast ``value`` to fp16 and back before anyone uses it."""
    uses = [(use.node, use.idx) for use in value.uses()]
    down = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT16)})
    up = ir.node("Cast", [down.outputs[0]], {"to": int(ir.DataType.FLOAT)})
    for node, place in uses:
        node.replace_input_with(place, up.outputs[0])
    graph.insert_after(producer, [down, up])


def _settle_casts(model: ir.Model) -> None:
    """Undo the converter's detours: between nodes that stay in fp32 it casts to fp16 and back, which rounds."""
    for node in [node for node in model.graph if _casts_to(node, ir.DataType.FLOAT)]:
        (result,), source = node.outputs, node.inputs[0]
        assert source is not None
        down = source.producer()
        if down is not None and _casts_to(down, ir.DataType.FLOAT16):
            source = down.inputs[0]
            assert source is not None
        if source.dtype != ir.DataType.FLOAT:
            continue
        name, is_output = result.name, result.is_graph_output()
        result.replace_all_uses_with(source, replace_graph_outputs=True)
        if is_output:
            result.name, source.name = f"{name}_cast", name


def _casts_to(node: ir.Node, kind: ir.DataType) -> bool:
    return node.op_type == "Cast" and node.attributes["to"].as_int() == int(kind)
