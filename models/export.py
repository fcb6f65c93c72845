"""Exports the graphs of the named sizes, each compared with JAX first; or checks what is committed.

python models/export.py --all --output models/graphs
python models/export.py --check
"""

import argparse
import collections
import hashlib
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

import compare
from graph import build, serialised, with_weights
from programs import forward, programs, select, train_step
from reference import plain_gradients
from signature import describe, text
from sizes import SIZES
from training import loss_and_gradients

GRAPHS = Path(__file__).parent / "graphs"


class Failed(Exception):
    """What was found to be wrong; nothing of the size was written."""


def made(program):
    """-> ModelProto of a Program; the forward graph takes any number of clips."""
    return build(program, symbolic=bool(program.weights))


def export(size, folder):
    """Makes, compares and writes the graphs of a size."""
    print(f"{size.name}: {size.frames}×{size.height}×{size.width}, batch {size.batch}", flush=True)
    small = size.compared
    graphs = [(program, made(program)) for program in programs(size)]
    if small == size:
        compared = {program.name: (program, model) for program, model in graphs}
    else:
        compared = {program.name: (program, made(program)) for program in programs(small)}
        print(f"  compared with {small.batch} clips and {small.depth} of {size.depth} blocks; the rest by structure")
        for program, model in graphs:
            same_structure(size, program, model, compared[program.name][1])
    for program, model in compared.values():
        agree(program, model)
    any_batch(size, graphs[0][1])
    whole_file(*compared["forward"])
    by_hand(small, compared["gradients"][0])
    accumulated(small, compared)
    write(size, graphs, folder / size.name)


def agree(program, model):
    """Fails unless ONNX Runtime and JAX give the same; prints how far apart and how fast they are."""
    inputs = compare.random_inputs(program)
    ours, milliseconds = compare.run(model, program, inputs)
    theirs, jax_milliseconds = compare.run_jax(program, inputs)
    report(program.name, compare.differences(ours, theirs))
    print(f"    {milliseconds:.1f} ms in ONNX Runtime, {jax_milliseconds:.1f} ms under jax.jit")


def report(title, found):
    """Prints differences; fails if one is too large."""
    print(f"  {title}")
    for d in found:
        print(f"    {d.group:<26} differs by {d.absolute:.1e} at most, {d.relative:.1e} of its largest value", flush=True)
    if not compare.passes(found):
        raise Failed(f"{title}: the graph and JAX differ by more than {compare.TOLERANCE} of the largest value")


def operators(model):
    """{operator: nodes}."""
    return collections.Counter(node.op_type for node in model.graph.node)


def same_structure(size, program, model, compared):
    """Fails unless the graph has the operators of the compared one, and as many more for each further pair of blocks."""
    here, there = operators(model), operators(compared)
    if size.depth != size.compared.depth:
        longer = replace(size.compared, depth=size.compared.depth + 2)
        step = operators(made(next(p for p in programs(longer) if p.name == program.name)))
        step.subtract(there)
        for name, nodes in step.items():
            there[name] += nodes * (size.depth - size.compared.depth) // 2
    if +here != +there:
        raise Failed(f"{program.name}: operators differ from those of the compared graph: {here}, {there}")


def any_batch(size, model):
    """Compares the forward graph of the whole depth, on one clip and on three."""
    for clips in (1, 3):
        program = forward(replace(size, batch=clips))
        inputs = compare.random_inputs(program, seed=clips)
        ours = compare.run(model, program, inputs, seconds=0)[0]
        theirs = compare.run_jax(program, inputs, seconds=0)[0]
        report(f"forward, a batch of {clips}, {size.depth} blocks", compare.differences(ours, theirs))


def whole_file(program, model):
    """Appends weights to the forward graph's file, checks what became of it, and compares the file with JAX."""
    inputs = compare.random_inputs(program)
    weights = {name: inputs[name] for name in program.weights}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "forward.onnx"
        path.write_bytes(with_weights(serialised(model), weights))
        whole = onnx.load(path)
        onnx.checker.check_model(whole, full_check=True)
        held = {t.name: numpy_helper.to_array(t) for t in whole.graph.initializer}
        if any(not np.array_equal(held[name], value) for name, value in weights.items()):
            raise Failed("forward: the appended weights do not come back")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        values = session.run(None, {v.name: inputs[v.name] for v in session.get_inputs()})
    ours = dict(zip(program.outputs, values, strict=True))
    theirs = compare.run_jax(program, inputs, seconds=0)[0]
    report("forward, a file with the weights appended", compare.differences(ours, theirs))


