"""From a Program to a small ONNX graph: export with jax2onnx, then only rewrites that change no result.

jax2onnx writes out every broadcast and computes shapes at run time where the batch is symbolic. The rewrites fold what is
constant, let operators broadcast by themselves, and leave no arithmetic on shapes. What a graph computes is compared with
JAX after them (`compare.py`).
"""

import logging

import jax2onnx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

OPSET = 21
BROADCASTING = {"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Where"}
ALLOWED = BROADCASTING | {
    "MatMul", "Transpose", "Reshape", "Squeeze", "Split", "Concat", "Softmax", "Sigmoid", "Sqrt", "Sin", "Cos", "Neg", "Cast",
    "Greater", "ReduceSum", "ReduceMean", "ReduceL1", "ReduceSumSquare",
}  # fmt: skip
# The largest constant that folding may make, in numbers.
FOLDED = 1024


def build(program, symbolic=False):
    """Program -> checked ModelProto. symbolic: the first axis of inputs and outputs that are no weights is `B`."""
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    shapes = [
        ("B", *shape[1:]) if symbolic and name not in program.weights else tuple(shape)
        for name, shape in program.inputs.items()
    ]
    model = jax2onnx.to_onnx(
        program.call,
        shapes,
        model_name=program.name,
        opset=OPSET,
        input_names=list(program.inputs),
        output_names=list(program.outputs),
    )
    simplify(model)
    leave_open(model, program)
    check(model, program)
    return model


def simplify(model):
    """Rewrites until nothing changes, then names what is inside anew, so that equal exports are equal bytes."""
    graph = model.graph
    while any([copy_batch(graph), fold(graph), unbroadcast(model), straighten(graph), merge_equal(graph), prune(graph)]):
        pass
    rename(graph)
    del graph.value_info[:]
    del model.metadata_props[:]
    model.producer_name, model.producer_version, graph.doc_string, model.doc_string = "simdrop", "", "", ""
    for node in graph.node:
        node.name, node.doc_string = "", ""
        del node.metadata_props[:]


def constants(graph):
    """{name: array} of all initializers."""
    return {t.name: numpy_helper.to_array(t) for t in graph.initializer}


def uses(graph):
    """{tensor: nodes that read it}."""
    result = {}
    for node in graph.node:
        for name in node.input:
            result.setdefault(name, []).append(node)
    return result


def replace(graph, old, new):
    """Lets every reader of `old` read `new`."""
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new


def add_constant(graph, array, hint):
    """-> name of a new initializer."""
    name = f"{hint}_made"
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return name


def copy_batch(graph):
    """Reshape to a shape that is joined at run time from the batch of its input and constants -> [0, constants…]."""
    known, changed = constants(graph), False
    makers = {node.output[0]: node for node in graph.node}
    for node in graph.node:
        maker = makers.get(node.input[1]) if node.op_type == "Reshape" else None
        if maker is None or maker.op_type != "Concat" or maker.input[0] in known:
            continue
        if all(name in known for name in maker.input[1:]):
            rest = [known[name].reshape(-1) for name in maker.input[1:]]
            shape = np.concatenate([np.zeros(1, np.int64), *rest]).astype(np.int64)
            node.input[1] = add_constant(graph, shape, node.output[0])
            changed = True
    return changed


def fold(graph):
    """Computes small nodes that read only constants."""
    known, done = constants(graph), []
    outputs = {o.name for o in graph.output}
    for node in graph.node:
        if all(name in known for name in node.input) and not outputs & set(node.output):
            values = _evaluate(node, known)
            if all(value.size <= FOLDED for value in values):
                for name, value in zip(node.output, values, strict=True):
                    graph.initializer.append(numpy_helper.from_array(value, name))
                    known[name] = value
                done.append(node)
    for node in done:
        graph.node.remove(node)
    return bool(done)


def _evaluate(node, known):
    names = list(dict.fromkeys(node.input))
    inputs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(known[n].dtype), known[n].shape) for n in names]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    evaluator = ReferenceEvaluator(helper.make_graph([node], "one", inputs, outputs), opsets={"": OPSET})
    return [np.asarray(value) for value in evaluator.run(None, {n: known[n] for n in names})]


def shapes_of(model):
    """{tensor: shape}, symbolic axes as text."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
    result = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            result[value.name] = tuple(d.dim_param or d.dim_value for d in dims)
    return result


def broadcast(*shapes):
    """numpy's rule, with symbolic axes; None where they do not fit."""
    rank, result = max(map(len, shapes)), []
    for axis in range(-rank, 0):
        sizes = {shape[axis] for shape in shapes if len(shape) >= -axis} - {1}
        if len(sizes) > 1:
            return None
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def unbroadcast(model):
    """Takes away Expand and Reshape (leading ones) before operators that broadcast by themselves to the same shape."""
    graph, changed = model.graph, False
    shapes, readers = shapes_of(model), uses(model.graph)
    outputs = {o.name for o in graph.output}
    for node in graph.node:
        source, result = (node.input[0], node.output[0]) if node.input else ("", "")
        if node.op_type not in ("Expand", "Reshape") or result in outputs or not {source, result} <= shapes.keys():
            continue
        if shapes[source] != shapes[result] and not _only_leading(node, shapes[source], shapes[result]):
            continue
        if shapes[source] == shapes[result] or all(
            _fits(user, source, result, shapes) for user in readers.get(result, [])
        ):
            replace(graph, result, source)
            changed |= result in readers
    return changed


