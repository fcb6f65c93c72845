"""Retargeting: a motion track on a body's joints, and the armature that plays it.

In:  a `Body` at rest and a `Track` (limb rotations relative to an upright pose with hanging arms).
Out: bone matrices [T, B, 4, 4] from the rest mesh to each frame (for numpy skinning), and a Blender armature whose pose
     keyframes give the same matrices. Joints never stretch: only the pelvis is moved.
"""

import numpy

import motion

# Bone -> the motion's joint that turns it. Fingers follow the hand; a chest or neck joint is spread over several bones.
DRIVERS = {"pelvis": "root", "spine_03": "chest", "head": "neck"}
for _side, _name in (("l", "left"), ("r", "right")):
    DRIVERS.update({f"clavicle_{_side}": "chest", f"upperarm_{_side}": f"{_name}_shoulder",
                    f"lowerarm_{_side}": f"{_name}_elbow", f"hand_{_side}": f"{_name}_elbow",
                    f"thigh_{_side}": f"{_name}_hip", f"calf_{_side}": f"{_name}_knee",
                    f"foot_{_side}": f"{_name}_ankle", f"ball_{_side}": f"{_name}_ankle"})
SPREAD = {"spine_01": ("root", "chest", 1 / 3), "spine_02": ("root", "chest", 2 / 3), "neck_01": ("chest", "neck", 0.5)}

DOWN = numpy.array([0.0, 0.0, -1.0])
FRONT = numpy.array([0.0, -1.0, 0.0])
RIGHT = numpy.array([-1.0, 0.0, 0.0])  # the axis about which elbows bend forward
CURL = 1.25  # radians that each joint of a finger bends in a fist
TOE_LIMIT = 0.9  # radians
CLAVICLE_SHARE = 0.3  # of the upper arm's rise above the horizontal; a raised arm lifts its shoulder


def bone_matrices(body, track, root, grip):
    """[T, B, 4, 4], bones in the body's order. `root` [T, 3] is where the pelvis's joint goes, `grip` closes hands."""
    turns = bone_turns(body, track)
    turns.update(finger_turns(body, turns, grip))
    result = numpy.zeros((len(root), len(body.bones), 4, 4))
    result[..., 3, 3] = 1.0
    placed = {}
    for index, bone in enumerate(body.bones):
        name, parent = bone["name"], bone["parent"]
        head = body.heads[name]
        turn = turns[name] if name in turns else placed[parent][0]
        if parent is None:
            position = root
        else:
            parent_turn, parent_position = placed[parent]
            position = parent_position + parent_turn @ (head - body.heads[parent])
        placed[name] = (turn, position)
        result[:, index, :3, :3] = turn
        result[:, index, :3, 3] = position - turn @ head
    return result


def bone_turns(body, track):
    """World rotation of every driven bone relative to its rest, [T, 3, 3]."""
    zero = zero_pose(body)
    turns = {bone: track.rotations[joint] @ zero.get(bone, numpy.eye(3)) for bone, joint in DRIVERS.items()}
    for bone, (start, end, share) in SPREAD.items():
        turns[bone] = halfway(track.rotations[start], track.rotations[end], share)
    for side, name in (("l", "left"), ("r", "right")):
        arm = clear_torso(body, side, track.rotations["chest"], track.rotations[f"{name}_shoulder"])
        moved = arm @ numpy.swapaxes(track.rotations[f"{name}_shoulder"], 1, 2)
        for bone in (f"upperarm_{side}", f"lowerarm_{side}", f"hand_{side}"):
            turns[bone] = moved @ turns[bone]
        turns[f"ball_{side}"] = (track.rotations[f"{name}_ankle"] @ toe_bend(track, name)) @ zero[f"ball_{side}"]
        turns[f"clavicle_{side}"] = lift_clavicle(side, track.rotations["chest"], arm)
    return turns


def zero_pose(body):
    """Rotations that bring the resting limbs to the motion's zero pose: legs straight, arms hanging, feet forward."""
    zero = {}
    for side in ("l", "r"):
        shoulder, elbow, wrist = (body.heads[f"{bone}_{side}"] for bone in ("upperarm", "lowerarm", "hand"))
        hip, knee, ankle = (body.heads[f"{bone}_{side}"] for bone in ("thigh", "calf", "foot"))
        fold = numpy.cross(elbow - shoulder, wrist - elbow)  # the resting arm is bent, so its hinge is known
        zero[f"upperarm_{side}"] = aligning(elbow - shoulder, fold)
        zero[f"lowerarm_{side}"] = zero[f"hand_{side}"] = aligning(wrist - elbow, fold)
        zero[f"thigh_{side}"] = aligning(knee - hip, RIGHT)
        zero[f"calf_{side}"] = aligning(ankle - knee, RIGHT)
        zero[f"foot_{side}"] = zero[f"ball_{side}"] = straight_foot(body.heads[f"ball_{side}"] - ankle)
    return zero


def aligning(direction, hinge):
    """The rotation that takes a limb's direction to straight down and its hinge to the body's right."""
    return frame(DOWN, RIGHT) @ frame(direction, hinge).T


def frame(direction, hinge):
    """An orthonormal frame [direction, hinge, third] as columns; the hinge is made perpendicular."""
    first = direction / numpy.linalg.norm(direction)
    second = hinge - first * (hinge @ first)
    second = second / numpy.linalg.norm(second)
    return numpy.stack([first, second, numpy.cross(first, second)], axis=1)


def straight_foot(direction):
    angle = numpy.arctan2(FRONT[1], FRONT[0]) - numpy.arctan2(direction[1], direction[0])
    return motion.heading_matrix(angle)


