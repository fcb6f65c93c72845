"""Runs a graph in ONNX Runtime and its Program in JAX on the same random input, and says how far apart they are."""

import time
from dataclasses import dataclass

import jax
import numpy as np
import onnxruntime

from graph import serialised, with_weights

# The largest difference that passes, relative to the largest absolute value of the same group of outputs.
TOLERANCE = 1e-4
SETTINGS = dict(
    lr=1e-3, step=7, beta1=0.9, beta2=0.99, epsilon=1e-8, weight_decay=0.1, clip_norm=0.5, ema_decay=0.98, scale=0.5
)


@dataclass(frozen=True)
class Difference:
    """Outputs of one group (`loss`, `m_out`…): the largest absolute difference, and the largest value."""

    group: str
    absolute: float
    largest: float

    @property
    def relative(self):
        return self.absolute / max(self.largest, 1e-30)


def random_inputs(program, seed=0):
    """{name: array} for a Program: a state as in the middle of training, a condition that some clips lack."""
    generator = np.random.default_rng(seed)
    return {name: _draw(generator, name, shape) for name, shape in program.inputs.items()}


def _draw(generator, name, shape):
    if name in SETTINGS:
        return np.full(shape, SETTINGS[name], np.float32)
    normal = generator.standard_normal(shape, np.float32)
    if name == "t":
        return generator.random(shape, np.float32)
    if name == "condition":
        rows = normal / np.linalg.norm(normal, axis=1, keepdims=True)
        rows[::3] = 0
        return rows
    group, _, tensor = name.partition("/")
    if group in ("m", "grads"):
        return 1e-3 * normal
    if group == "v":
        return np.float32(1e-5) * (0.1 + normal * normal)
    if group in ("params", "lora", "ema") or tensor == "" and "." in name:
        # Matrices as large as at the start of training, those that start at zero as well.
        return normal * (shape[-2] ** -0.5 if len(shape) > 1 else 0.3)
    return normal


def session(data, threads=2):
    """The bytes of a model -> session on the processor."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(model, program, inputs, seconds=3.0, threads=2):
    """-> {output: array} of ONNX Runtime, and milliseconds of the fastest of a few runs."""
    weights = {name: inputs[name] for name in program.weights}
    ready = session(with_weights(serialised(model), weights), threads)
    feeds = {name: value for name, value in inputs.items() if name not in weights}
    return _timed(lambda: dict(zip(program.outputs, ready.run(None, feeds), strict=True)), seconds)


def run_jax(program, inputs, seconds=3.0):
    """-> {output: array} of JAX, and milliseconds of the fastest of a few runs."""
    compiled = jax.jit(program.call)
    values = [jax.numpy.asarray(inputs[name]) for name in program.inputs]
    results, milliseconds = _timed(lambda: jax.block_until_ready(compiled(*values)), seconds)
    return {name: np.asarray(value) for name, value in zip(program.outputs, results, strict=True)}, milliseconds


def _timed(call, seconds):
    """The result of a call, and its fastest time in ms over about `seconds` after one to get warm (0: of that one)."""
    start = time.perf_counter()
    result = call()
    times = [1000 * (time.perf_counter() - start)]
    start = time.perf_counter()
    while time.perf_counter() - start < seconds and len(times) < 30:
        begin = time.perf_counter()
        result = call()
        times.append(1000 * (time.perf_counter() - begin))
    return result, min(times)


def differences(left, right):
    """One Difference for every group of outputs of the same names."""
    groups = {}
    for name in left:
        groups.setdefault(name.partition("/")[0], []).append(name)
    result = []
    for group, names in groups.items():
        absolute = max(float(np.max(np.abs(left[n] - right[n]))) for n in names)
        largest = max(float(np.max(np.abs(right[n]))) for n in names)
        result.append(Difference(group, absolute, largest))
    return result


def passes(found):
    """Whether all differences are within TOLERANCE; a NaN is not."""
    return all(d.relative <= TOLERANCE for d in found)