def by_hand(size, program):
    """Compares the gradients of our layers with those that JAX finds for plain ones."""
    inputs = {name: jax.numpy.asarray(value) for name, value in compare.random_inputs(program, seed=3).items()}
    weights = select(inputs, "params"), select(inputs, "lora")
    batch = tuple(inputs[name] for name in ("x", "noise", "t", "condition"))
    ours = jax.jit(lambda *given: loss_and_gradients(*given, size)[2])(*weights, batch)
    report("gradients by hand, against JAX's own", compare.differences(ours, plain_gradients(*weights, batch, size)))


def accumulated(size, graphs):
    """Compares two runs of `gradients` and one of `apply` with one `train_step` of twice the batch."""
    double = train_step(replace(size, batch=2 * size.batch))
    inputs = compare.random_inputs(double, seed=2)
    whole = compare.run(made(double), double, inputs, seconds=0)[0]
    program, model = graphs["gradients"]
    sums = {name: np.zeros(shape, np.float32) for name, shape in program.inputs.items() if name.startswith("grads/")}
    for half in (slice(0, size.batch), slice(size.batch, None)):
        feeds = {name: inputs[name] for name in program.inputs if name in inputs} | sums
        feeds |= {name: inputs[name][half] for name in ("x", "noise", "t", "condition")}
        feeds["scale"] = np.full(1, 0.5, np.float32)
        outputs = compare.run(model, program, feeds, seconds=0)[0]
        sums = {name: outputs[name.replace("grads/", "grads_out/")] for name in sums}
    program, model = graphs["apply"]
    parts = compare.run(model, program, {n: (inputs | sums)[n] for n in program.inputs}, seconds=0)[0]
    report("gradients twice and apply, against train_step of both", compare.differences(parts, whole))


def write(size, graphs, folder):
    """Writes the graphs, and last their signature."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [(program, model, serialised(model)) for program, model in graphs]
    for program, _, data in entries:
        (folder / f"{program.name}.onnx").write_bytes(data)
    (folder / "signature.json").write_text(text(describe(size, entries)) + "\n", encoding="utf-8")
    nodes = ", ".join(f"{p.name} {len(m.graph.node)} nodes {len(data) / 1000:.0f} kB" for p, m, data in entries)
    print(f"  written: {nodes}", flush=True)


def check():
    """Compares what is committed with its signatures, and `tiny` with a fresh export."""
    for name in SIZES:
        signature = json.loads((GRAPHS / name / "signature.json").read_text(encoding="utf-8"))
        for graph in signature["graphs"].values():
            if hashlib.sha256((GRAPHS / name / graph["file"]).read_bytes()).hexdigest() != graph["sha256"]:
                raise Failed(f"{name}/{graph['file']} is not the file that signature.json names; run make models")
    with tempfile.TemporaryDirectory() as folder:
        export(SIZES["tiny"], Path(folder))
        for fresh in sorted((Path(folder) / "tiny").iterdir()):
            if fresh.read_bytes() != (GRAPHS / "tiny" / fresh.name).read_bytes():
                raise Failed(f"tiny/{fresh.name} differs from a fresh export; run make models")
    print("the committed graphs match their signatures; tiny is what the exporter makes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", metavar="SIZE", help=f"of {', '.join(SIZES)}")
    parser.add_argument("--all", action="store_true", help="every size")
    parser.add_argument("--output", type=Path, default=GRAPHS, help="folder for the folders of sizes")
    parser.add_argument("--check", action="store_true", help="check the committed graphs, write nothing")
    wanted = parser.parse_args()
    unknown = set(wanted.sizes) - SIZES.keys()
    if unknown or not (wanted.sizes or wanted.all or wanted.check):
        parser.error(f"name sizes of {', '.join(SIZES)}, or --all, or --check")
    try:
        if wanted.check:
            check()
        for name in SIZES if wanted.all else wanted.sizes:
            export(SIZES[name], wanted.output)
    except Failed as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