def clear_torso(body, side, chest, arm):
    """The upper arm turned outward where it would hang into wide hips or a wide chest; least when it is raised."""
    sign = 1.0 if side == "l" else -1.0
    angle = hanging_angle(body, side)
    hanging = numpy.clip(numpy.einsum("ti,ti->t", arm @ DOWN, chest @ DOWN), 0.0, 1.0) ** 2
    outward = numpy.einsum("ti,ti->t", arm @ DOWN, chest @ (RIGHT * -sign))
    needed = numpy.clip(angle - numpy.arcsin(numpy.clip(outward, -1, 1)), 0.0, 0.7) * hanging
    axis = chest @ numpy.array([0.0, -1.0, 0.0]) * sign  # turning about the front axis swings the hand outward
    return turned(axis, needed) @ arm


def hanging_angle(body, side):
    """How far an arm has to stand out so that the hand clears the hips."""
    shoulder, hip = body.heads[f"upperarm_{side}"], body.heads[f"thigh_{side}"]
    first, last = 0, 13379
    points = body.vertices[first:last + 1]
    legs = numpy.isin(body.bone_indices[first:last + 1, 0],
                      [body.bone_names.index(name) for name in ("pelvis", "spine_01", "thigh_l", "thigh_r")])
    near = legs & (points[:, 2] > hip[2] - 0.15) & (points[:, 2] < hip[2] + 0.15)
    width = numpy.abs(points[near, 0]).max()
    arm = shoulder[2] - hip[2]
    return float(numpy.arctan2(width + 0.055 - abs(shoulder[0]), arm))


def lift_clavicle(side, chest, arm):
    up = numpy.einsum("ti,ti->t", arm @ DOWN, chest @ -DOWN)
    rise = numpy.clip(numpy.arcsin(numpy.clip(up, -1, 1)) + 0.5, 0.0, 1.6) * CLAVICLE_SHARE
    sign = 1.0 if side == "l" else -1.0
    return turned(chest @ numpy.array([0.0, -1.0, 0.0]) * sign, rise) @ chest


def toe_bend(track, side):
    """Toes stay flat on the floor while the heel rises."""
    forward = track.rotations[f"{side}_ankle"] @ FRONT
    pitch = numpy.arcsin(numpy.clip(-forward[:, 2], -1, 1))
    near = numpy.clip(1.5 - track.foot_heights[side] / 0.04, 0.0, 1.0)
    bend = numpy.clip(pitch, 0.0, TOE_LIMIT) * near
    return turned(numpy.broadcast_to(RIGHT, (len(bend), 3)), bend)


def finger_turns(body, turns, grip):
    """Fingers brought together and curled about the hand's own hinge, the same in every frame."""
    result = {}
    for side in ("l", "r"):
        hand = turns[f"hand_{side}"]
        bones = {finger: [f"{finger}_0{number}_{side}" for number in (1, 2, 3)]
                 for finger in ("index", "middle", "ring", "pinky", "thumb")}
        aims = {name: body.tails[name] - body.heads[name] for names in bones.values() for name in names}
        hinge = sum(numpy.cross(aims[names[0]], aims[names[2]]) for finger, names in bones.items() if finger != "thumb")
        hinge = hinge / numpy.linalg.norm(hinge)
        palm = aims[f"middle_01_{side}"] / numpy.linalg.norm(aims[f"middle_01_{side}"])
        for finger, names in bones.items():
            thumb = finger == "thumb"
            aim = aims[names[0]] / numpy.linalg.norm(aims[names[0]])
            beside = aim * 0.55 + palm * 0.45 if thumb else aim - hinge * (aim @ hinge) * 0.65
            gather = between(aim, beside)
            for number, name in enumerate(names, start=1):
                curl = grip * (CURL * 0.35 if thumb else CURL) * number
                result[name] = hand @ turned(hinge[None], [curl])[0] @ gather
    return result


def between(start, end):
    """The smallest rotation that takes one direction to another."""
    start, end = start / numpy.linalg.norm(start), end / numpy.linalg.norm(end)
    axis = numpy.cross(start, end)
    sine = numpy.linalg.norm(axis)
    if sine < 1e-9:
        return numpy.eye(3)
    return turned((axis / sine)[None], [numpy.arctan2(sine, start @ end)])[0]


def turned(axes, angles):
    """Rotations about unit axes [T, 3] by angles [T]."""
    half = numpy.asarray(angles)[:, None] / 2
    return motion.matrices(numpy.concatenate([numpy.cos(half), numpy.sin(half) * axes], axis=1))


def halfway(start, end, share):
    """Rotations between two rows of rotation matrices."""
    a, b = quaternions(start), quaternions(end)
    return motion.matrices(motion.slerp(a, b, numpy.full(len(a), share)))


def quaternions(rotations):
    """Rotation matrices [..., 3, 3] to w x y z, by the largest of the four components."""
    m = rotations
    i, j, k = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    traces = numpy.stack([i + j + k, i - j - k, j - i - k, k - i - j], axis=-1)
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    t = 1.0 + traces
    options = numpy.stack([
        numpy.stack([t[..., 0], a, b, c], axis=-1), numpy.stack([a, t[..., 1], d, e], axis=-1),
        numpy.stack([b, d, t[..., 2], f], axis=-1), numpy.stack([c, e, f, t[..., 3]], axis=-1)], axis=-2)
    best = numpy.argmax(traces, axis=-1)
    chosen = numpy.take_along_axis(options, best[..., None, None], axis=-2)[..., 0, :]
    return motion.normalise(chosen)
