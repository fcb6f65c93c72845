"""Motion clips: sampling, looping, mirroring, and the rotation of every limb in Blender's axes.

In:  motions/*.json and people/skeleton.json of the assets. A clip's frame is DeepMimic's: duration, root position, root
     quaternion, then one rotation per joint (w x y z; knees and elbows a single angle about the lateral axis), Y up,
     facing +X, and the zero pose stands upright with hanging arms.
Out: `Track`: for each asked time the world rotation of every limb relative to that zero pose, the root's path, and how
     high the lowest point of the motion's own body is above the floor. Z up, facing -Y, metres of the motion's body.
"""

import functools
import json
import os
from dataclasses import dataclass

import numpy

# A phrase that follows "a person is …", per clip.
PHRASES = {
    "walk": "walking", "run": "running", "jump": "jumping forward", "dance_a": "dancing with swinging arms",
    "dance_b": "dancing on the spot", "cartwheel": "doing a cartwheel", "backflip": "doing a backflip",
    "kick": "doing a high kick", "spinkick": "doing a jumping spin kick", "punch": "throwing a punch",
    "roll": "doing a forward roll", "spin": "leaping into a horizontal spin", "crawl": "crawling on the stomach",
    "getup_facedown": "getting up from lying face down", "getup_faceup": "getting up from lying on the back",
}
ALIASES = {"dance": "dance_a", "getup": "getup_faceup"}

# Clips that repeat, with the root's motion carried on: the seconds over which the end is eased into the start.
LOOPS = {"walk": 0.15, "run": 0.12, "jump": 0.2, "dance_a": 0.2, "dance_b": 0.2, "cartwheel": 0.25, "backflip": 0.2,
         "spin": 0.2, "spinkick": 0.3, "crawl": 0.35, "roll": 0.45, "kick": 0.5, "punch": 0.5}
CYCLIC = frozenset({"walk", "run", "crawl"})
HELD = frozenset(PHRASES) - frozenset(LOOPS)  # stop in their last pose

# Feet leave the floor together in these: height above the floor is kept. In all others something touches all the time.
AIRBORNE = frozenset({"run", "jump", "backflip", "spinkick", "spin", "dance_a", "dance_b", "kick", "cartwheel"})
# How far the fingers close, 0 straight to 1 a fist; hands that carry weight are flat.
GRIPS = {"punch": 0.95, "kick": 0.75, "spinkick": 0.6, "run": 0.5, "cartwheel": 0.05, "backflip": 0.1, "roll": 0.15,
         "crawl": 0.3, "getup_facedown": 0.1, "getup_faceup": 0.15}
RELAXED = 0.28
TOUCH = 0.03  # metres: captured bodies hover by as much while they stand

# Joint -> (first column of its rotation, quaternion or angle).
COLUMNS = {"root": 4, "chest": 8, "neck": 12, "right_hip": 16, "right_knee": 20, "right_ankle": 21,
           "right_shoulder": 25, "right_elbow": 29, "left_hip": 30, "left_knee": 34, "left_ankle": 35,
           "left_shoulder": 39, "left_elbow": 43}
HINGES = frozenset({"right_knee", "right_elbow", "left_knee", "left_elbow"})

# Motion axes (forward, up, right) as columns in Blender's (the body faces -Y, its right is -X).
TO_BLENDER = numpy.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@dataclass
class Track:
    """A clip sampled at T times."""

    rotations: dict  # joint name -> [T, 3, 3] world rotation relative to the upright pose with hanging arms
    root: numpy.ndarray  # [T, 3] position of the pelvis's centre, starting at x = y = 0
    clearance: numpy.ndarray  # [T] height of the lowest point above the floor
    foot_heights: dict  # "left", "right" -> [T] height of that sole's lowest point
    leg_length: float  # of the motion's own body, hip to sole


