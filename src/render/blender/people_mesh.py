"""Small mesh operations on numpy arrays: normals, smoothing, cutting along a field, closing a hem.

A `Piece` is a mesh with skin weights that is on its way to a Blender object. Cutting interpolates everything a vertex
carries, so that a garment's edge is a clean line however the quads lie, and follows the bones like its neighbours.
"""

from dataclasses import dataclass, replace

import numpy


@dataclass
class Piece:
    """Points [N, 3], polygons as lists of indices, and a weight for each bone [N, B]."""

    points: numpy.ndarray
    faces: list
    weights: numpy.ndarray
    slots: list = None  # material slot of each face; all 0 where None
    origin: numpy.ndarray = None  # index of each vertex in the base mesh, where nothing has been cut
    normals: numpy.ndarray = None  # [N, 3] of the uncut surface: a sliver at a cut has no good normal of its own


def extract(points, faces, weights):
    """The piece of the given faces alone."""
    used = numpy.unique(numpy.concatenate([numpy.ravel(face) for face in faces])) if len(faces) else numpy.zeros(0, int)
    renumber = numpy.full(len(points), -1)
    renumber[used] = numpy.arange(len(used))
    renumbered = [list(dict.fromkeys(renumber[list(face)].tolist())) for face in faces]
    piece = Piece(points[used].copy(), renumbered, weights[used].copy(), origin=used)
    piece.normals = normals(piece.points, piece.faces)
    return piece


def triangles(faces):
    return numpy.array([(face[0], face[i], face[i + 1]) for face in faces for i in range(1, len(face) - 1)])


def normals(points, faces):
    """Vertex normals, weighted by area."""
    corners = triangles(faces)
    a, b, c = points[corners[:, 0]], points[corners[:, 1]], points[corners[:, 2]]
    area = numpy.cross(b - a, c - a)
    result = numpy.zeros_like(points)
    for column in range(3):
        numpy.add.at(result, corners[:, column], area)
    return result / numpy.maximum(numpy.linalg.norm(result, axis=1, keepdims=True), 1e-12)


def edges(faces):
    """Edge -> how many faces have it, with the first face's direction kept."""
    counts = {}
    for face in faces:
        for a, b in zip(face, face[1:] + face[:1]):
            key = (a, b) if (b, a) not in counts else (b, a)
            counts[key] = counts.get(key, 0) + 1
    return counts


def smooth(points, faces, rounds, share=0.5):
    """Moves each inner vertex towards the mean of its neighbours; the open border stays."""
    counts = edges(faces)
    pairs = numpy.array(list(counts))
    border = numpy.unique(numpy.array([edge for edge, count in counts.items() if count == 1], dtype=int).reshape(-1))
    degree = numpy.bincount(pairs.ravel(), minlength=len(points))[:, None]
    movable = numpy.ones((len(points), 1))
    movable[border] = 0.0
    result = points.copy()
    for _ in range(rounds):
        total = numpy.zeros_like(result)
        numpy.add.at(total, pairs[:, 0], result[pairs[:, 1]])
        numpy.add.at(total, pairs[:, 1], result[pairs[:, 0]])
        result += movable * share * (total / numpy.maximum(degree, 1) - result)
    return result


def cut(piece, field):
    """Keeps the side where `field` [N] is positive; faces that cross are split along its zero line."""
    positive = field > 0
    faces, crossing = [], []
    for face in piece.faces:
        inside = positive[face]
        if inside.all():
            faces.append(face)
        elif inside.any():
            crossing.append(face)
    split, ends, shares = {}, [], []

    def border(a, b):
        key = (a, b) if a < b else (b, a)
        if key not in split:
            split[key] = len(piece.points) + len(split)
            ends.append(key)
            shares.append(field[key[0]] / (field[key[0]] - field[key[1]]))
        return split[key]

    for face in crossing:
        polygon = []
        for a, b in zip(face, face[1:] + face[:1]):
            if positive[a]:
                polygon.append(a)
            if positive[a] != positive[b]:
                polygon.append(border(a, b))
        if len(polygon) >= 3:
            faces.append(polygon)
    ends, shares = numpy.array(ends, dtype=int).reshape(-1, 2), numpy.array(shares).reshape(-1, 1)

    def grown(values):
        return numpy.concatenate([values, values[ends[:, 0]] * (1 - shares) + values[ends[:, 1]] * shares])

    kept = extract(grown(piece.points), faces, grown(piece.weights))
    direction = grown(piece.normals)[kept.origin]
    kept.normals = direction / numpy.maximum(numpy.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    kept.origin = None
    return kept


def close_hem(piece, depth):
    """Folds each open border inward by `depth` metres along the normals, so that cloth has a visible thickness."""
    border = [edge for edge, count in edges(piece.faces).items() if count == 1]
    outer = sorted({index for edge in border for index in edge})
    inner = {index: len(piece.points) + number for number, index in enumerate(outer)}
    depth = numpy.broadcast_to(depth, len(piece.points))
    folded = piece.points[outer] - piece.normals[outer] * depth[outer, None]
    rim = [[b, a, inner[a], inner[b]] for a, b in border]
    return replace(piece, points=numpy.concatenate([piece.points, folded]), faces=piece.faces + rim,
                   weights=numpy.concatenate([piece.weights, piece.weights[outer]]),
                   normals=numpy.concatenate([piece.normals, piece.normals[outer]]),
                   slots=None if piece.slots is None else piece.slots + [0] * len(rim))


def join(first, second):
    """Both pieces as one."""
    shift = len(first.points)
    return Piece(points=numpy.concatenate([first.points, second.points]),
                 faces=first.faces + [[index + shift for index in face] for face in second.faces],
                 weights=numpy.concatenate([first.weights, second.weights]),
                 normals=numpy.concatenate([first.normals, second.normals]))
