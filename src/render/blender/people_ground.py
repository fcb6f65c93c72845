"""Standing on the floor: lifts a retargeted person so that what touched the floor in the motion touches z = 0.

In:  bone matrices of a person whose pelvis follows the motion's path, and the track, which knows when it touches.
Out: the same matrices, moved up or down smoothly, with the legs bent or stretched by the centimetres that remain.

A person's proportions are not the motion's, so no single offset fits all frames. In flight nothing touches: the offset
then goes evenly from the last contact's to the next one's, and the flight keeps its arc.
"""

import numpy

import motion
import people_body
import people_rig

SETTLE = 0.05  # seconds over which the offset is smoothed: less and the pelvis twitches at each heel strike
REACH = 0.07  # metres that a leg may be stretched down to a floor it should touch
SLACK = 0.004  # metres of sinking that are left, where hands or the back touch
CONTACT = 0.02  # metres above the floor within which a foot stands on it
STILL = 0.7  # metres a second: a foot that is faster is on its way


def ground(body, pieces, matrices, root, track, fps):
    """Changes `matrices` [T, B, 4, 4] and `root` [T, 3] in place."""
    feet = {side: sole(body, pieces["shoes"], side) for side in ("left", "right")}
    bottoms = {side: deform(*points, matrices)[..., 2].min(axis=1) for side, points in feet.items()}
    lowest = lowest_points(pieces, matrices)
    touching = {side: heights < motion.TOUCH for side, heights in track.foot_heights.items()}
    grounded = track.clearance <= 0
    shift(matrices, root, smooth(spread(wanted_lift(bottoms, touching, lowest), grounded), SETTLE * fps))
    for side, points in feet.items():
        bottom = deform(*points, matrices)[..., 2].min(axis=1)
        near = numpy.clip((motion.TOUCH + 0.02 - track.foot_heights[side]) / 0.02, 0.0, 1.0) * grounded
        bend_leg(body, matrices, side, numpy.where(bottom < 0, -bottom, -numpy.minimum(bottom, REACH) * near), track)
    sunk = numpy.maximum(-lowest_points(pieces, matrices) - SLACK, 0.0)
    shift(matrices, root, numpy.maximum(sunk, smooth(sunk, SETTLE * fps)))


def wanted_lift(bottoms, touching, lowest):
    """How far up each frame has to go by itself: by the feet that stand, else by whatever is lowest."""
    standing = numpy.stack([touching["left"], touching["right"]])
    heights = numpy.stack([bottoms["left"], bottoms["right"]])
    count = standing.sum(axis=0)
    by_feet = (heights * standing).sum(axis=0) / numpy.maximum(count, 1)
    others = lowest < heights.min(axis=0) - 0.01  # a hand or the back is below the feet
    return -numpy.where((count > 0) & ~others, by_feet, lowest)


def spread(values, known):
    """The values where known, straight lines between."""
    if not known.any():
        return numpy.full(len(values), values.max())
    frames = numpy.arange(len(values))
    return numpy.interp(frames, frames[known], values[known])


def smooth(values, deviation):
    """A Gaussian mean over frames; the ends are continued as they are."""
    reach = max(1, int(3 * deviation))
    kernel = numpy.exp(-0.5 * (numpy.arange(-reach, reach + 1) / max(deviation, 1e-6)) ** 2)
    return numpy.convolve(numpy.pad(values, reach, mode="edge"), kernel / kernel.sum(), mode="valid")


def shift(matrices, root, lift):
    matrices[:, :, 2, 3] += lift[:, None]
    root[:, 2] += lift


