"""Wrong gravity for a person: what a motion clip looks like when the ground pulls with another strength or direction.

A flight that starts with the same speed lasts and rises 9.81 / gravity as much. Where a clip never leaves the floor,
weaker gravity makes the person hop; stronger gravity then shows nothing. Tilted gravity carries whoever flies sideways,
and makes whoever stands slip.
"""

import math

import numpy

import motion

USUAL = 9.81  # metres a second squared
LONGEST = 4.0  # a flight is stretched by no more, and by no less than a quarter
HOP_SPEED = 1.6  # metres a second that a step throws a weightless person up with
SLIP = 0.8  # metres a second that a sideways pull of one gravity makes a standing person slip


def split(gravity):
    """Strength of gravity, and its sideways part [2]; `gravity` is a number or a vector."""
    if gravity is None:
        return USUAL, numpy.zeros(2)
    if numpy.ndim(gravity) == 0:
        return abs(float(gravity)), numpy.zeros(2)
    vector = numpy.asarray(gravity, dtype=float)
    return float(numpy.linalg.norm(vector)), vector[:2]


def flight_factor(pull):
    """How much longer and higher a flight is than usual; exactly 1 for usual gravity."""
    if abs(pull - USUAL) < 1e-3:
        return 1.0
    return min(LONGEST, max(1 / LONGEST, USUAL / max(pull, 1e-3)))


def stretch_flights(assets_folder, clip, times, options, longer):
    """Clip times at which flight passes `longer` times as slowly."""
    if len(times) < 2 or times[-1] <= times[0]:
        return times
    grid = numpy.linspace(times[0], times[-1] * max(1.0, 1 / longer) + 1.0, len(times) * 8)
    flying = motion.sample(assets_folder, clip, grid, **options).clearance > 0.01
    shown = numpy.concatenate([[0.0], numpy.cumsum(numpy.diff(grid) * numpy.where(flying[1:], longer, 1.0))])
    return numpy.interp(times - times[0], shown, grid)


def drift(flying, sideways, step):
    """How far tilted gravity has carried the person at each frame [T, 2]; `step` is a frame's seconds."""
    offset, speed = numpy.zeros((len(flying), 2)), numpy.zeros(2)
    if not sideways.any():
        return offset
    slip = sideways / USUAL * SLIP
    for frame in range(1, len(flying)):
        speed = speed + sideways * step if flying[frame] else slip
        offset[frame] = offset[frame - 1] + speed * step
    return offset


def hops(frames, fps, pull):
    """Heights [T] of a person who is thrown up by each step, because the ground pulls too little."""
    speed = HOP_SPEED * (1 - pull / USUAL)
    if speed <= 0.05:
        return numpy.zeros(frames)
    seconds = numpy.arange(frames) / fps
    period = 2 * speed / max(pull, 1e-3)
    inside = seconds - numpy.floor(seconds / period) * period if math.isfinite(period) else seconds
    return speed * inside - 0.5 * pull * inside**2
