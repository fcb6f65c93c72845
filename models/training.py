"""What the graphs compute beside the denoiser: loss, gradients, AdamW with clipping and EMA, low-rank adapters.

All take and give flat dictionaries by parameter name. The state of a trainable tensor is four tensors of its shape: its
value, two moments and a moving average.
"""

import jax
import jax.numpy as jnp

from denoiser import Parameter, denoise, parameters, restack, unstack
from layers import mean_squares

SCALARS = ("lr", "step", "beta1", "beta2", "epsilon", "weight_decay", "clip_norm", "ema_decay")
ADAPTED = ("blocks.attention.in", "blocks.attention.out", "blocks.mlp.in", "blocks.mlp.out")


def trainable(size):
    """What training changes: all parameters, or with a rank the adapters `<matrix>/a` and `<matrix>/b`."""
    if not size.lora_rank:
        return parameters(size)
    adapters = []
    for matrix in parameters(size):
        if matrix.name.removesuffix(".weight") in ADAPTED:
            depth, rows, columns = matrix.shape
            std = round(rows**-0.5, 6)
            adapters.append(Parameter(f"{matrix.name}/a", (depth, rows, size.lora_rank), True, std))
            adapters.append(Parameter(f"{matrix.name}/b", (depth, size.lora_rank, columns), True))
    return adapters


def merge(params, adapters, size):
    """The rule of adapters: W + scale · (A @ B)."""
    merged = dict(params)
    for name in params:
        if f"{name}/a" in adapters:
            merged[name] = params[name] + size.lora_scale * jnp.matmul(adapters[f"{name}/a"], adapters[f"{name}/b"])
    return merged


def sample_losses(pieces, x, noise, t, condition, size):
    """Each clip's own loss [B]: the mean of (v − V)² over its elements, at x_t = (1 − t)·x + t·noise."""
    level = t.reshape(-1, 1, 1, 1, 1)
    x_t = (1.0 - level) * x + level * noise
    return mean_squares(denoise(pieces, x_t, t, condition, size) - (noise - x))


def loss_and_gradients(params, adapters, batch, size):
    """-> loss, sample losses [B], gradients of the trainable tensors. batch: x, noise, t, condition."""
    full = merge(params, adapters, size)
    pieces = unstack(full)
    wanted = {name: piece for name, piece in pieces.items() if not size.lora_rank or _is_adapted(name)}

    each, pull = jax.vjp(lambda some: sample_losses(pieces | some, *batch, size), wanted)
    (parts,) = pull(jnp.full(each.shape, 1 / size.batch))
    mean = jnp.mean(each)
    if not size.lora_rank:
        return mean, each, restack(parts, full)
    gradients = restack(parts, {name: full[name] for name in full if f"{name}/a" in adapters})
    return mean, each, _adapter_gradients(gradients, adapters, size)


def _is_adapted(piece):
    """Whether `blocks.0.mlp.in.weight` belongs to a matrix that has an adapter."""
    first, _, rest = piece.partition(".")
    return f"{first}.{rest.partition('.')[2].removesuffix('.weight')}" in ADAPTED and piece.endswith(".weight")


def _adapter_gradients(gradients, adapters, size):
    """Gradients of A and B from that of W + scale · (A @ B)."""
    result = {}
    for name in adapters:
        matrix = name[:-2]
        scaled = size.lora_scale * gradients[matrix]
        if name.endswith("/a"):
            result[name] = jnp.matmul(scaled, jnp.swapaxes(adapters[f"{matrix}/b"], 1, 2))
        else:
            result[name] = jnp.matmul(jnp.swapaxes(adapters[f"{matrix}/a"], 1, 2), scaled)
    return result


def adamw(values, m, v, ema, gradients, scalars, size):
    """One AdamW step with decoupled decay, after clipping by the norm of all gradients, and a moving average.

    -> norm before clipping [1], new values, m, v, ema. Scalars are tensors [1] by the names in SCALARS.
    """
    s = scalars
    # By rows first: a plain f32 sum of millions of squares loses the fourth digit.
    norm = jnp.sqrt(sum(jnp.sum(jnp.sum(g * g, axis=-1)) for g in gradients.values())).reshape(1)
    clip = jnp.minimum(1.0, s["clip_norm"] / norm)
    rate = s["lr"] / (1.0 - s["beta1"] ** s["step"])
    correction = 1.0 / (1.0 - s["beta2"] ** s["step"])
    keep, keep1, keep2 = 1.0 - s["lr"] * s["weight_decay"], 1.0 - s["beta1"], 1.0 - s["beta2"]
    follow = 1.0 - s["ema_decay"]
    out = ({}, {}, {}, {})
    for parameter in trainable(size):
        name = parameter.name
        gradient = gradients[name] * clip
        m_new = s["beta1"] * m[name] + keep1 * gradient
        v_new = s["beta2"] * v[name] + keep2 * (gradient * gradient)
        decayed = values[name] * keep if parameter.decay else values[name]
        new = decayed - rate * m_new / (jnp.sqrt(v_new * correction) + s["epsilon"])
        for part, value in zip(out, (new, m_new, v_new, s["ema_decay"] * ema[name] + follow * new), strict=True):
            part[name] = value
    return norm, *out