def names(folder):
    """The clips that the assets hold."""
    motions = os.path.join(folder, "motions")
    if not os.path.isdir(motions):
        raise RuntimeError(f"{motions}: no such folder; unpack the renderer's assets there")
    return sorted(name[:-len(".json")] for name in os.listdir(motions) if name.endswith(".json"))


@functools.lru_cache(maxsize=32)
def load_clip(folder, name):
    """Times [N] and frames [N, 44] of a clip."""
    path = os.path.join(folder, "motions", f"{ALIASES.get(name, name)}.json")
    try:
        with open(path, encoding="utf-8") as file:
            frames = numpy.array(json.load(file)["frames"], dtype=float)
    except OSError as error:
        known = ", ".join(names(folder))
        raise ValueError(f"person.motion.clip: no clip {name!r} at {path}; there are {known}") from error
    times = numpy.concatenate([[0.0], numpy.cumsum(frames[:-1, 0])])
    keep = numpy.concatenate([numpy.diff(times) > 1e-6, [True]])
    frames, times = frames[keep], times[keep]
    for name_, column in COLUMNS.items():
        if name_ not in HINGES:
            frames[:, column:column + 4] = continuous(normalise(frames[:, column:column + 4]))
    return times, frames


@functools.lru_cache(maxsize=2)
def load_skeleton(folder):
    path = os.path.join(folder, "people", "skeleton.json")
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)["joints"]
    except (OSError, ValueError, KeyError) as error:
        raise RuntimeError(f"{path}: cannot be read ({error}); unpack the renderer's assets again") from error


def sample(folder, name, times, heading=0.0, mirror=False):
    """The clip at `times` (seconds, any not negative). `heading` turns everything about Z, in radians."""
    name = ALIASES.get(name, name)
    clip_times, frames = load_clip(folder, name)
    if name in LOOPS:
        frames = ease_into_start(clip_times, frames, LOOPS[name])
        poses = sample_loop(clip_times, frames, numpy.asarray(times, dtype=float))
    else:
        poses = interpolate(clip_times, frames, numpy.clip(times, 0.0, clip_times[-1]))
    if mirror:
        poses = mirrored(poses)
    skeleton = load_skeleton(folder)
    rotations, bottoms = forward(skeleton, poses)
    lowest = numpy.min(list(bottoms.values()), axis=0)
    start = yaw_matrix(-facing(folder, name, mirror))
    turn = heading_matrix(heading) @ TO_BLENDER @ start
    root = poses[:, 1:4] @ turn.T
    root[:, :2] -= root[0, :2]
    return Track(
        rotations={joint: turn @ rotation @ TO_BLENDER.T for joint, rotation in rotations.items()},
        root=root,
        clearance=numpy.maximum(lowest - TOUCH, 0.0) if name in AIRBORNE else numpy.zeros(len(poses)),
        foot_heights={side: bottoms[f"{side}_ankle"] for side in ("left", "right")},
        leg_length=leg_length(skeleton),
    )


@functools.lru_cache(maxsize=64)
def facing(folder, name, mirror):
    """The yaw of the clip's first pose where it is far from straight ahead; small angles are part of the gait."""
    _, frames = load_clip(folder, name)
    pose = mirrored(frames[:1]) if mirror else frames[:1]
    yaw = yaw_angle(pose[:, 4:8])[0]
    return float(yaw) if abs(yaw) > 0.5 else 0.0


# Time


def sample_loop(times, frames, wanted):
    """Repeats the clip; each round starts where the last one ended, turned as it ended."""
    duration = times[-1]
    rounds = numpy.floor(wanted / duration)
    poses = interpolate(times, frames, wanted - rounds * duration)
    turn = wrap_angle(yaw_angle(frames[-1:, 4:8])[0] - yaw_angle(frames[:1, 4:8])[0])
    turn = turn if abs(turn) > 0.35 else 0.0  # a gait that wobbles by some degrees goes straight on
    step = frames[-1, 1:4] - yaw_matrix(turn) @ frames[0, 1:4]
    step[1] = 0.0
    position, angle = numpy.zeros(3), 0.0
    for number in range(int(rounds.max()) + 1):
        inside = rounds == number
        poses[inside, 1:4] = poses[inside, 1:4] @ yaw_matrix(angle).T + position
        poses[inside, 4:8] = multiply(yaw_quaternion(angle), poses[inside, 4:8])
        position = yaw_matrix(angle) @ step + position
        angle += turn
    return poses


