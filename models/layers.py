"""Layers whose gradients are written by hand: the exported graphs get fewer nodes and only plain matrix products.

JAX's own gradient of `x @ w` contracts all leading axes at once. jax2onnx makes an Einsum of that, or for two axes a Gemm
that does not load; flattened and transposed first, it is a MatMul that every runtime knows.
"""

import jax
import jax.numpy as jnp

EPSILON = 1e-6


@jax.custom_vjp
def linear(x, weight):
    """x [..., I] @ weight [I, O] -> [..., O]."""
    return jnp.matmul(x, weight)


def _linear_forward(x, weight):
    return jnp.matmul(x, weight), (x, weight)


def _linear_backward(saved, gradient):
    x, weight = saved
    flat = x.reshape(-1, x.shape[-1])
    return (
        jnp.matmul(gradient, weight.T),
        jnp.matmul(flat.T, gradient.reshape(-1, gradient.shape[-1])),
    )


linear.defvjp(_linear_forward, _linear_backward)


@jax.custom_vjp
def rms_norm(x):
    """x [..., C] divided by the root of the mean of its squares over C."""
    return _rms_forward(x)[0]


def _rms_forward(x):
    scale = jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPSILON)
    y = x * scale
    return y, (y, scale)


def _rms_backward(saved, gradient):
    y, scale = saved
    return (scale * (gradient - y * jnp.mean(gradient * y, axis=-1, keepdims=True)),)


rms_norm.defvjp(_rms_forward, _rms_backward)


@jax.custom_vjp
def softmax(x):
    """Softmax over the last axis."""
    return jax.nn.softmax(x, axis=-1)


def _softmax_forward(x):
    y = jax.nn.softmax(x, axis=-1)
    return y, y


def _softmax_backward(y, gradient):
    return (y * (gradient - jnp.sum(gradient * y, axis=-1, keepdims=True)),)


softmax.defvjp(_softmax_forward, _softmax_backward)


@jax.custom_vjp
def silu(x):
    """x · sigmoid(x)."""
    return _silu_forward(x)[0]


def _silu_forward(x):
    gate = jax.nn.sigmoid(x)
    y = x * gate
    return y, (y, gate)


def _silu_backward(saved, gradient):
    y, gate = saved
    return (gradient * (gate + y * (1.0 - gate)),)


silu.defvjp(_silu_forward, _silu_backward)


@jax.custom_vjp
def mean_squares(x):
    """x [B, T, H, W, 3] -> [B]: the mean of squares. By rows first: a plain f32 sum of a clip loses the fifth digit."""
    return jnp.mean(jnp.mean(x * x, axis=(3, 4)), axis=(1, 2))


def _mean_squares_forward(x):
    return mean_squares(x), x


def _mean_squares_backward(x, gradient):
    scale = (2.0 * x.shape[0] / x.size) * gradient
    return (x * scale.reshape(-1, *[1] * (x.ndim - 1)),)


mean_squares.defvjp(_mean_squares_forward, _mean_squares_backward)
