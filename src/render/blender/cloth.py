"""Cloth: a sheet that falls over objects, a flag, a curtain. Objects enter, an item whose vertices change from frame
to frame leaves.

Blender's cloth is simulated ahead of rendering and its vertices are kept; the modifier is gone when rendering starts.
"""

import math

import bpy
import numpy as np

import item
import materials
import shapes
from configuration import material, random_for

SIDE_VERTICES = 34
PATTERN = "pattern"  # the attribute with each vertex's place on the cloth as it was cut, for the material's pattern
STEPS = 6  # steps of the simulation a frame
DROP_STEPS = 14  # with fewer the tip of a cone comes through the sheet that falls onto it
SETTLING_SECONDS = 0.8  # a flag or a curtain moves already when the clip starts


def add_cloth(clip, objects, kind):
    """Simulate the cloth and add it as the item "cloth"."""
    physics = clip.configuration["physics"]
    azimuth = math.radians(clip.configuration["camera"]["azimuth_deg"])
    right = np.array([math.cos(azimuth), math.sin(azimuth), 0.0])
    largest = max([max(thing.size) for thing in objects], default=0.9)
    builder = {"cloth_drop": _sheet, "flag": _flag, "curtain": _curtain}[kind]
    vertices, faces, cut, pinned, helpers = builder(clip, objects, largest, right)
    mesh = bpy.data.meshes.new("cloth")
    mesh.from_pydata([tuple(vertex) for vertex in vertices], [], faces)
    mesh.attributes.new(PATTERN, "FLOAT_VECTOR", "POINT").data.foreach_set("vector", cut.astype(np.float32).ravel())
    shapes.shade_smooth(mesh)
    mesh.materials.append(_material(clip, objects, largest))
    thing = item.from_mesh(clip, "cloth", mesh)
    modifier = _add_modifier(thing.object, physics, pinned, kind)
    for obstacle in objects:
        obstacle.show(0, np.zeros(3), True)
        _collide(obstacle.object, 0.004 + 0.004 * max(obstacle.size))
    floor = _floor(clip) if kind == "cloth_drop" else None
    fps = clip.configuration["render"]["fps"]
    before = 0 if kind == "cloth_drop" else int(SETTLING_SECONDS * fps)
    thing.vertices = _run(clip, thing.object, modifier, before)
    for obstacle in objects:
        obstacle.object.modifiers.clear()
    for helper in helpers + ([floor] if floor else []):
        bpy.data.objects.remove(helper)
    thing.size = tuple(float(part) for part in np.ptp(thing.vertices[0], axis=0))


def _grid(corner, along, up, columns, rows, bulge):
    """Vertices, faces, and the vertices' places on the flat cloth, which lies in x and z as every pattern changes
    along them.
    """
    vertices, cut = [], []
    for row in range(rows):
        for column in range(columns):
            u, v = column / (columns - 1), row / (rows - 1)
            vertices.append(corner + along * u + up * v + bulge(u, v))
            cut.append((u * np.linalg.norm(along), 0.0, v * np.linalg.norm(up)))
    faces = [
        (
            row * columns + column,
            row * columns + column + 1,
            (row + 1) * columns + column + 1,
            (row + 1) * columns + column,
        )
        for row in range(rows - 1)
        for column in range(columns - 1)
    ]
    return np.array(vertices), faces, np.array(cut)


def _sheet(clip, objects, largest, right):
    """A square above the objects; without any, above a ball that is put there."""
    if not objects:
        objects.append(_ball(clip))
    points = np.concatenate([thing.points(0) for thing in objects])
    low, high = points.min(0), points.max(0)
    side = max(float((high - low)[:2].max()) * 1.5, float(high[2]) * 1.6)
    front = np.array([-right[1], right[0], 0.0])
    middle = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, high[2] + 0.12 * side])
    chance = random_for(clip.configuration, "sheet")
    turn = chance.uniform(-0.6, 0.6)
    first = right * math.cos(turn) + front * math.sin(turn)
    second = np.array([-first[1], first[0], 0.0])
    # A hair of unevenness: a perfectly flat sheet on a perfectly round ball folds the same way on all sides.
    phase = chance.uniform(0, 6)
    wave = lambda u, v: np.array([0, 0, 0.012 * side * math.sin(5 * u + phase) * math.cos(4 * v)])  # noqa: E731
    count = SIDE_VERTICES + 6
    return (
        *_grid(middle - first * side / 2 - second * side / 2, first * side, second * side, count, count, wave),
        [],
        [],
    )