def _only_leading(node, source, result):
    """Whether broadcasting aligns `source` in `result` as the node does."""
    if node.op_type == "Expand":
        return True
    extra = len(result) - len(source)
    return extra > 0 and result == (1,) * extra + source


def _fits(user, source, result, shapes):
    """Whether `user` gives the same shape if it reads `source` in place of `result`."""
    if user.op_type not in BROADCASTING or any(name not in shapes for name in (*user.input, *user.output)):
        return False
    operands = [shapes[source] if name == result else shapes[name] for name in user.input]
    return broadcast(*operands) == shapes[user.output[0]]


def straighten(graph):
    """Joins neighbours of Transpose and of Reshape; a Sum of two is an Add, a Gemm that only multiplies is a MatMul."""
    makers, known, changed = {name: n for n in graph.node for name in n.output}, constants(graph), False
    for node in graph.node:
        if node.op_type == "Sum" and len(node.input) == 2:
            node.op_type, changed = "Add", True
        if node.op_type == "Gemm" and not node.attribute and not np.any(known[node.input[2]]):
            node.op_type, changed = "MatMul", True
            del node.input[2:]
        before = makers.get(node.input[0]) if node.input else None
        if before is None or before.op_type != node.op_type:
            continue
        if node.op_type == "Transpose":
            first, second = (list(n.attribute[0].ints) for n in (before, node))
            node.attribute[0].ints[:] = [first[i] for i in second]
        elif node.op_type != "Reshape" or 0 in known.get(node.input[1], [0]):
            continue
        node.input[0], changed = before.input[0], True
    return changed


def merge_equal(graph):
    """Joins equal constants and equal nodes."""
    changed, seen = False, {}
    for tensor in list(graph.initializer):
        array = numpy_helper.to_array(tensor)
        same = seen.setdefault((str(array.dtype), array.shape, array.tobytes()), tensor.name)
        if same != tensor.name:
            replace(graph, tensor.name, same)
            graph.initializer.remove(tensor)
            changed = True
    nodes, outputs = {}, {o.name for o in graph.output}
    for node in list(graph.node):
        key = (node.op_type, *node.input, *(a.SerializeToString(deterministic=True) for a in node.attribute))
        same = nodes.setdefault(key, node)
        if same is not node and len(node.output) == len(same.output) and not outputs & set(node.output):
            for old, new in zip(node.output, same.output, strict=True):
                replace(graph, old, new)
            graph.node.remove(node)
            changed = True
    return changed


def prune(graph):
    """Removes what no output needs."""
    wanted, kept = {o.name for o in graph.output}, []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    used = [t for t in graph.initializer if t.name in wanted]
    changed = len(kept) != len(graph.node) or len(used) != len(graph.initializer)
    for field, values in ((graph.node, kept[::-1]), (graph.initializer, used)):
        copies = [type(v).FromString(v.SerializeToString()) for v in values]
        del field[:]
        field.extend(copies)
    return changed


def rename(graph):
    """Inner tensors by their order: h0, h1…, constants c0, c1…"""
    fixed = {v.name for v in (*graph.input, *graph.output)}
    names = {t.name: f"c{i}" for i, t in enumerate(graph.initializer)}
    inner = (name for node in graph.node for name in node.output if name not in fixed)
    names |= {name: f"h{i}" for i, name in enumerate(inner)}
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def leave_open(model, program):
    """Inputs that are weights are no inputs any more: the graph reads names that nothing in it makes."""
    kept = [v for v in model.graph.input if v.name not in program.weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def serialised(model):
    """The same bytes for the same graph."""
    return model.SerializeToString(deterministic=True)


def with_inputs(model, program):
    """A copy that has the weights as inputs again, so that all shapes are known."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    for name in program.weights:
        whole.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, program.inputs[name]))
    return whole


def with_weights(data, weights):
    """The bytes of an open graph and {name: array} -> those of a whole model: protobuf merges what is appended."""
    graph = onnx.GraphProto(initializer=[numpy_helper.from_array(value, name) for name, value in weights.items()])
    return data + onnx.ModelProto(graph=graph).SerializeToString(deterministic=True)


def check(model, program):
    """Fails unless the graph has the promised names, only standard operators and no large constant."""
    graph = model.graph
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)] and not model.functions
    assert [v.name for v in graph.input] == [n for n in program.inputs if n not in program.weights], "inputs"
    assert [v.name for v in graph.output] == list(program.outputs), "outputs"
    other = {node.op_type for node in graph.node} - ALLOWED
    assert not other, f"operators that are not allowed: {other}"
    large = [t.name for t in graph.initializer if np.prod(t.dims) > FOLDED]
    assert not large, f"large constants: {large}"
    held = {t.name for t in graph.initializer} & set(program.weights)
    assert not held, f"weights inside: {held}"
    made = {t.name for t in graph.initializer} | {n for node in graph.node for n in node.output} | {v.name for v in graph.input}
    unmade = {name for node in graph.node for name in node.input} - made
    assert unmade == set(program.weights), f"names that nothing makes: {unmade ^ set(program.weights)}"
    onnx.checker.check_model(with_inputs(model, program), full_check=True)
