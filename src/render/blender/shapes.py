"""Meshes: an object's configuration enters, a Blender mesh leaves, its longest side as long as asked, centred on its
box.

Shapes are made as plain lists of vertices and faces, then bevelled, deformed, scaled and shaded smooth below sharp
edges.
"""

import math
import os

import bmesh
import bpy
import numpy as np
from mathutils import Vector, noise

from configuration import ConfigurationError, random_for

BEVELLED = ("cube", "cylinder", "cone", "pyramid", "icosahedron", "gear", "star", "chair", "table")
SHARP_DEGREES = 40.0


def make_mesh(configuration, value):
    """The mesh of one object, with its modifier applied."""
    if value["shape"] == "file":
        mesh = _mesh_of_file(value)
    else:
        vertices, faces = _shape(value["shape"], random_for(configuration, f"shape {value['id']}"))
        mesh = bpy.data.meshes.new(value["id"])
        mesh.from_pydata([tuple(vertex) for vertex in vertices], [], [tuple(face) for face in faces])
    _refine(mesh, value)
    _deform(mesh, value)
    normalise(mesh, value["size"], value["id"])
    shade_smooth(mesh)
    return mesh


def coordinates(mesh):
    """The vertices as float64 [n, 3]."""
    flat = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", flat)
    return flat.reshape(-1, 3).astype(np.float64)


def set_coordinates(mesh, vertices):
    """Move the vertices."""
    mesh.vertices.foreach_set("co", np.ascontiguousarray(vertices, np.float32).ravel())
    mesh.update()


def normalise(mesh, size, name):
    """Scale to the longest side `size` and centre."""
    vertices = coordinates(mesh)
    if len(vertices) == 0 or len(mesh.polygons) == 0:
        raise ConfigurationError(f"{name}: the model has no faces")
    low, high = vertices.min(0), vertices.max(0)
    longest = (high - low).max()
    if not 1e-9 < longest < 1e9:
        raise ConfigurationError(f"{name}: the model's longest side is {longest}; it cannot be scaled")
    set_coordinates(mesh, (vertices - (low + high) / 2) * (size / longest))


def shade_smooth(mesh):
    """Smooth shading, sharp where faces meet at an angle."""
    mesh.polygons.foreach_set("use_smooth", np.ones(len(mesh.polygons), dtype=bool))
    mesh.set_sharp_from_angle(angle=math.radians(SHARP_DEGREES))


def _shape(kind, random):
    makers = {
        "cube": lambda: box((0, 0, 0), (1, 1, 1)),
        "sphere": lambda: _lathe(_arc(0, 0, 0.5, -90, 90, 24), 48),
        "cylinder": lambda: _lathe([(0, -0.5), (0.35, -0.5), (0.35, 0.5), (0, 0.5)], 48),
        "cone": lambda: _lathe([(0, -0.5), (0.42, -0.5), (0, 0.5)], 48),
        "torus": lambda: tube(_ring(0.35, 64), 0.15, 20, closed=True),
        "capsule": lambda: _lathe(_arc(0, -0.25, 0.25, -90, 0, 10) + _arc(0, 0.25, 0.25, 0, 90, 10), 40),
        "pyramid": lambda: _lathe([(0, -0.4), (0.65, -0.4), (0, 0.5)], 4),
        "icosahedron": lambda: icosphere(1),
        "gear": lambda: _extrude(_gear(random.choice((8, 10, 12, 16))), 0.25, hole=0.16),
        "star": lambda: _extrude(_star(random.choice((5, 5, 6, 8))), 0.24),
        "spring": lambda: tube(_helix(random.choice((4, 5, 6))), 0.06, 12, closed=False),
        "vase": lambda: _lathe(_vase(random), 56),
        "bowl": lambda: _lathe(_bowl(), 56),
        "rock": lambda: _rock(random),
        "knot": lambda: tube(_trefoil(), 0.13, 16, closed=True),
        "chair": _chair,
        "table": _table,
        "lamp": _lamp,
    }
    return makers[kind]()


def box(center, size):
    corners = [(x, y, z) for z in (-0.5, 0.5) for y in (-0.5, 0.5) for x in (-0.5, 0.5)]
    vertices = [tuple(c + s * p for c, s, p in zip(center, size, corner)) for corner in corners]
    return vertices, [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]


def join(*parts):
    vertices, faces = [], []
    for part_vertices, part_faces in parts:
        start = len(vertices)
        vertices += list(part_vertices)
        faces += [tuple(index + start for index in face) for face in part_faces]
    return vertices, faces


def _arc(x, z, radius, start, end, steps):
    angles = [math.radians(start + (end - start) * step / steps) for step in range(steps + 1)]
    return [(max(x + radius * math.cos(angle), 0.0), z + radius * math.sin(angle)) for angle in angles]