def _ball(clip):
    value = {
        "id": "support",
        "shape": "sphere",
        "size": 0.7,
        "bevel": 0,
        "modifier": "none",
        "modifier_strength": 0,
        "file": None,
    }
    mesh = shapes.make_mesh(clip.configuration, value)
    mesh.materials.append(materials.plain("support", (0.6, 0.6, 0.6)))
    ball = item.from_mesh(clip, "support", mesh)
    ball.poses = np.repeat(np.eye(4)[None], clip.span, axis=0)
    ball.poses[:, 2, 3] = 0.35
    return ball


def _flag(clip, objects, largest, right):
    """A flag on a pole, in a wind across the picture."""
    height = max(2.2 * largest, 1.6)
    width, fall = 0.75 * height, 0.45 * height
    start = _beside(objects, right)
    _pole(clip, start, start + np.array([0, 0, height]), 0.022 * height)
    columns, rows = SIDE_VERTICES + 6, int(SIDE_VERTICES * 0.7)
    front = np.array([-right[1], right[0], 0.0])
    ripple = lambda u, v: front * 0.04 * height * u * math.sin(7 * u + 2 * v)  # noqa: E731
    corner = start + np.array([0, 0, height * 0.98 - fall]) + right * 0.02 * height
    cloth = _grid(corner, right * width, np.array([0, 0, fall]), columns, rows, ripple)
    pinned = [row * columns for row in range(rows)]
    wind = _wind(clip, start, right + front * 0.25, 3.0 + 5.0 * clip.configuration["physics"]["speed"])
    return *cloth, pinned, wind


def _curtain(clip, objects, largest, right):
    """A pleated curtain on a rod, in gusts towards the camera."""
    height, width = max(1.9 * largest, 1.5), max(1.8 * largest, 1.4)
    front = np.array([-right[1], right[0], 0.0])
    back = front * (max([max(thing.size) for thing in objects], default=0.0) * 1.2)
    middle = np.mean([thing.center(0) for thing in objects], axis=0) * np.array([1, 1, 0]) if objects else np.zeros(3)
    start = middle + back - right * width / 2
    up = np.array([0, 0, height])
    _pole(clip, start + up - right * 0.06 * width, start + up + right * 1.06 * width, 0.016 * height)
    columns, rows = SIDE_VERTICES + 20, SIDE_VERTICES
    pleat = lambda u, v: front * 0.035 * height * math.sin(u * 2 * math.pi * 7)  # noqa: E731
    cloth = _grid(start + np.array([0, 0, 0.03 * height]), right * width, up * 0.97, columns, rows, pleat)
    pinned = [(rows - 1) * columns + column for column in range(columns)]
    wind = _wind(clip, start, -front + right * 0.2, 1.0 + 2.0 * clip.configuration["physics"]["speed"])
    return *cloth, pinned, wind


def _beside(objects, right):
    if not objects:
        return np.zeros(3)
    points = np.concatenate([thing.points(0) for thing in objects])
    start = (points.min(0) + points.max(0)) / 2
    start[2] = 0
    return start - right * (float((points @ right).max() - (points @ right).min()) * 0.6 + 0.1)


def _pole(clip, start, end, radius):
    vertices, faces = shapes.tube([start + (end - start) * share for share in (0, 0.5, 1)], radius, 16, closed=False)
    mesh = bpy.data.meshes.new("pole")
    mesh.from_pydata(vertices, [], faces)
    shapes.shade_smooth(mesh)
    mesh.materials.append(materials.plain("pole", (0.45, 0.43, 0.4), 0.4))
    pole = item.from_mesh(clip, "pole", mesh)
    pole.poses = np.repeat(np.eye(4)[None], clip.span, axis=0)


