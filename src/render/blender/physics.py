"""Rigid bodies: objects and the configuration's physics enter, simulated poses and contacts leave.

The simulation runs once, ahead of rendering, at a finer step than the clip's frames, so that no bounce falls between
two frames; rendering then only replays poses. Cloth and fluids are simulated likewise in modules of their own.
"""

import math

import bpy
import numpy as np
from mathutils import Matrix

import cloth
import contact
import fluid
import item
import materials
import placement
from configuration import ConfigurationError, random_for

LAUNCH_STEPS = 3  # steps for which a body is carried at its starting speed before it is let go
STEPS_A_SECOND = 120
DENSITY = 400.0
FLOOR_SIDE = 200.0
RAMP_DEGREES = (20.0, 45.0)
OVERHANG = 0.06  # how far the middle of what tips over lies beyond the edge below, as a share of the lower body's width


def add_physics(clip, objects, gravity):
    """Simulate what the configuration asks for; every object has its poses afterwards."""
    clip.scene.gravity = gravity
    clip.scene.use_gravity = True
    kind = clip.configuration["physics"]["kind"]
    if kind in SETUPS:
        if not objects:
            raise ConfigurationError(f"physics of the kind {kind} needs at least one object")
        bodies, ramp = SETUPS[kind](clip, objects)
        _simulate(clip, objects, bodies, ramp)
        return
    for thing, poses in zip(
        objects, placement.moving_poses(objects, clip.configuration["render"]["frames"], clip.span)
    ):
        thing.poses = np.repeat(poses[:1], clip.span, axis=0)  # an obstacle stands still
    if kind in ("cloth_drop", "flag", "curtain"):
        cloth.add_cloth(clip, objects, kind)
    else:
        fluid.add_fluid(clip, objects, kind)


def sideways(clip):
    """The camera's right at the start, along the floor: what moves crosses the picture."""
    azimuth = math.radians(clip.configuration["camera"]["azimuth_deg"])
    return np.array([math.cos(azimuth), math.sin(azimuth), 0.0])


def _fall(clip, objects):
    chance = random_for(clip.configuration, "fall")
    heights = []
    for thing in objects:
        asked = thing.configuration["position"][2]
        heights.append(asked if asked > 0.05 else max(thing.size) * chance.uniform(0.6, 1.3) + 0.2)
    poses = placement.resting_poses(objects, heights)
    for pose in poses:  # a body that falls flat does not tumble
        tilt = placement.turn("x", chance.uniform(-0.5, 0.5)) @ placement.turn("y", chance.uniform(-0.5, 0.5))
        pose[:3, :3] = tilt @ pose[:3, :3]
    _raise_above_floor(objects, poses)
    return [(pose, None) for pose in poses], None


def _collision(clip, objects):
    physics = clip.configuration["physics"]
    duration = clip.configuration["render"]["frames"] / clip.configuration["render"]["fps"]
    way = sideways(clip)
    poses = placement.resting_poses(objects, [0.0] * len(objects))
    others = poses[1:] or [np.eye(4)]
    target = np.mean([pose[:3, 3] for pose in others], axis=0)
    reach = max(
        (
            np.linalg.norm(pose[:2, 3] - target[:2]) + max(thing.size) * 0.6
            for pose, thing in zip(poses[1:], objects[1:])
        ),
        default=0.0,
    )
    speed = max(physics["speed"], 0.3)
    # A sliding body stops after v² / 2µg; it starts near enough to arrive with most of its speed.
    slide = speed**2 / (2 * max(physics["friction"], 0.05) * max(abs(physics["gravity"]), 0.1))
    gap = min(0.4 * speed * duration, 0.4 * slide) + reach + max(objects[0].size) * 0.6
    poses[0][:2, 3] = (target - way * gap)[:2]
    bodies = [(pose, None) for pose in poses]
    bodies[0] = (poses[0], way * speed)
    if len(objects) > 2:  # and one from the other side
        poses[1][:2, 3] = (target + way * (reach + max(objects[1].size) * 1.2))[:2]
        bodies[1] = (poses[1], -way * speed * 0.7)
    return bodies, None