def _lathe(profile, segments):
    """Turn a profile of (radius, height), from the bottom to the top, around z; a radius of 0 becomes a pole."""
    vertices, rings = [], []
    for radius, height in profile:
        if radius < 1e-6:
            rings.append([len(vertices)] * segments)
            vertices.append((0.0, 0.0, height))
            continue
        rings.append(list(range(len(vertices), len(vertices) + segments)))
        for step in range(segments):
            angle = 2 * math.pi * step / segments
            vertices.append((radius * math.cos(angle), radius * math.sin(angle), height))
    faces = []
    for lower, upper in zip(rings, rings[1:]):
        for step in range(segments):
            following = (step + 1) % segments
            face = dict.fromkeys((lower[step], lower[following], upper[following], upper[step]))
            if len(face) > 2:
                faces.append(tuple(face))
    return vertices, faces


def tube(path, radius, sides, closed):
    """A tube along a path of points, its frame carried along so that it does not twist."""
    path = [Vector(point) for point in path]
    count = len(path)
    vertices, faces, normal = [], [], None
    for index, point in enumerate(path):
        before = path[index - 1] if closed or index > 0 else point
        after = path[(index + 1) % count] if closed or index < count - 1 else point
        tangent = (after - before).normalized()
        normal = tangent.orthogonal() if normal is None else normal - tangent * normal.dot(tangent)
        normal.normalize()
        side = tangent.cross(normal)
        for step in range(sides):
            angle = 2 * math.pi * step / sides
            vertices.append(tuple(point + radius * (math.cos(angle) * normal + math.sin(angle) * side)))
    for index in range(count if closed else count - 1):
        here, there = index * sides, (index + 1) % count * sides
        shift = 0
        if closed and index == count - 1:  # the carried frame comes back turned: join each vertex to its nearest
            first = Vector(vertices[here])
            shift = min(range(sides), key=lambda step: (Vector(vertices[step]) - first).length)
        for step in range(sides):
            following = (step + 1) % sides
            faces.append(
                (here + step, here + following, there + (following + shift) % sides, there + (step + shift) % sides)
            )
    if not closed:
        faces.append(tuple(reversed(range(sides))))
        faces.append(tuple(range((count - 1) * sides, count * sides)))
    return vertices, faces


def _extrude(outline, height, hole=0.0):
    count = len(outline)
    vertices = [(x, y, z) for z in (-height / 2, height / 2) for x, y in outline]
    sides = [(step, (step + 1) % count, count + (step + 1) % count, count + step) for step in range(count)]
    if hole <= 0:  # a fan around the middle: outlines here are star-shaped, and a single concave face shades badly
        vertices += [(0, 0, -height / 2), (0, 0, height / 2)]
        low = [((step + 1) % count, step, 2 * count) for step in range(count)]
        high = [(count + step, count + (step + 1) % count, 2 * count + 1) for step in range(count)]
        return vertices, sides + low + high
    for z in (-height / 2, height / 2):
        for x, y in outline:
            angle = math.atan2(y, x)
            vertices.append((hole * math.cos(angle), hole * math.sin(angle), z))
    for step in range(count):
        following = (step + 1) % count
        sides.append((2 * count + following, 2 * count + step, 3 * count + step, 3 * count + following))
        sides.append((following, step, 2 * count + step, 2 * count + following))
        sides.append((count + step, count + following, 3 * count + following, 3 * count + step))
    return vertices, sides


def _ring(radius, steps):
    return [
        (radius * math.cos(2 * math.pi * s / steps), radius * math.sin(2 * math.pi * s / steps), 0)
        for s in range(steps)
    ]


def _helix(turns):
    steps = turns * 24
    return [
        (0.3 * math.cos(2 * math.pi * s / 24), 0.3 * math.sin(2 * math.pi * s / 24), s / steps - 0.5)
        for s in range(steps + 1)
    ]


def _trefoil():
    points = []
    for step in range(160):
        t = 2 * math.pi * step / 160
        points.append(
            (
                0.17 * (math.sin(t) + 2 * math.sin(2 * t)),
                0.17 * (math.cos(t) - 2 * math.cos(2 * t)),
                -0.2 * math.sin(3 * t),
            )
        )
    return points


def _gear(teeth):
    outline = []
    for tooth in range(teeth):
        for share, radius in ((0.0, 0.4), (0.24, 0.4), (0.32, 0.5), (0.68, 0.5), (0.76, 0.4)):
            angle = 2 * math.pi * (tooth + share) / teeth
            outline.append((radius * math.cos(angle), radius * math.sin(angle)))
    return outline