def ease_into_start(times, frames, seconds):
    """Spreads the jump from the last pose to the first one over the clip's last seconds. The root keeps its path."""
    first, last = frames[:1], frames[-1:]
    seconds = min(seconds, times[-1] / 2)
    share = numpy.clip((times - (times[-1] - seconds)) / seconds, 0.0, 1.0)
    share = share * share * (3 - 2 * share)
    result = frames.copy()
    result[:, 2] += share * (first[0, 2] - last[0, 2])
    for joint, column in COLUMNS.items():
        if joint in HINGES:
            result[:, column] += share * (first[0, column] - last[0, column])
            continue
        start, end = first[:, column:column + 4], last[:, column:column + 4]
        if joint == "root":
            start = multiply(yaw_quaternion(yaw_angle(end)[0] - yaw_angle(start)[0]), start)
        change = shortest(multiply(start, conjugate(end)))
        identity = numpy.array([[1.0, 0.0, 0.0, 0.0]])
        result[:, column:column + 4] = multiply(slerp(identity, change, share), frames[:, column:column + 4])
    return result


def interpolate(times, frames, wanted):
    right = numpy.clip(numpy.searchsorted(times, wanted, side="right"), 1, len(times) - 1)
    left = right - 1
    share = numpy.clip((wanted - times[left]) / (times[right] - times[left]), 0.0, 1.0)
    poses = frames[left] * (1 - share[:, None]) + frames[right] * share[:, None]
    for joint, column in COLUMNS.items():
        if joint not in HINGES:
            part = slice(column, column + 4)
            poses[:, part] = slerp(frames[left, part], frames[right, part], share)
    return poses


def mirrored(poses):
    """Left and right swapped: a reflection of the lateral axis."""
    result = poses.copy()
    result[:, 3] *= -1
    for joint, column in COLUMNS.items():
        other = swap_side(joint)
        width = 1 if joint in HINGES else 4
        values = poses[:, COLUMNS[other]:COLUMNS[other] + width].copy()
        if width == 4:
            values[:, 1:3] *= -1
        result[:, column:column + width] = values
    return result


def swap_side(name):
    if "right" in name:
        return name.replace("right", "left")
    return name.replace("left", "right")


# The motion's own body


def forward(skeleton, poses):
    """World rotations of every joint [T, 3, 3] and the lowest height of its collision shape [T], in motion axes."""
    rotations, positions, bottoms = {}, {}, {}
    for joint in skeleton:
        name, parent, offset = joint["name"], joint["parent"], numpy.array(joint["offset"])
        if parent is None:
            rotations[name] = matrices(poses[:, 4:8])
            positions[name] = poses[:, 1:4]
        else:
            rotations[name] = rotations[parent] @ joint_rotation(name, poses)
            positions[name] = positions[parent] + rotations[parent] @ offset
        bottoms[name] = shape_bottom(joint["shape"], rotations[name], positions[name])
    return rotations, bottoms


def joint_rotation(name, poses):
    if name not in COLUMNS:
        return numpy.broadcast_to(numpy.eye(3), (len(poses), 3, 3))
    column = COLUMNS[name]
    if name not in HINGES:
        return matrices(poses[:, column:column + 4])
    half = poses[:, column] / 2
    zero = numpy.zeros_like(half)
    return matrices(numpy.stack([numpy.cos(half), zero, zero, numpy.sin(half)], axis=-1))


