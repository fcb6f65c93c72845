"""Writes the small ONNX graphs that the tests of the model stage run, into tests/models.

Needs the Python package `onnx`. Run it from the root of the repository, only when a graph changes.
"""

from onnx import TensorProto as T
from onnx import checker, helper, save

OPSET = [helper.make_opsetid("", 17)]


def graph(name, inputs, outputs, nodes, initializers=()):
    tensors = [[helper.make_tensor_value_info(*tensor) for tensor in side] for side in (inputs, outputs)]
    made = helper.make_model(
        helper.make_graph(nodes, name, *tensors, initializer=list(initializers)), opset_imports=OPSET, ir_version=8
    )
    checker.check_model(made, full_check=True)
    save(made, f"tests/models/{name}.onnx")


# A batch axis that the graph fixes: the sum of three integers.
graph(
    "fixed",
    [("numbers", T.INT32, [2, 3])],
    [("sum", T.FLOAT, [2, 1])],
    [
        helper.make_node("Cast", ["numbers"], ["floats"], to=T.FLOAT),
        helper.make_node("ReduceSum", ["floats", "last"], ["sum"], keepdims=1),
    ],
    [helper.make_tensor("last", T.INT64, [1], [1])],
)

# Three inputs of different types and open sizes: the mean of each colour, and the sum of numbers times a weight.
graph(
    "mixed",
    [("image", T.FLOAT16, ["b", 3, "h", "w"]), ("numbers", T.INT64, ["b", "n"]), ("weight", T.FLOAT, ["b"])],
    [("colour", T.FLOAT16, ["b", 3]), ("total", T.FLOAT, ["b"]), ("sum", T.INT64, ["b"])],
    [
        helper.make_node("ReduceMean", ["image"], ["colour"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceSum", ["numbers", "last"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["floats"], to=T.FLOAT),
        helper.make_node("Mul", ["floats", "weight"], ["total"]),
    ],
    [helper.make_tensor("last", T.INT64, [1], [1])],
)

# A denoiser with a condition, of any size: v = x_t − mean of the condition − t.
graph(
    "conditioned",
    [("x_t", T.FLOAT, ["b", "f", "h", "w", 3]), ("t", T.FLOAT, ["b"]), ("condition", T.FLOAT, ["b", 4])],
    [("v", T.FLOAT, ["b", "f", "h", "w", 3])],
    [
        helper.make_node("ReduceMean", ["condition"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Add", ["mean", "t"], ["both"]),
        helper.make_node("Unsqueeze", ["both", "axes"], ["wide"]),
        helper.make_node("Sub", ["x_t", "wide"], ["v"]),
    ],
    [helper.make_tensor("axes", T.INT64, [4], [1, 2, 3, 4])],
)

# The same without a condition: v = x_t − t.
graph(
    "unconditioned",
    [("x_t", T.FLOAT, ["b", "f", "h", "w", 3]), ("t", T.FLOAT, ["b"])],
    [("v", T.FLOAT, ["b", "f", "h", "w", 3])],
    [helper.make_node("Unsqueeze", ["t", "axes"], ["wide"]), helper.make_node("Sub", ["x_t", "wide"], ["v"])],
    [helper.make_tensor("axes", T.INT64, [4], [1, 2, 3, 4])],
)
