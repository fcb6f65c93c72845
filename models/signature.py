"""`signature.json`: what a trainer has to know of the graphs of one size."""

import hashlib
import json
import math
from importlib.metadata import version

from denoiser import parameters
from graph import OPSET, shapes_of, with_inputs
from programs import Layout
from training import SCALARS, trainable

FLOPS_RULE = "2·m·k·n of every MatMul in the graph, by its shapes; nothing else is counted"


def count(tensors):
    """Numbers in some Parameters."""
    return sum(math.prod(p.shape) for p in tensors)


def flops(program, model):
    """Of the matrix products of a graph; a symbolic axis counts as one."""
    shapes, total = shapes_of(with_inputs(model, program)), 0
    for node in model.graph.node:
        if node.op_type == "MatMul":
            inner = shapes[node.input[0]][-1]
            outer = [n if isinstance(n, int) else 1 for n in shapes[node.output[0]]]
            total += 2 * inner * math.prod(outer)
    return total


def describe(size, graphs):
    """-> the signature as a dictionary. graphs: [(Program, ModelProto, its bytes)]."""
    layout, made = Layout(size), {program.name: (program, model) for program, model, _ in graphs}
    result = {
        "name": size.name,
        "clip": {"frames": size.frames, "height": size.height, "width": size.width, "colors": 3},
        "batch": size.batch,
        "condition": size.condition,
        "architecture": _architecture(size),
        "parameter_count": count(parameters(size)),
        "trained_count": count(trainable(size)),
        "flops": {
            "forward_per_clip": flops(*made["forward"]),
            "train_step": flops(*made["train_step"]),
            "counted": FLOPS_RULE,
        },
        "opset": OPSET,
        "made_with": {name: version(name) for name in ("jax", "jax2onnx", "onnx", "onnxruntime")},
        "scalars": list(SCALARS),
        "trained_prefix": layout.prefix,
        "parameters": [_parameter(p) for p in parameters(size)],
    }
    if size.lora_rank:
        result["lora"] = {
            "rank": size.lora_rank,
            "scale": size.lora_scale,
            "rule": "W + scale · (A @ B), for each block (first axis)",
            "parameters": [_parameter(p) for p in trainable(size)],
        }
    result["graphs"] = {program.name: _graph(program, *rest) for program, *rest in graphs}
    return result


def _architecture(size):
    return {
        "width": size.channels,
        "depth": size.depth,
        "heads": size.heads,
        "patch": list(size.patch),
        "tokens": [size.times, size.places],
        "mlp_ratio": size.mlp_ratio,
        "time_features": size.time_features,
        "attention": "blocks 0, 2, … over the places of a moment, blocks 1, 3, … over the moments of a place",
    }


def _parameter(parameter):
    std, fill = parameter.std, parameter.fill
    kind = {"kind": "normal", "std": std} if std is not None else {"kind": "ones" if fill else "zeros"}
    return {"name": parameter.name, "shape": list(parameter.shape), "decay": parameter.decay, "init": kind}


def _graph(program, model, data):
    batch = "B" if program.weights else None

    def tensors(shapes):
        return [
            {"name": name, "shape": [batch or shape[0], *shape[1:]], "dtype": "f32"}
            for name, shape in shapes.items()
            if name not in program.weights
        ]

    return {
        "file": f"{program.name}.onnx",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "nodes": len(model.graph.node),
        "inputs": tensors(program.inputs),
        "outputs": tensors(program.outputs),
    }


def text(value, indent=""):
    """JSON with one line for every tensor."""
    inner = indent + " "
    if isinstance(value, dict) and any(isinstance(v, dict | list) for v in value.values()) and "shape" not in value:
        rows = [f"{inner}{json.dumps(k)}: {text(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        return "[\n" + ",\n".join(inner + text(v, inner) for v in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)