def _star(points):
    outline = []
    for step in range(points * 2):
        radius = 0.22 if step % 2 else 0.5
        angle = math.pi * step / points
        outline.append((radius * math.cos(angle), radius * math.sin(angle)))
    return outline


def _vase(random):
    belly, neck, lip = random.uniform(0.26, 0.36), random.uniform(0.1, 0.16), random.uniform(0.15, 0.24)
    knots = [(0.2, -0.5), (belly, -0.15), (neck, 0.3), (lip, 0.5)]
    outer = [_between(knots, step / 24) for step in range(25)]
    inner = [(max(radius - 0.03, 0.02), height) for radius, height in reversed(outer)]
    inner = [(radius, max(height, -0.46)) for radius, height in inner]
    return [(0, -0.5)] + outer + inner + [(0, -0.46)]


def _between(knots, share):
    place = share * (len(knots) - 1)
    index = min(int(place), len(knots) - 2)
    ease = (1 - math.cos(math.pi * (place - index))) / 2
    (r0, z0), (r1, z1) = knots[index], knots[index + 1]
    return r0 + (r1 - r0) * ease, z0 + (z1 - z0) * (place - index)


def _bowl():
    outer = [(0, -0.26), (0.18, -0.26), (0.18, -0.235)] + _arc(0, 0.26, 0.5, -68, 0, 16)[1:]
    inner = [(radius, height) for radius, height in reversed(_arc(0, 0.26, 0.465, -90, 0, 16))]
    return outer + inner


def icosphere(subdivisions):
    sphere = bmesh.new()
    bmesh.ops.create_icosphere(sphere, subdivisions=subdivisions, radius=0.5)
    sphere.verts.ensure_lookup_table()
    result = (
        [tuple(vertex.co) for vertex in sphere.verts],
        [tuple(v.index for v in face.verts) for face in sphere.faces],
    )
    sphere.free()
    return result


def _rock(random):
    vertices, faces = icosphere(5)
    offset = Vector([random.uniform(-100, 100) for _ in range(3)])
    stretch = [random.uniform(0.65, 1.0) for _ in range(3)]
    result = []
    for vertex in vertices:
        direction = Vector(vertex) * 2
        height = 0.24 * noise.noise(direction * 1.1 + offset) + 0.1 * noise.noise(direction * 2.7 + offset)
        ridge = 0.05 * noise.noise(direction * 7 + offset)
        result.append(tuple((1 + height + ridge) * part * scale for part, scale in zip(vertex, stretch)))
    return result, faces


def _chair():
    legs = [box((x, y, -0.28), (0.06, 0.06, 0.44)) for x in (-0.19, 0.19) for y in (-0.19, 0.19)]
    posts = [box((x, 0.19, 0.22), (0.06, 0.05, 0.54)) for x in (-0.19, 0.19)]
    slats = [box((0, 0.19, height), (0.33, 0.03, 0.09)) for height in (0.2, 0.33, 0.44)]
    return join(box((0, 0, -0.035), (0.46, 0.46, 0.05)), *legs, *posts, *slats)


def _table():
    legs = [box((x, y, -0.03), (0.06, 0.06, 0.5)) for x in (-0.43, 0.43) for y in (-0.25, 0.25)]
    apron = [box((0, y, 0.19), (0.8, 0.03, 0.08)) for y in (-0.25, 0.25)]
    return join(box((0, 0, 0.25), (1, 0.62, 0.05)), *legs, *apron)


def _lamp():
    base = _lathe([(0, -0.5), (0.17, -0.5), (0.17, -0.47), (0.03, -0.45), (0.018, -0.4), (0.018, 0.2), (0, 0.2)], 40)
    shade = _lathe([(0.24, 0.08), (0.13, 0.4), (0.12, 0.4), (0.23, 0.08), (0.24, 0.08)], 48)
    bulb = _lathe(_arc(0, 0.22, 0.055, -90, 90, 10), 20)
    return join(base, shade, bulb)


def _refine(mesh, value):
    """Bevel the edges, and add faces where a modifier needs them."""
    work = bmesh.new()
    work.from_mesh(mesh)
    if value["shape"] != "file":
        bmesh.ops.recalc_face_normals(work, faces=work.faces)
    if value["bevel"] > 0.005 and value["shape"] in BEVELLED:
        sharp = [edge for edge in work.edges if len(edge.link_faces) == 2 and edge.calc_face_angle() > math.radians(30)]
        shortest = min((edge.calc_length() for edge in sharp), default=0)
        width = min(value["bevel"], 0.3) * min(0.6, shortest * 1.4)
        if sharp and width > 1e-4:
            bmesh.ops.bevel(work, geom=sharp, offset=width, segments=3, profile=0.5, affect="EDGES", clamp_overlap=True)
    if value["modifier"] not in ("none", "subdivide"):
        longest = max((max(v.co) for v in work.verts), default=1) - min((min(v.co) for v in work.verts), default=0)
        for _ in range(4):  # every edge well below the size of the deformation, or a bent cube stays a cube
            long_edges = [edge for edge in work.edges if edge.calc_length() > longest / 9]
            if not long_edges or len(work.verts) > 6000:
                break
            bmesh.ops.subdivide_edges(work, edges=long_edges, cuts=1, use_grid_fill=True)
    work.to_mesh(mesh)
    work.free()