def bend_leg(body, matrices, side, raised, track):
    """Moves an ankle up by `raised` [T] metres, knee and hip giving way; the foot keeps its direction."""
    names = [f"{bone}_{side[0]}" for bone in ("thigh", "calf", "foot", "ball")]
    thigh, calf, foot, ball = (body.bone_names.index(name) for name in names)
    hip, knee, ankle = (place(matrices[:, index], body.heads[name]) for index, name in zip((thigh, calf, foot), names))
    upper = numpy.linalg.norm(knee - hip, axis=1)
    lower = numpy.linalg.norm(ankle - knee, axis=1)
    goal = ankle + raised[:, None] * [0.0, 0.0, 1.0]
    way = goal - hip
    length = numpy.linalg.norm(way, axis=1)
    longest = numpy.maximum((upper + lower) * 0.9995, numpy.linalg.norm(ankle - hip, axis=1))
    allowed = numpy.clip(length, numpy.abs(upper - lower) + 0.01, longest)
    way = way / length[:, None]
    goal = hip + way * allowed[:, None]
    hinge = track.rotations[f"{side}_hip"] @ people_rig.RIGHT
    forward = numpy.cross(hinge, way)
    forward /= numpy.maximum(numpy.linalg.norm(forward, axis=1, keepdims=True), 1e-9)
    cosine = numpy.clip((upper**2 + allowed**2 - lower**2) / (2 * upper * allowed), -1.0, 1.0)
    bent = hip + upper[:, None] * (cosine[:, None] * way + numpy.sqrt(1 - cosine**2)[:, None] * forward)
    moved = numpy.abs(raised) > 1e-5
    turn_about(matrices, thigh, arcs(knee - hip, bent - hip), hip, hip, moved)
    turn_about(matrices, calf, arcs(ankle - knee, goal - bent), knee, bent, moved)
    for index in (foot, ball):
        matrices[moved, index, :3, 3] += (goal - ankle)[moved]


def place(matrices, point):
    return matrices[:, :3, :3] @ point + matrices[:, :3, 3]


def turn_about(matrices, index, turns, old, new, moved):
    """Turns a bone about a point of it that goes from `old` to `new`."""
    chosen = matrices[moved, index]
    offset = chosen[:, :3, 3] - old[moved]
    matrices[moved, index, :3, :3] = turns[moved] @ chosen[:, :3, :3]
    matrices[moved, index, :3, 3] = numpy.einsum("tij,tj->ti", turns[moved], offset) + new[moved]


def arcs(start, end):
    """The smallest rotations [T, 3, 3] between directions [T, 3]."""
    start = start / numpy.linalg.norm(start, axis=1, keepdims=True)
    end = end / numpy.linalg.norm(end, axis=1, keepdims=True)
    axis = numpy.cross(start, end)
    sine = numpy.linalg.norm(axis, axis=1)
    angle = numpy.arctan2(sine, numpy.sum(start * end, axis=1))
    return people_rig.turned(axis / numpy.maximum(sine, 1e-9)[:, None], angle)


def lowest_points(pieces, matrices):
    """The lowest point of the person at each frame. Shoes count in full, the rest by every sixth vertex."""
    points = numpy.concatenate([piece.points[::1 if part == "shoes" else 6] for part, piece in pieces.items()])
    weights = numpy.concatenate([piece.weights[::1 if part == "shoes" else 6] for part, piece in pieces.items()])
    return deform(points, weights, matrices)[..., 2].min(axis=1)


def sole(body, shoes, side):
    """Points and weights of a shoe's lower half."""
    mine = shoes.points[:, 0] * (1 if side == "left" else -1) > 0
    low = mine & (shoes.points[:, 2] < 0.6 * body.heads["foot_l"][2])
    return shoes.points[low], shoes.weights[low]


def deform(points, weights, matrices):
    """Skinning with dense weights [N, B]."""
    indices = numpy.argsort(-weights, axis=1, kind="stable")[:, :4]
    shares = numpy.take_along_axis(weights, indices, axis=1)
    return people_body.skin(points, indices, shares / shares.sum(axis=1, keepdims=True), matrices)


def foot_contacts(body, shoes, matrices, fps):
    """(frame, "left_foot" | "right_foot", point) for every frame in which that foot stands on the floor."""
    contacts = []
    for side in ("left", "right"):
        moved = deform(*sole(body, shoes, side), matrices)
        speed = numpy.linalg.norm(numpy.gradient(moved, axis=0), axis=2) * fps if len(moved) > 1 else moved[..., 2] * 0
        for frame, points in enumerate(moved):
            down = (points[:, 2] < CONTACT) & (speed[frame] < STILL)
            if down.any():
                near = points[down & (points[:, 2] < points[down, 2].min() + 0.006)]
                contacts.append((frame, f"{side}_foot", [float(value) for value in near.mean(axis=0)]))
    return sorted(contacts)
