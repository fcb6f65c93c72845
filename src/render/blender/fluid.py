"""Liquid and smoke: objects and the configuration's physics enter, simulated items leave.

The solver runs ahead of rendering. Geometry nodes turn its results into what Cycles renders: the liquid's particles
into one surface a frame, the smoke's grid into a volume whose values are set anew for each frame.
"""

import bpy
import numpy as np
from mathutils import Vector
from mathutils.bvhtree import BVHTree

import item
import materials
import shapes
from configuration import random_for
from fluid_solver import Liquid, Smoke

LIQUID_CELLS = 26
SMOKE_CELLS = 38
PARTICLES_A_SIDE = 2  # eight in a cell
WALL = 0.03  # the tank's walls, as a share of its inner side
BOTTOM = 0.2  # its bottom, as a share of a wall
FADE_HEIGHT = 0.5  # the share of its box from which on smoke thins out, to nothing at the top
FADE_SIDE = 0.2  # and so near to the sides
GAP = 0.003  # between a wall and the liquid, whose surfaces would flicker where they coincide


def add_fluid(clip, objects, kind):
    """Simulate and add the item "liquid" (with its "tank") or "smoke"."""
    largest = max([max(thing.size) for thing in objects], default=0.6)
    for thing in objects:
        thing.show(0, np.zeros(3), True)
    (_add_liquid if kind == "liquid" else _add_smoke)(clip, objects, largest)