def shape_bottom(shape, rotation, position):
    """The lowest point of a sphere, a capsule (along its own Y axis) or a box."""
    centre = position + rotation @ numpy.array(shape["offset"])
    if shape["kind"] == "box":
        return centre[:, 1] - numpy.abs(rotation[:, 1, :]) @ (numpy.array(shape["size"]) / 2)
    half = shape.get("length", 0.0) / 2
    return centre[:, 1] - numpy.abs(rotation[:, 1, 1]) * half - shape["radius"]


def leg_length(skeleton):
    joints = {joint["name"]: joint for joint in skeleton}
    ankle = joints["right_ankle"]
    sole = ankle["shape"]["size"][1] / 2 - ankle["shape"]["offset"][1]
    return abs(joints["right_knee"]["offset"][1]) + abs(ankle["offset"][1]) + sole


# Rotations: quaternions are w x y z in the last axis


def normalise(quaternions):
    return quaternions / numpy.linalg.norm(quaternions, axis=-1, keepdims=True)


def continuous(quaternions):
    """Signs chosen so that neighbours are on the same half of the sphere."""
    signs = numpy.sign(numpy.sum(quaternions[1:] * quaternions[:-1], axis=-1))
    signs[signs == 0] = 1
    return quaternions * numpy.concatenate([[1.0], numpy.cumprod(signs)])[:, None]


def shortest(quaternions):
    return quaternions * numpy.where(quaternions[..., :1] < 0, -1.0, 1.0)


def conjugate(quaternions):
    return quaternions * numpy.array([1.0, -1.0, -1.0, -1.0])


def multiply(a, b):
    aw, ax, ay, az = numpy.moveaxis(numpy.broadcast_to(a, numpy.broadcast_shapes(a.shape, b.shape)), -1, 0)
    bw, bx, by, bz = numpy.moveaxis(b, -1, 0)
    return numpy.stack([aw * bw - ax * bx - ay * by - az * bz, aw * bx + ax * bw + ay * bz - az * by,
                        aw * by - ax * bz + ay * bw + az * bx, aw * bz + ax * by - ay * bx + az * bw], axis=-1)


def slerp(a, b, share):
    """Spherical interpolation row by row, the short way round."""
    share = numpy.asarray(share)[..., None]
    a, b = numpy.broadcast_arrays(a, b)
    dot = numpy.sum(a * b, axis=-1, keepdims=True)
    b = numpy.where(dot < 0, -b, b)
    angle = numpy.arccos(numpy.clip(numpy.abs(dot), 0.0, 1.0))
    near = angle < 1e-4
    sine = numpy.where(near, 1.0, numpy.sin(angle))
    left = numpy.where(near, 1 - share, numpy.sin((1 - share) * angle) / sine)
    right = numpy.where(near, share, numpy.sin(share * angle) / sine)
    return normalise(left * a + right * b)


def matrices(quaternions):
    w, x, y, z = numpy.moveaxis(quaternions, -1, 0)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    return numpy.stack(rows, axis=-1).reshape(quaternions.shape[:-1] + (3, 3))


def yaw_angle(quaternions):
    """The turn about the up axis (motion's Y), from where the forward axis points."""
    forward_axis = matrices(quaternions)[..., :, 0]
    return numpy.arctan2(-forward_axis[..., 2], forward_axis[..., 0])


def yaw_quaternion(angle):
    return numpy.array([[numpy.cos(angle / 2), 0.0, numpy.sin(angle / 2), 0.0]])


def yaw_matrix(angle):
    return matrices(yaw_quaternion(angle))[0]


def heading_matrix(angle):
    """A turn about Blender's Z."""
    cosine, sine = numpy.cos(angle), numpy.sin(angle)
    return numpy.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def wrap_angle(angle):
    return (angle + numpy.pi) % (2 * numpy.pi) - numpy.pi
