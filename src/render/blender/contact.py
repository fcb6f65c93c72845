"""Contacts of rigid bodies: simulated poses enter, the moments at which two things begin to touch leave.

Bodies collide as convex hulls, so hulls are what is tested, slightly blown up: a body at rest keeps a hair's breadth
from the floor.
"""

import bmesh
import numpy as np
from mathutils import Vector
from mathutils.bvhtree import BVHTree

import shapes

TOUCHING = 0.012  # of a body's size: nearer than this is a contact
APART = 0.05  # of a body's size: farther than this ends one, so that a rattling body is not a hundred contacts


def events(objects, ramp, history, steps):
    """Contacts [(scene frame, name, name, point)] from poses [objects, steps, 4, 4]."""
    hulls = [_hull(thing.object.data) for thing in objects]
    supports = [] if ramp is None else [(ramp.name, _tree(*_hull(ramp.object.data), np.eye(4), 0.0))]
    touching = set()
    result = []
    radii = np.array([np.linalg.norm(vertices, axis=1).max() for vertices, _ in hulls])
    sizes = np.array([max(thing.size) for thing in objects])
    for step in range(history.shape[1]):
        frame = int(np.ceil(step / steps))
        poses = history[:, step]
        # Half of a step's way counts as near, or a fast body would bounce unseen between two steps.
        moved = np.linalg.norm(poses[:, :3, 3] - history[:, max(step - 1, 0), :3, 3], axis=1) / 2
        growths = TOUCHING + moved / sizes
        trees = {}

        for index, thing in enumerate(objects):
            points = hulls[index][0] @ poses[index, :3, :3].T + poses[index, :3, 3]
            lowest = points[:, 2].argmin()
            if points[lowest, 2] > sizes[index] * APART:
                touching.discard((thing.name, "floor"))
            elif points[lowest, 2] < sizes[index] * growths[index] and (thing.name, "floor") not in touching:
                touching.add((thing.name, "floor"))
                near = points[points[:, 2] < points[lowest, 2] + sizes[index] * TOUCHING]
                result.append((frame, thing.name, "floor", [*near.mean(0)[:2], 0.0]))
            for name, support in supports:
                _meet(result, touching, frame, thing.name, name, _cached(trees, index, hulls, poses, growths), support)
        offsets = poses[:, None, :3, 3] - poses[None, :, :3, 3]
        near = np.linalg.norm(offsets, axis=2) < (radii[:, None] + radii[None, :]) * (1 + APART)
        for first, second in zip(*np.nonzero(np.triu(near, 1))):
            _meet(
                result,
                touching,
                frame,
                objects[first].name,
                objects[second].name,
                _cached(trees, first, hulls, poses, growths),
                _cached(trees, second, hulls, poses, growths),
            )
        for pair in list(touching):
            if pair[1] != "floor" and not _are_near(pair, objects, near):
                touching.discard(pair)
    return result


def _cached(trees, index, hulls, poses, growths):
    """An object's tree at this step: most steps need none."""
    if index not in trees:
        trees[index] = _tree(*hulls[index], poses[index], growths[index])
    return trees[index]


def _meet(result, touching, frame, first, second, tree, other):
    overlap = tree[0].overlap(other[0])
    if not overlap:
        return
    if (first, second) not in touching:
        touching.add((first, second))
        points = [tree[1][index] for index, _ in overlap] + [other[1][index] for _, index in overlap]
        result.append((frame, first, second, list(np.mean(points, axis=0))))


def _are_near(pair, objects, near):
    names = [thing.name for thing in objects]
    if pair[0] not in names or pair[1] not in names:
        return True
    first, second = sorted((names.index(pair[0]), names.index(pair[1])))
    return bool(near[first, second])


def _hull(mesh):
    """The convex hull's vertices and triangles."""
    work = bmesh.new()
    for vertex in shapes.coordinates(mesh):
        work.verts.new(Vector(vertex))
    result = bmesh.ops.convex_hull(work, input=work.verts)
    unused = [element for element in result["geom_interior"] if isinstance(element, bmesh.types.BMVert)]
    bmesh.ops.delete(work, geom=unused, context="VERTS")
    bmesh.ops.triangulate(work, faces=work.faces)
    work.verts.index_update()
    vertices = np.array([tuple(vertex.co) for vertex in work.verts])
    faces = [tuple(vertex.index for vertex in face.verts) for face in work.faces]
    work.free()
    return vertices, faces


def _tree(vertices, faces, pose, growth):
    points = vertices * (1 + growth) @ pose[:3, :3].T + pose[:3, 3]
    centers = points[np.array(faces)].mean(1)
    return BVHTree.FromPolygons(points.tolist(), faces), centers