def _stack(clip, objects):
    """A tower that leans a little too far to stand, and a last body that falls onto it."""
    chance = random_for(clip.configuration, "stack")
    way = sideways(clip) * chance.choice((-1, 1)) + 0.5 * chance.uniform(-1, 1) * _across(sideways(clip))
    way /= np.linalg.norm(way)
    rotations = [placement.rotation_of(thing.configuration) for thing in objects]
    turned = [thing.local @ rotation.T for thing, rotation in zip(objects, rotations)]
    # The last one may bounce off: the others have to topple without it, unless there is only one other.
    standing = max(len(objects) - 1, min(len(objects), 2))
    lean = _lean(turned[:standing], [_mass(thing) for thing in objects[:standing]], way)
    top, bodies = 0.0, []
    for index, (thing, rotation, points) in enumerate(zip(objects, rotations, turned)):
        pose = np.eye(4)
        pose[:3, :3] = rotation
        falling = len(objects) > 1 and index == len(objects) - 1
        gap = 0.35 * max(thing.size) if falling else 0.002
        offset = 0.02 * max(thing.size)
        place = way * lean * min(index, standing - 1) + _across(way) * chance.uniform(-offset, offset)
        pose[:3, 3] = (*place[:2], top + gap - points[:, 2].min())
        top += gap + float(np.ptp(points[:, 2]))
        bodies.append((pose, None))
    return bodies, None


def _lean(turned, masses, way):
    """How far each body has to lie beyond the one below it so that two or more of them tip over an edge."""
    reaches = [(float((points @ way).max()), float(np.ptp(points @ way))) for points in turned]
    lean = 0.0
    while len(turned) > 1:
        for below in range(max(len(turned) - 2, 1)):
            above = np.arange(below + 1, len(turned))
            middle = float(np.average(above * lean, weights=np.array(masses)[above]))
            edge, width = reaches[below]
            if middle > below * lean + edge + OVERHANG * width:
                return lean
        lean += 0.01 * max(width for _, width in reaches)
    return lean


def _across(way):
    """Horizontally to the left of a horizontal direction."""
    return np.array([-way[1], way[0], 0.0])


def _ramp(clip, objects):
    """A wedge across the picture; the objects start side by side near its upper end."""
    way = sideways(clip)
    # Steeper than what friction holds, or nothing would move.
    degrees = math.degrees(math.atan(clip.configuration["physics"]["friction"])) + 12
    angle = math.radians(min(max(degrees, RAMP_DEGREES[0]), RAMP_DEGREES[1]))
    across = _across(way)
    largest = max(max(thing.size) for thing in objects)
    width = sum(max(thing.size) for thing in objects) * 1.25
    length = max(3.2 * largest, 1.2 * width)
    height = length * math.tan(angle)
    corners = [(0, 0), (length, 0), (0, height)]
    vertices = [
        tuple(way * (x - length / 2) + across * side * width / 2 + np.array([0, 0, z]))
        for side in (-1, 1)
        for x, z in corners
    ]
    mesh = bpy.data.meshes.new("ramp")
    mesh.from_pydata(vertices, [], [(0, 1, 2), (5, 4, 3), (0, 3, 4, 1), (1, 4, 5, 2), (2, 5, 3, 0)])
    mesh.materials.append(materials.plain("ramp", (0.55, 0.5, 0.45), 0.7))
    ramp = item.from_mesh(clip, "ramp", mesh, is_support=True)
    ramp.poses = np.repeat(np.eye(4)[None], clip.span, axis=0)
    tilt = np.array(Matrix.Rotation(angle, 3, tuple(across)))  # turns the upright to the slope's normal
    if (tilt @ np.array([0, 0, 1.0])) @ way < 0:
        tilt = tilt.T
    normal = tilt @ np.array([0, 0, 1.0])
    bodies, place = [], -width / 2
    for thing in objects:
        side = max(thing.size) * 1.25
        rotation = tilt @ placement.rotation_of(thing.configuration)
        lift = -float((thing.local @ rotation.T @ normal).min())
        along = -length / 2 + max(0.62 * largest, 0.22 * length)
        foot = way * along + across * (place + side / 2) + np.array([0, 0, (length / 2 - along) * math.tan(angle)])
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, foot + normal * (lift + 0.003)
        bodies.append((pose, None))
        place += side
    return bodies, ramp


SETUPS = {"fall": _fall, "collision": _collision, "stack": _stack, "ramp": _ramp}


def _raise_above_floor(objects, poses):
    for thing, pose in zip(objects, poses):
        lowest = float((thing.local @ pose[:3, :3].T)[:, 2].min()) + pose[2, 3]
        pose[2, 3] += max(0.0, 0.02 - lowest)


