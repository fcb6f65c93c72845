"""Where objects without physics stand and how they move: configurations enter, poses [frames, 4, 4] leave.

Nothing starts inside another thing or below the floor: objects that would overlap are moved apart along the floor.
"""

import math

import numpy as np
from mathutils import Euler, Matrix

SEPARATION_ROUNDS = 80


def rotation_of(value):
    """The configured rotation as [3, 3]."""
    return np.array(Euler([math.radians(angle) for angle in value["rotation_deg"]]).to_matrix())


def rest_height(points, rotation):
    """The height of the object's origin when its lowest point touches the floor."""
    return float(-(points @ rotation.T)[:, 2].min())


def resting_poses(items, heights=None):
    """The pose [4, 4] of each object at rest, apart from each other; `heights` adds to the resting heights."""
    poses, radii, spans = [], [], []
    for index, item in enumerate(items):
        value = item.configuration
        pose = np.eye(4)
        pose[:3, :3] = rotation_of(value)
        turned = item.local @ pose[:3, :3].T
        lift = value["position"][2] if heights is None else heights[index]
        base = _base_height(item, pose[:3, :3])
        pose[:3, 3] = (value["position"][0], value["position"][1], base + max(lift, 0.0))
        poses.append(pose)
        tumbles = value["motion"]["kind"] == "spin" and value["motion"]["axis"] != "z"
        radii.append(float(np.linalg.norm(item.local if tumbles else turned[:, :2], axis=1).max()))
        spans.append((pose[2, 3] + turned[:, 2].min(), pose[2, 3] + turned[:, 2].max()))
    places = _separated(np.array([pose[:2, 3] for pose in poses]).reshape(-1, 2), np.array(radii), np.array(spans))
    for pose, (x, y) in zip(poses, places):
        pose[0, 3], pose[1, 3] = x, y
    return poses


def moving_poses(items, frames, span):
    """Poses [span, 4, 4] for each item: still, spinning, orbiting or bobbing over `frames` frames."""
    starts = resting_poses(items)
    rings = _orbits(items, starts)
    return [_motion(item, start, ring, frames, span) for item, start, ring in zip(items, starts, rings)]


def turn(axis, angle):
    """A rotation [3, 3] around a world axis."""
    return np.array(Matrix.Rotation(angle, 3, axis.upper()))


def _base_height(item, rotation):
    motion = item.configuration["motion"]
    if motion["kind"] == "spin" and motion["axis"] != "z":
        # Tumbling in place: high enough for every angle, so that no corner goes through the floor.
        return max(
            rest_height(item.local, turn(motion["axis"], math.radians(angle)) @ rotation) for angle in range(0, 360, 10)
        )
    return rest_height(item.local, rotation)


def _separated(places, radii, spans):
    places = places.copy()
    count = len(places)
    if count < 2:
        return places
    overlap_in_height = (spans[:, None, 0] < spans[None, :, 1]) & (spans[None, :, 0] < spans[:, None, 1])
    needed = (radii[:, None] + radii[None, :]) * 1.02
    angles = np.arange(count) * 2.399963  # the golden angle: a direction for objects that start at the very same place
    for _ in range(SEPARATION_ROUNDS + 2 * count):
        offset = places[:, None] - places[None, :]
        distance = np.linalg.norm(offset, axis=2)
        short = np.where(overlap_in_height & ~np.eye(count, dtype=bool), np.maximum(needed - distance, 0), 0)
        if short.max() < 1e-4 * radii.max():
            break
        same = distance < 1e-9
        fallback = np.stack((np.cos(angles), np.sin(angles)), axis=1)
        sign = np.sign(np.arange(count)[:, None] - np.arange(count)[None, :])
        direction = np.where(
            same[..., None], fallback[:, None] * sign[..., None], offset / np.maximum(distance, 1e-9)[..., None]
        )
        # Half to each, and a little more, as a crowd settles slowly otherwise.
        places += (direction * short[..., None] * 0.52).sum(1)
    return places


def _orbits(items, starts):
    """The radius of each orbiting object's ring: outside all that stands still, each orbit outside the one before."""

    def reach(index):
        return float(np.linalg.norm((items[index].local @ starts[index][:3, :3].T)[:, :2], axis=1).max())

    movers = [index for index, item in enumerate(items) if item.configuration["motion"]["kind"] == "orbit"]
    still = [index for index in range(len(items)) if index not in movers]
    edge = max((np.linalg.norm(starts[index][:2, 3]) + reach(index) for index in still), default=0.0)
    rings = [0.0] * len(items)
    for index in sorted(movers, key=lambda index: float(np.linalg.norm(starts[index][:2, 3]))):
        radius = reach(index)
        wanted = float(np.linalg.norm(starts[index][:2, 3]))
        rings[index] = max(wanted, edge + radius * 1.05 if edge > 0 else radius * 1.2)
        edge = rings[index] + radius
    return rings


def _motion(item, start, ring, frames, span):
    motion = item.configuration["motion"]
    poses = np.repeat(start[None], span, axis=0)
    size = max(item.size)
    first_angle = math.atan2(start[1, 3], start[0, 3])
    for frame in range(span):
        angle = 2 * math.pi * motion["turns"] * frame / max(frames, 1)
        if motion["kind"] == "spin":
            poses[frame, :3, :3] = turn(motion["axis"], angle) @ start[:3, :3]
        elif motion["kind"] == "orbit":
            poses[frame, :3, :3] = turn("z", angle) @ start[:3, :3]
            poses[frame, :2, 3] = (ring * math.cos(first_angle + angle), ring * math.sin(first_angle + angle))
        elif motion["kind"] == "bob":
            poses[frame, 2, 3] += 0.3 * size * (1 - math.cos(angle)) / 2
    return poses