def _wind(clip, place, way, strength):
    """A steady wind with gusts."""
    from mathutils import Vector

    chance = random_for(clip.configuration, "wind")
    bpy.ops.object.effector_add(type="WIND")
    wind = bpy.context.object
    wind.location = tuple(place - way * 3)
    wind.rotation_euler = Vector(way).to_track_quat("Z", "Y").to_euler()
    wind.field.flow = 0.6
    frames = clip.span + int(2 * clip.configuration["render"]["fps"])
    for frame in range(0, frames, 4):
        wind.field.strength = 60 * strength * chance.uniform(0.35, 1.15)
        wind.field.keyframe_insert("strength", frame=frame)
    return [wind]


def _material(clip, objects, size):
    chance = random_for(clip.configuration, "cloth")
    color = [chance.uniform(0.15, 0.9) for _ in range(3)]
    second = [chance.uniform(0.1, 0.9) for _ in range(3)]
    if objects and objects[0].configuration and objects[0].configuration.get("material"):
        given = objects[0].configuration["material"]
        color, second = given["color2"], given["color"]
    kind = chance.choice(("fabric", "stripes", "checker", "plastic"))
    value = material({"kind": kind, "color": color, "color2": second, "roughness": 0.85, "scale": 1.0}, "cloth")
    return materials.make_material(clip.configuration, value, "cloth", 1.6 * size, PATTERN)


def _add_modifier(thing, physics, pinned, kind):
    modifier = thing.modifiers.new("cloth", "CLOTH")
    settings, stiffness = modifier.settings, physics["stiffness"]
    settings.quality = DROP_STEPS if kind == "cloth_drop" else STEPS
    settings.mass = 0.25
    settings.air_damping = 1.0
    settings.tension_stiffness = settings.compression_stiffness = 8 + 30 * stiffness
    settings.shear_stiffness = 4 + 12 * stiffness
    settings.bending_stiffness = 0.05 + 4 * stiffness**2
    modifier.collision_settings.use_collision = kind == "cloth_drop" or bool(thing)
    modifier.collision_settings.collision_quality = 3
    modifier.collision_settings.distance_min = 0.008
    modifier.collision_settings.use_self_collision = False
    modifier.collision_settings.friction = 5 + 30 * min(physics["friction"], 1.0)
    if pinned:
        group = thing.vertex_groups.new(name="pin")
        group.add(pinned, 1.0, "REPLACE")
        settings.vertex_group_mass = "pin"
    return modifier


def _collide(thing, thickness):
    thing.modifiers.new("collision", "COLLISION")
    thing.collision.thickness_outer = min(thickness, 0.02)
    thing.collision.cloth_friction = 20
    # A board thinner than this distance would pull the cloth through itself, towards the normal of its far side.
    thing.collision.use_culling = False


def _floor(clip):
    mesh = bpy.data.meshes.new("floor_body")
    mesh.from_pydata([(-50, -50, 0), (50, -50, 0), (50, 50, 0), (-50, 50, 0)], [], [(0, 1, 2, 3)])
    floor = bpy.data.objects.new("floor_body", mesh)
    clip.collection.objects.link(floor)
    _collide(floor, 0.008)
    return floor


def _run(clip, thing, modifier, before):
    """The cloth's vertices [span, n, 3], after `before` frames that nobody sees."""
    scene = clip.scene
    last = before + clip.span
    modifier.point_cache.frame_start, modifier.point_cache.frame_end = 1, last
    scene.frame_start, scene.frame_end = 1, last
    result = np.empty((clip.span, len(thing.data.vertices), 3))
    for frame in range(1, last + 1):
        scene.frame_set(frame)
        if frame <= before:
            continue
        evaluated = thing.evaluated_get(bpy.context.evaluated_depsgraph_get())
        result[frame - before - 1] = shapes.coordinates(evaluated.data)
    thing.modifiers.clear()
    scene.frame_set(0)
    if not np.isfinite(result).all():
        raise RuntimeError("the simulation of the cloth did not stay finite; lower physics.stiffness or physics.speed")
    return result