def _simulate(clip, objects, bodies, ramp):
    scene, render = clip.scene, clip.configuration["render"]
    physics = clip.configuration["physics"]
    steps = max(1, int(math.ceil(STEPS_A_SECOND / render["fps"])))
    seconds = 1 / (render["fps"] * steps)
    usual_fps, usual_base = scene.render.fps, scene.render.fps_base
    scene.render.fps = int(round(render["fps"] * steps))
    scene.render.fps_base = scene.render.fps * seconds
    last = LAUNCH_STEPS + 1 + (clip.span - 1) * steps
    bpy.ops.rigidbody.world_add()
    world = scene.rigidbody_world
    world.substeps_per_frame, world.solver_iterations = 2, 20
    world.point_cache.frame_start, world.point_cache.frame_end = 1, last
    scene.frame_start, scene.frame_end = 1, last
    floor = _floor(clip)
    _add_body(floor, "PASSIVE", "BOX", physics, 1.0, 1.0)
    if ramp is not None:
        _add_body(ramp.object, "PASSIVE", "CONVEX_HULL", physics, 1.0, 1.0)
    for thing, (pose, velocity) in zip(objects, bodies):
        size = max(thing.size)
        thing.object.matrix_basis = Matrix(pose.tolist())
        shape = (
            "SPHERE"
            if thing.configuration["shape"] == "sphere" and thing.configuration["modifier"] == "none"
            else "CONVEX_HULL"
        )
        _add_body(thing.object, "ACTIVE", shape, physics, size, _mass(thing))
        if velocity is not None:
            _launch(thing.object, pose, velocity, seconds)
    history = np.empty((len(objects), last, 4, 4))
    for frame in range(1, last + 1):
        scene.frame_set(frame)
        graph = bpy.context.evaluated_depsgraph_get()
        for index, thing in enumerate(objects):
            history[index, frame - 1] = np.array(thing.object.evaluated_get(graph).matrix_world)
    if not np.isfinite(history).all():
        raise RuntimeError(
            "the simulation of rigid bodies did not stay finite; the objects' sizes or speeds are too far apart"
        )
    history = history[:, LAUNCH_STEPS:]
    for thing in objects:
        thing.object.animation_data_clear()
    bpy.ops.rigidbody.world_remove()
    for thing in [floor] + [thing.object for thing in objects] + ([ramp.object] if ramp else []):
        if thing.rigid_body is not None:
            with bpy.context.temp_override(object=thing, active_object=thing, selected_objects=[thing]):
                bpy.ops.rigidbody.object_remove()
    bpy.data.objects.remove(floor)
    scene.render.fps, scene.render.fps_base = usual_fps, usual_base
    scene.frame_set(0)
    for thing, path in zip(objects, history):
        thing.poses = path[::steps].copy()
    clip.contacts += contact.events(objects, ramp, history, steps)


def _mass(thing):
    return DENSITY * float(np.prod(np.maximum(thing.size, max(thing.size) * 0.1)))


def _floor(clip):
    mesh = bpy.data.meshes.new("floor_body")
    half = FLOOR_SIDE / 2
    # A box of Bullet's lies around the object's origin, so the origin has to be its middle.
    corners = [(x * half, y * half, z) for z in (-2.0, 2.0) for y in (-1, 1) for x in (-1, 1)]
    mesh.from_pydata(corners, [], [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)])
    floor = bpy.data.objects.new("floor_body", mesh)
    floor.location = (0, 0, -2.0)
    clip.collection.objects.link(floor)
    return floor


def _add_body(thing, kind, shape, physics, size, mass):
    with bpy.context.temp_override(object=thing, active_object=thing, selected_objects=[thing]):
        bpy.ops.rigidbody.object_add(type=kind)
    body = thing.rigid_body
    body.collision_shape = shape
    body.mass = max(mass, 1e-3)
    body.friction = physics["friction"]
    # Bullet multiplies the two bodies' values: the square root gives the pair the value asked for.
    body.restitution = math.sqrt(physics["bounce"])
    body.friction = math.sqrt(physics["friction"])
    body.use_margin = True
    body.collision_margin = 0.002 * size
    body.use_deactivation = False
    body.linear_damping, body.angular_damping = 0.02, 0.05


def _launch(thing, pose, velocity, seconds):
    """Carry the body along at its speed for some steps, then let it go: Blender has no starting speed of its own."""
    place = pose[:3, 3]
    for frame in (1, LAUNCH_STEPS + 1):
        thing.location = tuple(place + velocity * seconds * (frame - LAUNCH_STEPS - 1))
        thing.keyframe_insert("location", frame=frame)
    for curve in thing.animation_data.action.fcurves:
        curve.extrapolation = "LINEAR"
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"
    for frame, carried in ((1, True), (LAUNCH_STEPS, True), (LAUNCH_STEPS + 1, False)):
        thing.rigid_body.kinematic = carried
        thing.rigid_body.keyframe_insert("kinematic", frame=frame)
