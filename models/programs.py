"""The graphs of one size as functions of flat lists of tensors, with the names and shapes that trainers rely on."""

from collections.abc import Callable
from dataclasses import dataclass

from denoiser import denoise, parameters, unstack
from sizes import Size
from training import SCALARS, adamw, loss_and_gradients, merge, sample_losses, trainable


@dataclass(frozen=True)
class Program:
    """A function with named inputs and outputs. Everything is f32."""

    name: str
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    call: Callable  # inputs in order -> tuple of outputs in order
    weights: tuple[str, ...] = ()  # inputs of `call` that the graph names but does not list


class Layout:
    """Names and shapes of groups of tensors: `params/…`, `m/…` and so on."""

    def __init__(self, size: Size):
        self.size = size
        self.prefix = "lora" if size.lora_rank else "params"
        self.frozen = parameters(size) if size.lora_rank else []
        self.trained = trainable(size)

    def group(self, prefix, tensors=None):
        """{prefix/name: shape} of the trained tensors, or of others."""
        return {f"{prefix}/{p.name}": p.shape for p in (self.trained if tensors is None else tensors)}

    def weights(self):
        """Everything that the model's output depends on."""
        return self.group("params", self.frozen) | self.group(self.prefix)

    def batch(self):
        """x, noise, t and condition."""
        count, clip = self.size.batch, self.size.clip
        return {"x": (count, *clip), "noise": (count, *clip), "t": (count,), "condition": (count, self.size.condition)}

    def state(self, suffix=""):
        """Values, moments and moving averages."""
        sets = (self.prefix, "m", "v", "ema")
        return {k: v for prefix in sets for k, v in self.group(prefix + suffix).items()}


def select(tensors, prefix):
    """{prefix/name: tensor} -> {name: tensor}."""
    return {k.removeprefix(prefix + "/"): v for k, v in tensors.items() if k.startswith(prefix + "/")}


def programs(size):
    """The five graphs of a size."""
    return [forward(size), loss(size), train_step(size), gradients(size), apply(size)]


def _program(name, inputs, outputs, compute):
    """A Program of a function from {input: tensor} to {output: tensor}."""

    def call(*tensors):
        results = compute(dict(zip(inputs, tensors, strict=True)))
        return tuple(results[key] for key in outputs)

    return Program(name, inputs, outputs, call)


def _weights(tensors):
    """-> parameters, adapters (none where the parameters themselves are trained)."""
    return select(tensors, "params"), select(tensors, "lora")


def _batch(tensors):
    return tuple(tensors[name] for name in ("x", "noise", "t", "condition"))


def forward(size):
    """x_t, t, condition -> v, with the parameters left open. With adapters: the same graph, for merged weights."""
    count, clip = size.batch, size.clip
    params = {p.name: p.shape for p in parameters(size)}
    inputs = {"x_t": (count, *clip), "t": (count,), "condition": (count, size.condition)} | params

    def compute(tensors):
        pieces = unstack({name: tensors[name] for name in params})
        return {"v": denoise(pieces, tensors["x_t"], tensors["t"], tensors["condition"], size)}

    program = _program("forward", inputs, {"v": (count, *clip)}, compute)
    return Program(program.name, inputs, program.outputs, program.call, tuple(params))


def loss(size):
    """Batch and weights -> each clip's loss."""
    layout = Layout(size)

    def compute(tensors):
        pieces = unstack(merge(*_weights(tensors), size))
        return {"sample_loss": sample_losses(pieces, *_batch(tensors), size)}

    return _program("loss", layout.batch() | layout.weights(), {"sample_loss": (size.batch,)}, compute)


def _learn(tensors, size):
    """-> outputs about the loss, gradients."""
    mean, each, grads = loss_and_gradients(*_weights(tensors), _batch(tensors), size)
    return {"loss": mean.reshape(1), "sample_loss": each}, grads


def _update(tensors, grads, layout):
    """-> outputs of the optimiser."""
    state = [select(tensors, prefix) for prefix in (layout.prefix, "m", "v", "ema")]
    scalars = {name: tensors[name] for name in SCALARS}
    norm, *sets = adamw(*state, grads, scalars, layout.size)
    return {"grad_norm": norm} | dict(zip(layout.state("_out"), (v for s in sets for v in s.values()), strict=True))


def train_step(size):
    """One step of training: gradients of a batch, and AdamW."""
    layout = Layout(size)
    scalars = {name: (1,) for name in SCALARS}
    frozen = layout.group("params", layout.frozen)
    outputs = {"loss": (1,), "grad_norm": (1,), "sample_loss": (size.batch,)} | layout.state("_out")

    def compute(tensors):
        losses, grads = _learn(tensors, size)
        return losses | _update(tensors, grads, layout)

    return _program("train_step", layout.batch() | scalars | frozen | layout.state(), outputs, compute)


def gradients(size):
    """grads_out = grads + scale · gradient of a batch."""
    layout = Layout(size)
    inputs = layout.batch() | {"scale": (1,)} | layout.weights() | layout.group("grads")
    outputs = {"loss": (1,), "sample_loss": (size.batch,)} | layout.group("grads_out")

    def compute(tensors):
        losses, grads = _learn(tensors, size)
        return losses | {
            f"grads_out/{name}": tensors[f"grads/{name}"] + tensors["scale"] * grad for name, grad in grads.items()
        }

    return _program("gradients", inputs, outputs, compute)


def apply(size):
    """AdamW on accumulated gradients."""
    layout = Layout(size)
    inputs = {name: (1,) for name in SCALARS} | layout.state() | layout.group("grads")

    def compute(tensors):
        return _update(tensors, select(tensors, "grads"), layout)

    return _program("apply", inputs, {"grad_norm": (1,)} | layout.state("_out"), compute)
