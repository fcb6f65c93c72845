"""What is known of noised video without a network: its spectrum, and the best linear guess that follows from it.

In the basis of a patch's cosine transform (frames, rows, columns, colour) the values of video hardly correlate, and their
variances fall with frequency by a law that holds over clips and sizes. With a deviation σ for each value and noise of
deviation 1, the preconditioning of EDM (Karras et al. 2022, arXiv 2206.00364) carried over to rectified flow is

    variance = (1 − t)²σ² + t²,  into = 1/√variance,  skip = (t − (1 − t)σ²)/variance,  out = σ/√variance
    v = skip · x_t + out · F(into · x_t)

skip · x_t is E[v | x_t] for Gaussian data, and `out` the deviation of what is left. The variance is at least σ²/(1 + σ²)
for every t.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

# Of clips normalised to a deviation of 0.5, fitted to data/clips at 32, 64 and 128 pixels: the mean variance of values at
# frequency zero, its fall with the squares of frame, row and column, and the share of each colour axis.
LEVEL, OVER_TIME, OVER_SPACE, POWER, COLORS, FLOOR = 0.7, 23.0, 6.4, 1.6, (1.0, 0.13, 0.02), 1e-3


def cosines(count):
    """Rows of the orthonormal cosine transform (DCT-II): [frequency, place]."""
    places = (np.arange(count) + 0.5) / count
    rows = np.cos(np.pi * np.arange(count)[:, None] * places) * np.sqrt(2 / count)
    rows[0] /= np.sqrt(2)
    return rows


def variances(patch):
    """σ² of every value of a patch in its basis, in the order of `to_patches`."""
    frame, row, column = np.meshgrid(*[np.arange(n) ** 2.0 for n in patch], indexing="ij")
    fall = (1 + OVER_TIME * frame + OVER_SPACE * (row + column)) ** -POWER
    return (LEVEL * fall.size * fall[..., None] * COLORS + FLOOR).reshape(-1).astype(np.float32)


def linear_guess(t, patch):
    """t [B] -> into, skip, out, each [B, 1, 1, patch values]."""
    data, level = variances(patch), t.reshape(-1, 1, 1, 1)
    rest = 1.0 - level
    variance = rest * rest * data + level * level
    into = 1.0 / jnp.sqrt(variance)
    return into, (level - rest * data) / variance, np.sqrt(data) * into


def _factors(patch):
    """The basis as a matrix over frames and rows, and one over columns and colours."""
    frames, rows, columns = patch
    across = np.kron(cosines(columns), cosines(3)), np.kron(cosines(frames), cosines(rows))
    return tuple(matrix.T.astype(np.float32) for matrix in across)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def to_spectrum(patches, patch):
    """Patches [B, times, places, values] -> the same in the basis of the cosine transform."""
    columns, rows = _factors(patch)
    return _transform(patches, columns, rows)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def from_spectrum(values, patch):
    """The inverse of `to_spectrum`."""
    columns, rows = _factors(patch)
    return _transform(values, columns.T, rows.T)


def _transform(x, columns, rows):
    halves = x.reshape(*x.shape[:-1], len(rows), len(columns))
    halves = jnp.swapaxes(jnp.matmul(halves, columns), -1, -2)
    return jnp.swapaxes(jnp.matmul(halves, rows), -1, -2).reshape(x.shape)


# The basis is orthonormal: the gradient of one direction is the other.
to_spectrum.defvjp(lambda x, patch: (to_spectrum(x, patch), None), lambda patch, _, g: (from_spectrum(g, patch),))
from_spectrum.defvjp(lambda x, patch: (from_spectrum(x, patch), None), lambda patch, _, g: (to_spectrum(g, patch),))