def _deform(mesh, value):
    strength = value["modifier_strength"]
    if value["modifier"] == "none" or strength <= 0:
        return
    if value["modifier"] == "subdivide":
        _subdivide(mesh, 2 if strength > 0.5 else 1)
        return
    vertices = coordinates(mesh)
    low, high = vertices.min(0), vertices.max(0)
    extent = np.maximum(high - low, 1e-9)
    x, y, z = ((vertices - (low + high) / 2) / extent.max()).T
    height = extent[2] / extent.max()
    if value["modifier"] == "twist":
        angle = strength * 2.4 * z / max(height, 0.3)
        x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    elif value["modifier"] == "taper":
        scale = 1 - 0.8 * strength * (z / height + 0.5)
        x, y = x * scale, y * scale
    elif value["modifier"] == "bend":
        bend = strength * 1.6 / max(height, 0.3)
        radius = 1 / bend - x
        x, z = 1 / bend - radius * np.cos(z * bend), radius * np.sin(z * bend)
    elif value["modifier"] == "wave":
        x = x + 0.1 * strength * np.sin(z / max(height, 0.3) * 3 * math.pi)
        z = z + 0.06 * strength * np.sin(y * 4 * math.pi)
    set_coordinates(mesh, np.stack((x, y, z), axis=1))


def _subdivide(mesh, levels):
    """Catmull-Clark, applied."""
    holder = bpy.data.objects.new("subdivided", mesh)
    bpy.context.scene.collection.objects.link(holder)
    modifier = holder.modifiers.new("subdivide", "SUBSURF")
    modifier.levels = levels
    smooth = bpy.data.meshes.new_from_object(holder.evaluated_get(bpy.context.evaluated_depsgraph_get()))
    bpy.data.objects.remove(holder)
    work = bmesh.new()
    work.from_mesh(smooth)
    work.to_mesh(mesh)
    work.free()
    bpy.data.meshes.remove(smooth)


def _mesh_of_file(value):
    """All meshes of a model file, joined in its rest pose."""
    before = set(bpy.data.objects)
    try:
        _import(value["file"], value["id"])
    except RuntimeError as error:
        raise ConfigurationError(f"{value['id']}: cannot read the model {value['file']}: {error}") from error
    added = [thing for thing in bpy.data.objects if thing not in before]
    graph = bpy.context.evaluated_depsgraph_get()
    joined = bmesh.new()
    materials = []
    for thing in added:
        if thing.type != "MESH":
            continue
        part = bpy.data.meshes.new_from_object(
            thing.evaluated_get(graph), preserve_all_data_layers=True, depsgraph=graph
        )
        part.transform(thing.matrix_world)
        start = len(joined.faces)
        joined.from_mesh(part)
        joined.faces.ensure_lookup_table()
        for face in joined.faces[start:]:
            face.material_index += len(materials)
        materials += list(thing.data.materials) or [None]
        bpy.data.meshes.remove(part)
    mesh = bpy.data.meshes.new(value["id"])
    joined.to_mesh(mesh)
    joined.free()
    for material in materials:
        mesh.materials.append(material)
    for thing in added:
        bpy.data.objects.remove(thing)
    return mesh


def _import(path, name):
    extension = os.path.splitext(path)[1].lower()
    if extension in (".glb", ".gltf"):
        _enable("io_scene_gltf2")
        bpy.ops.import_scene.gltf(filepath=path)
    elif extension == ".fbx":
        _enable("io_scene_fbx")
        bpy.ops.import_scene.fbx(filepath=path)
    elif extension == ".obj":
        bpy.ops.wm.obj_import(filepath=path)
    elif extension == ".ply":
        bpy.ops.wm.ply_import(filepath=path)
    elif extension == ".stl":
        bpy.ops.wm.stl_import(filepath=path)
    elif extension in (".usd", ".usda", ".usdc", ".usdz"):
        bpy.ops.wm.usd_import(filepath=path)
    else:
        raise ConfigurationError(f"{name}: {path} is not a glb, gltf, fbx, obj, ply, stl or usd file")


def _enable(addon):
    import addon_utils

    if not addon_utils.check(addon)[1]:
        addon_utils.enable(addon, default_set=False)