def _add_liquid(clip, objects, largest):
    """A ball of liquid falls into a tray, over the object that stands there."""
    chance = random_for(clip.configuration, "liquid")
    physics, fps = clip.configuration["physics"], clip.configuration["render"]["fps"]
    footprint = max([float(np.ptp(thing.points(0)[:, :2], axis=0).max()) for thing in objects], default=0.0)
    side, height = max(1.9 * footprint, 1.4 * largest, 1.0), max(2.2 * largest, 1.2)
    middle = _middle(objects)
    cell = max(side, height) / LIQUID_CELLS
    shape = np.maximum(np.round(np.array([side, side, height]) / cell).astype(int), 8)
    side = float(shape[0] * cell)  # the walls stand where the cells end
    origin = middle - np.array([side / 2, side / 2, 0.0])
    obstacles = _Obstacles(objects, origin, cell)
    solid = obstacles.solid(shape)
    pool = 0.07 * height
    ball = np.array(
        [(0.5 + chance.uniform(-0.14, 0.14)) * side, (0.5 + chance.uniform(-0.14, 0.14)) * side, 0.76 * height]
    )
    radius = 0.2 * min(side, height)
    step = cell / PARTICLES_A_SIDE
    axes = [np.arange(step / 2, count * cell, step) for count in shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    jitter = np.random.default_rng([clip.configuration["seed"] & 0xFFFFFFFF, 1])
    points += jitter.uniform(-0.3, 0.3, points.shape) * step
    falling = np.linalg.norm(points - ball, axis=1) < radius
    points, falling = points[falling | (points[:, 2] < pool)], falling[falling | (points[:, 2] < pool)]
    cells = np.minimum((points / cell).astype(int), shape - 1)
    free = ~solid[cells[:, 0], cells[:, 1], cells[:, 2]]
    points, falling = points[free], falling[free]
    velocities = np.zeros_like(points)
    velocities[falling, 2] = -physics["speed"] * 0.5
    liquid = Liquid(shape, cell, solid, points / cell, velocities / cell, obstacles.push)
    surface = _Surface(clip, cell, origin + side * np.array([GAP, GAP, BOTTOM * WALL]), origin + side * (1 - GAP))
    meshes = []
    for frame in range(clip.span):
        if frame:
            liquid.advance(1 / fps, clip.scene.gravity)
        meshes.append(surface.mesh(liquid.points * cell + origin, frame))
    surface.remove()
    material = _water(clip)
    for mesh in meshes:
        mesh.materials.clear()
        mesh.materials.append(material)
    thing = item.from_mesh(clip, "liquid", meshes[0])
    thing.meshes = meshes
    _add_tray(clip, middle, side, 0.2 * height)


class _Obstacles:
    """What stands in the way of a fluid: cells inside of objects, and a push out of them for particles."""

    def __init__(self, objects, origin, cell):
        self.origin, self.cell = origin, cell
        self.trees = []
        for thing in objects:
            mesh = thing.object.data
            pose = np.array(thing.object.matrix_basis)
            vertices = shapes.coordinates(mesh) @ pose[:3, :3].T + pose[:3, 3]
            faces = [tuple(face.vertices) for face in mesh.polygons]
            bounds = vertices.min(0), vertices.max(0)
            self.trees.append((BVHTree.FromPolygons(vertices.tolist(), faces), bounds))

    def solid(self, shape):
        centers = (np.indices(shape).reshape(3, -1).T + 0.5) * self.cell + self.origin
        inside = np.zeros(len(centers), bool)
        for tree, bounds in self.trees:
            for index in np.flatnonzero(_within(centers, bounds, 0.0)):
                inside[index] |= _is_inside(tree, centers[index])
        return inside.reshape(shape)

    def push(self, points, velocities):
        world = points * self.cell + self.origin
        for tree, bounds in self.trees:
            for index in np.flatnonzero(_within(world, bounds, 0.0)):
                near, normal, _, distance = tree.find_nearest(world[index])
                if near is None or distance > 3 * self.cell:
                    continue
                offset = Vector(world[index]) - near
                if offset.dot(normal) < 0 and _is_inside(tree, world[index]):
                    world[index] = near + normal * (0.1 * self.cell)
                    speed = float(velocities[index] @ np.array(normal))
                    velocities[index] -= np.array(normal) * min(speed, 0.0)
        return (world - self.origin) / self.cell, velocities


def _within(points, bounds, margin):
    return ((points > bounds[0] - margin) & (points < bounds[1] + margin)).all(1)


def _is_inside(tree, point):
    """Whether a ray from the point meets the surface an odd number of times."""
    way, origin, crossings = Vector((0.123, 0.071, 0.99)), Vector(point), 0
    for _ in range(32):
        hit = tree.ray_cast(origin, way)[0]
        if hit is None:
            break
        crossings += 1
        origin = hit + way * 1e-5
    return crossings % 2 == 1


class _Surface:
    """Particles to a smooth mesh, by Blender's geometry nodes, between the walls that `low` and `high` give."""

    def __init__(self, clip, cell, low, high):
        # A particle is a ball, and the surface is that of balls: it reaches beyond the wall at which its middle stops.
        self.low, self.high = low, np.array([high[0], high[1], np.inf])
        self.source = bpy.data.meshes.new("particles")
        self.thing = bpy.data.objects.new("particles", self.source)
        clip.collection.objects.link(self.thing)
        tree = _group("surface")
        nodes = _Nodes(tree)
        points = nodes.add("GeometryNodeMeshToPoints", {"Mesh": nodes.input, "Radius": cell * 0.8})
        volume = nodes.add(
            "GeometryNodePointsToVolume",
            {"Points": points, "Radius": cell * 0.8, "Voxel Size": cell * 0.45},
            resolution_mode="VOXEL_SIZE",
        )
        mesh = nodes.add("GeometryNodeVolumeToMesh", {"Volume": volume, "Threshold": 0.25})
        nodes.output(mesh)
        modifier = self.thing.modifiers.new("surface", "NODES")
        modifier.node_group = tree
        smooth = self.thing.modifiers.new("smooth", "SMOOTH")
        smooth.factor, smooth.iterations = 0.6, 6

    def mesh(self, points, frame):
        self.source.clear_geometry()
        self.source.vertices.add(len(points))
        shapes.set_coordinates(self.source, points)
        self.thing.update_tag()
        bpy.context.view_layer.update()
        graph = bpy.context.evaluated_depsgraph_get()
        mesh = bpy.data.meshes.new_from_object(self.thing.evaluated_get(graph))
        mesh.name = f"liquid_{frame}"
        shapes.set_coordinates(mesh, np.clip(shapes.coordinates(mesh), self.low, self.high))
        mesh.polygons.foreach_set("use_smooth", np.ones(len(mesh.polygons), dtype=bool))
        return mesh

    def remove(self):
        bpy.data.objects.remove(self.thing)


def _group(name):
    tree = bpy.data.node_groups.new(name, "GeometryNodeTree")
    tree.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    tree.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    return tree


class _Nodes:
    """Adds nodes whose inputs are sockets or values."""

    def __init__(self, tree):
        self.tree = tree
        self.input = tree.nodes.new("NodeGroupInput").outputs[0]

    def add(self, kind, inputs, output=0, **fields):
        node = self.tree.nodes.new(kind)
        for name, value in fields.items():
            setattr(node, name, value)
        for key, value in inputs.items():
            # A socket of the same name may be there for another mode: only the enabled one counts.
            sockets = (
                [socket for socket in node.inputs if socket.name == key and socket.enabled]
                if isinstance(key, str)
                else []
            )
            socket = sockets[0] if sockets else node.inputs[key]
            if isinstance(value, bpy.types.NodeSocket):
                self.tree.links.new(value, socket)
            else:
                socket.default_value = value
        enabled = [socket for socket in node.outputs if socket.enabled]
        return enabled[output]

    def output(self, socket):
        self.tree.links.new(socket, self.tree.nodes.new("NodeGroupOutput").inputs[0])


def _add_smoke(clip, objects, largest):
    """Smoke that rises from an object, or from the floor where there is none."""
    physics, fps = clip.configuration["physics"], clip.configuration["render"]["fps"]
    chance = random_for(clip.configuration, "smoke")
    side, height = max(2.0 * largest, 1.0), max(3.2 * largest, 1.8)
    middle = _middle(objects)
    top = max([float(thing.points(0)[:, 2].max()) for thing in objects], default=0.0)
    cell = height / SMOKE_CELLS
    shape = np.maximum(np.round(np.array([side, side, height]) / cell).astype(int), 8)
    origin = middle - np.array([shape[0] * cell / 2, shape[1] * cell / 2, 0.0])
    solid = _Obstacles(objects, origin, cell).solid(shape)
    centers = (np.indices(shape).reshape(3, -1).T + 0.5) * cell + origin
    radius = 0.12 * side
    foot = middle + np.array([0, 0, min(top * 0.85, height * 0.45) + radius * 0.7])
    source = (np.linalg.norm(centers - foot, axis=1) < radius).reshape(shape)
    smoke = Smoke(shape, cell, solid, source, np.random.default_rng([clip.configuration["seed"] & 0xFFFFFFFF, 2]))
    gravity = np.array(clip.scene.gravity)
    length = float(np.linalg.norm(gravity))
    up = -gravity / length if length > 1e-6 else np.zeros(3)
    fade = _fade(shape)
    history = []
    steps = 2 if fps < 14 else 1
    for frame in range(int(fps * 0.7) + clip.span):
        for _ in range(steps):
            smoke.advance(1 / (fps * steps), up, 0.3 * length, 0.3 + 0.35 * physics["speed"])
        history.append((smoke.density * fade).astype(np.float32).ravel())
    history = history[-clip.span :]
    if not np.isfinite(history[-1]).all():
        raise RuntimeError("the simulation of the smoke did not stay finite; lower physics.speed or physics.gravity")
    _smoke_item(clip, shape, cell, origin, history, _smoke_material(side, chance))


def _fade(shape):
    """How much of the smoke is seen in each cell: it would be cut off flat where it leaves the box."""
    x, y, z = [(np.arange(count) + 0.5) / count for count in shape]
    sides = [np.clip(np.minimum(place, 1 - place) / FADE_SIDE, 0, 1) for place in (x, y)]
    share = [*sides, np.clip((1 - z) / (1 - FADE_HEIGHT), 0, 1)]
    x, y, z = [part * part * (3 - 2 * part) for part in share]
    return x[:, None, None] * y[None, :, None] * z[None, None, :]


def _smoke_item(clip, shape, cell, origin, history, material):
    """A mesh of one vertex a cell carries the density; geometry nodes make it a volume."""
    mesh = bpy.data.meshes.new("smoke")
    mesh.vertices.add(len(history[0]))
    corners = (np.indices(shape).reshape(3, -1).T + 0.5) * cell + origin
    shapes.set_coordinates(mesh, corners)
    mesh.attributes.new("smoke", "FLOAT", "POINT")
    tree = _group("smoke")
    nodes = _Nodes(tree)
    low, high = corners.min(0), corners.max(0)
    place = nodes.add("GeometryNodeInputPosition", {})
    index = nodes.add("ShaderNodeVectorMath", {0: place, 1: tuple(low)}, operation="SUBTRACT")
    index = nodes.add("ShaderNodeVectorMath", {0: index, 1: (1 / cell,) * 3}, operation="MULTIPLY")
    index = nodes.add("ShaderNodeVectorMath", {0: index, 1: (0.5,) * 3}, operation="ADD")
    index = nodes.add("ShaderNodeVectorMath", {0: index}, operation="FLOOR")
    index = nodes.add(
        "ShaderNodeVectorMath", {0: index, 1: (shape[1] * shape[2], shape[2], 1.0)}, output=0, operation="DOT_PRODUCT"
    )
    named = nodes.add("GeometryNodeInputNamedAttribute", {"Name": "smoke"}, data_type="FLOAT")
    density = nodes.add(
        "GeometryNodeSampleIndex",
        {"Geometry": nodes.input, "Value": named, "Index": index},
        data_type="FLOAT",
        domain="POINT",
        clamp=True,
    )
    cube = {"Density": density, "Min": tuple(low), "Max": tuple(high)}
    cube.update({f"Resolution {name}": int(count) for name, count in zip("XYZ", shape)})
    volume = nodes.add("GeometryNodeVolumeCube", cube)
    nodes.output(nodes.add("GeometryNodeSetMaterial", {"Geometry": volume, "Material": material}))
    thing = item.from_mesh(clip, "smoke", mesh, is_volume=True)
    modifier = thing.object.modifiers.new("smoke", "NODES")
    modifier.node_group = tree
    thing.densities = history
    last = history[min(clip.configuration["render"]["frames"], len(history)) - 1]
    if (last > 0.1).any():  # framed by what is seen of it, not by its box
        thing.local = item.sample(corners[last > 0.1])
    thing.size = tuple(float(part) for part in high - low)
    return thing


def _add_tray(clip, middle, side, height):
    """Low walls around the liquid, which would look cut off without them."""
    wall, half = WALL * side, side / 2
    parts = [shapes.box((0, 0, wall * BOTTOM / 2), (side, side, wall * BOTTOM))]
    for sign in (-1, 1):
        parts.append(shapes.box((sign * (half + wall / 2), 0, height / 2), (wall, side + 2 * wall, height)))
        parts.append(shapes.box((0, sign * (half + wall / 2), height / 2), (side, wall, height)))
    vertices, faces = shapes.join(*parts)
    mesh = bpy.data.meshes.new("tank")
    mesh.from_pydata(vertices, [], faces)
    mesh.materials.append(materials.plain("tank", (0.75, 0.73, 0.7), 0.5))
    tank = item.from_mesh(clip, "tank", mesh)
    tank.poses = np.repeat(np.eye(4)[None], clip.span, axis=0)
    tank.poses[:, :3, 3] = middle


def _water(clip):
    chance = random_for(clip.configuration, "water")
    material = bpy.data.materials.new("liquid")
    material.use_nodes = True
    color = chance.choice(
        ((0.25, 0.55, 0.75), (0.2, 0.6, 0.5), (0.75, 0.4, 0.12), (0.6, 0.1, 0.15), (0.85, 0.83, 0.78))
    )
    material.diffuse_color = materials.linear(color)
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = materials.linear(color)
    shader.inputs["Roughness"].default_value = 0.06
    shader.inputs["IOR"].default_value = 1.33
    shader.inputs["Transmission Weight"].default_value = 0.45
    shader.inputs["Coat Weight"].default_value = 0.6
    return material


def _smoke_material(side, chance):
    material = bpy.data.materials.new("smoke")
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    volume = tree.nodes.new("ShaderNodeVolumePrincipled")
    shade = chance.choice((0.85, 0.7, 0.5, 0.3))
    volume.inputs["Color"].default_value = (shade, shade, shade, 1.0)
    volume.inputs["Density"].default_value = 14.0 / side
    volume.inputs["Anisotropy"].default_value = 0.2
    tree.links.new(volume.outputs[0], output.inputs["Volume"])
    material.diffuse_color = (shade, shade, shade, 1.0)
    return material


def _middle(objects):
    if not objects:
        return np.zeros(3)
    points = np.concatenate([thing.points(0) for thing in objects])
    middle = (points.min(0) + points.max(0)) / 2
    return middle * np.array([1, 1, 0])
