"""Gradients by JAX alone: the layers without the gradients that `layers.py` writes by hand, the adapters without theirs."""

from unittest import mock

import jax
import jax.numpy as jnp

import denoiser
import layers
import training
from denoiser import unstack
from training import merge, sample_losses


def plain_gradients(params, adapters, batch, size):
    """As `training.loss_and_gradients`, the gradients only."""
    of_denoiser = {name: getattr(layers, name).fun for name in ("linear", "rms_norm", "softmax", "silu")}

    def loss(trained, frozen, batch):
        return jnp.mean(sample_losses(unstack(merge(frozen | trained, trained, size)), *batch, size))

    of_training = {"mean_squares": layers.mean_squares.fun}
    with mock.patch.multiple(denoiser, **of_denoiser), mock.patch.multiple(training, **of_training):
        return jax.jit(jax.grad(loss))(adapters or params, params, batch)
