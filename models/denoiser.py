"""The denoiser: a diffusion transformer over patches of video, with attention in space and in time by turns.

Parameters are a flat dictionary by name. What every block has is one tensor with the blocks as its first axis; inside,
`unstack` makes one dictionary of the pieces (`blocks.0.…`), so that the gradients of pieces are joined and not padded.
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from layers import EPSILON, linear, rms_norm, silu, softmax
from spectrum import from_spectrum, linear_guess, to_spectrum


@dataclass(frozen=True)
class Parameter:
    """A tensor that training changes. `std` None: filled with `fill`; else normal with mean 0."""

    name: str
    shape: tuple[int, ...]
    decay: bool = False
    std: float | None = None
    fill: float = 0.0


def parameters(size):
    """All parameters of the model in canonical order."""
    width, depth, hidden = size.channels, size.depth, size.channels * size.mlp_ratio

    def matrix(name, rows, columns, *stack, zero=False):
        std = None if zero else round(1 / math.sqrt(rows), 6)
        return Parameter(name, (*stack, rows, columns), True, std)

    return [
        matrix("patch.weight", size.patch_values, width),
        Parameter("patch.bias", (width,)),
        Parameter("position.space", (size.places, width), std=0.02),
        Parameter("position.time", (size.times, width), std=0.02),
        matrix("time.in.weight", size.time_features, width),
        Parameter("time.in.bias", (width,)),
        matrix("time.out.weight", width, width),
        Parameter("time.out.bias", (width,)),
        matrix("condition.weight", size.condition, width),
        Parameter("condition.none", (width,), std=0.02),
        matrix("modulation.weight", width, 6 * width, zero=True),
        Parameter("blocks.modulation", (depth, 6 * width)),
        matrix("blocks.attention.in.weight", width, 3 * width, depth),
        Parameter("blocks.attention.gain", (depth, size.head), fill=1.0),
        matrix("blocks.attention.out.weight", width, width, depth),
        matrix("blocks.mlp.in.weight", width, hidden, depth),
        Parameter("blocks.mlp.in.bias", (depth, hidden)),
        matrix("blocks.mlp.out.weight", hidden, width, depth),
        matrix("final.modulation.weight", width, 2 * width, zero=True),
        Parameter("final.modulation.bias", (2 * width,)),
        matrix("final.skip.weight", width, size.patch_values, zero=True),
        Parameter("final.skip.bias", (size.patch_values,)),
        matrix("final.weight", width, size.patch_values, zero=True),
        Parameter("final.bias", (size.patch_values,)),
    ]


def unstack(params):
    """{name: tensor} -> the same with every `blocks.x` [depth, …] as `blocks.0.x` […], `blocks.1.x` […] and so on."""
    pieces = {}
    for name, value in params.items():
        if not name.startswith("blocks."):
            pieces[name] = value
            continue
        depth, first, *rest = value.shape
        parts = jnp.split(value.reshape(depth * first, *rest), depth)
        pieces |= {name.replace("blocks.", f"blocks.{i}.", 1): part for i, part in enumerate(parts)}
    return pieces


def restack(pieces, like):
    """The inverse of `unstack`; `like` has the names and shapes to end with."""
    joined = {}
    for name, value in like.items():
        if not name.startswith("blocks."):
            joined[name] = pieces[name]
            continue
        parts = [pieces[name.replace("blocks.", f"blocks.{i}.", 1)] for i in range(value.shape[0])]
        joined[name] = jnp.concatenate(parts).reshape(value.shape)
    return joined


def to_patches(x, size):
    """[B, T, H, W, 3] -> [B, times, places, patch values]."""
    frames, rows, columns = size.patch
    down, across = size.height // rows, size.width // columns
    x = x.reshape(x.shape[0], size.times, frames, down, rows, across, columns * 3)
    return x.transpose(0, 1, 3, 5, 2, 4, 6).reshape(x.shape[0], size.times, size.places, size.patch_values)


def from_patches(x, size):
    """The inverse of `to_patches`."""
    frames, rows, columns = size.patch
    down, across = size.height // rows, size.width // columns
    x = x.reshape(x.shape[0], size.times, down, across, frames, rows, columns * 3)
    return x.transpose(0, 1, 4, 2, 5, 3, 6).reshape(x.shape[0], *size.clip)


def embed_time(p, t, size):
    """t [B] -> [B, 1, 1, C], by sines and cosines at frequencies from 1 to 256."""
    frequencies = np.geomspace(1, 256, size.time_features // 2).astype(np.float32)
    angles = t.reshape(-1, 1, 1, 1) * frequencies
    features = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    hidden = silu(linear(features, p["time.in.weight"]) + p["time.in.bias"])
    return linear(hidden, p["time.out.weight"]) + p["time.out.bias"]


def embed_condition(p, condition):
    """condition [B, D] -> [B, 1, 1, C]. Its length does not matter; a row of zeros stands for no condition."""
    wide = condition.reshape(condition.shape[0], 1, 1, condition.shape[1])
    given = (jnp.sum(jnp.abs(wide), axis=-1, keepdims=True) > 0).astype(jnp.float32)
    level = jnp.mean(wide * wide, axis=-1, keepdims=True) + EPSILON * EPSILON
    known = linear(wide / jnp.sqrt(level), p["condition.weight"])
    return known + (1.0 - given) * p["condition.none"]


def attention(p, prefix, x, size, in_time):
    """Self-attention of x [B, times, places, C] along places, or along times."""
    heads = (x.shape[0], size.times, size.places, size.heads, size.head)
    query, key, value = jnp.split(linear(x, p[prefix + "in.weight"]), 3, axis=-1)
    order = (0, 2, 3, 1, 4) if in_time else (0, 1, 3, 2, 4)
    back = (0, 3, 1, 2, 4) if in_time else (0, 1, 3, 2, 4)
    gain = p[prefix + "gain"] * (1 / math.sqrt(size.head))
    query = (rms_norm(query.reshape(heads)) * gain).transpose(order)
    key = rms_norm(key.reshape(heads)).transpose(order)
    value = value.reshape(heads).transpose(order)
    weights = softmax(jnp.matmul(query, jnp.swapaxes(key, -1, -2)))
    mixed = jnp.matmul(weights, value).transpose(back).reshape(x.shape)
    return linear(mixed, p[prefix + "out.weight"])


def block(p, index, x, modulation, size):
    """One block: attention and an MLP, both between a modulated norm and a gate that starts closed."""
    name = f"blocks.{index}."
    parts = jnp.split(modulation + p[name + "modulation"], 6, axis=-1)
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = parts
    y = rms_norm(x) * (1.0 + scale_a) + shift_a
    x = x + gate_a * attention(p, name + "attention.", y, size, index % 2 == 1)
    y = rms_norm(x) * (1.0 + scale_m) + shift_m
    y = silu(linear(y, p[name + "mlp.in.weight"]) + p[name + "mlp.in.bias"])
    return x + gate_m * linear(y, p[name + "mlp.out.weight"])


def denoise(p, x_t, t, condition, size):
    """Predicts v = noise − x. p: pieces of `unstack`; x_t [B, T, H, W, 3], t [B], condition [B, D] -> [B, T, H, W, 3]."""
    c_in, c_skip, c_out = linear_guess(t, size.patch)
    noised = to_spectrum(to_patches(x_t, size), size.patch)
    patches = c_in * noised
    x = linear(patches, p["patch.weight"]) + p["patch.bias"]
    x = x + p["position.space"] + p["position.time"].reshape(size.times, 1, size.channels)
    context = silu(embed_time(p, t, size) + embed_condition(p, condition))
    modulation = linear(context, p["modulation.weight"])
    for index in range(size.depth):
        x = block(p, index, x, modulation, size)
    parts = linear(context, p["final.modulation.weight"]) + p["final.modulation.bias"]
    shift, scale = jnp.split(parts, 2, axis=-1)
    y = linear(rms_norm(x) * (1.0 + scale) + shift, p["final.weight"]) + p["final.bias"]
    # Noise fills every direction of a patch, more than a token has: a gain for each value, by noise level, lets it pass.
    gain = linear(context, p["final.skip.weight"]) + p["final.skip.bias"]
    return from_patches(from_spectrum(c_skip * noised + c_out * (y + gain * patches), size.patch), size)
