"""Clothes: shirt, trousers and shoes made from the base mesh's tights, and what they leave of the body.

In:  a `Body` and the person's configuration (sleeve, kind of bottom).
Out: a `Piece` per garment, and the body's faces that no garment covers. Covered skin is removed rather than hidden
     under the cloth, so that no pose can push it through.
"""

import numpy

import people_mesh

COVER = 0.04  # metres of body kept under a garment's border, so that no gap opens when a limb bends
ARM = ("upperarm", "lowerarm", "hand", "thumb", "index", "middle", "ring", "pinky")
NOWHERE = 9.0  # a field's value where a cut has no say


def garments(body, top, bottom):
    """Piece by name, and the faces of the body that stay."""
    tights = tights_piece(body)
    fields = {"shirt": shirt_field, "trousers": trousers_field, "shoes": shoes_field}
    lengths = {"shirt": top.get("sleeve", "short"), "trousers": bottom.get("kind", "trousers"), "shoes": None}
    pieces = {}
    weights = dense_weights(body)
    first, last = 0, 13379
    skin_points, skin_weights = body.vertices[first:last + 1], weights[first:last + 1]
    covered = numpy.zeros(len(skin_points), dtype=bool)
    for name, field in fields.items():
        pieces[name] = people_mesh.cut(tights, field(body, tights.points, tights.weights, lengths[name]))
        covered |= field(body, skin_points, skin_weights, lengths[name]) > COVER
    pieces["shirt"] = dress_shirt(body, pieces["shirt"], lengths["shirt"])
    pieces["trousers"] = dress_trousers(body, pieces["trousers"], lengths["trousers"])
    pieces["shoes"] = dress_shoes(body, pieces["shoes"])
    faces = body.faces["body"]
    return pieces, faces[~covered[faces].all(axis=1)]


def tights_piece(body):
    piece = people_mesh.extract(body.vertices, body.faces["tights"], dense_weights(body))
    above_feet = (piece.points[:, 2] > body.heads["foot_l"][2])[:, None]
    piece.points = numpy.where(above_feet, people_mesh.smooth(piece.points, piece.faces, 4), piece.points)
    piece.normals = people_mesh.normals(piece.points, piece.faces)
    return piece


def dense_weights(body):
    dense = numpy.zeros((len(body.vertices), len(body.bones)))
    numpy.put_along_axis(dense, body.bone_indices, body.bone_weights, axis=1)
    return dense


def share_of(body, weights, *names):
    """How much each vertex belongs to the bones whose first word is one of these."""
    columns = [index for index, name in enumerate(body.bone_names) if name.split("_")[0] in names]
    return weights[:, columns].sum(axis=1)


# Fields: positive where the garment is, in metres from its border


def shirt_field(body, points, weights, sleeve):
    hem = points[:, 2] - hem_height(body)
    neck = body.heads["neck_01"]
    collar = numpy.array([0.0, -0.4, 0.9])  # tilted: lower in front than behind
    throat = (neck + numpy.array([0.0, 0.0, 0.02]) - points) @ (collar / numpy.linalg.norm(collar))
    throat = numpy.where(numpy.abs(points[:, 0]) < 0.14, throat, NOWHERE)
    return numpy.minimum.reduce([hem, throat, *(sleeve_field(body, points, weights, side, sleeve) for side in "lr")])


def sleeve_field(body, points, weights, side, sleeve):
    shoulder, elbow, wrist = (body.heads[f"{bone}_{side}"] for bone in ("upperarm", "lowerarm", "hand"))
    start, end, share = (shoulder, elbow, 0.62) if sleeve == "short" else (elbow, wrist, 0.95)
    direction = (end - start) / numpy.linalg.norm(end - start)
    along = (start + (end - start) * share - points) @ direction
    bones = [name for name in body.bone_names if name.endswith(f"_{side}") and name.split("_")[0] in ARM]
    arm = weights[:, [body.bone_names.index(name) for name in bones]].sum(axis=1)
    outer = weights[:, [body.bone_names.index(name) for name in bones if not name.startswith("upperarm")]].sum(axis=1)
    if sleeve == "short":
        return numpy.where(outer > 0.5, numpy.minimum(along, -0.01), numpy.where(arm > 0.5, along, NOWHERE))
    return numpy.where(outer > 0.5, along, NOWHERE)


def trousers_field(body, points, weights, kind):
    waist = waist_height(body) - points[:, 2]
    arm = share_of(body, weights, *ARM)
    waist = numpy.where(arm > 0.3, -NOWHERE, waist)
    legs = []
    for side in "lr":
        hip, knee, ankle = (body.heads[f"{bone}_{side}"] for bone in ("thigh", "calf", "foot"))
        start, end, share = (hip, knee, 0.82) if kind == "shorts" else (knee, ankle, 0.97)
        direction = (end - start) / numpy.linalg.norm(end - start)
        along = (start + (end - start) * share - points) @ direction
        mine = points[:, 0] * (1 if side == "l" else -1) >= 0
        legs.append(numpy.where(mine, along, NOWHERE))
    return numpy.minimum.reduce([waist, *legs])


def shoes_field(body, points, weights, _):
    return body.heads["foot_l"][2] * 1.12 - points[:, 2]


def hem_height(body):
    """Where the shirt ends: somewhat above the hip joints."""
    return body.heads["thigh_l"][2] + 0.1 * (body.heads["spine_03"][2] - body.heads["thigh_l"][2])


def waist_height(body):
    return hem_height(body) + 0.09


# Cut and fit


def dress_shirt(body, piece, sleeve):
    height = piece.points[:, 2]
    chest, hem = body.heads["spine_03"][2], hem_height(body)
    arm = share_of(body, piece.weights, "upperarm", "lowerarm", "hand")
    collar = numpy.clip((body.heads["neck_01"][2] - height) / 0.1, 0.0, 1.0)
    torso = 0.004 + 0.007 * collar + 0.011 * numpy.clip((chest + 0.1 - height) / (chest + 0.1 - hem), 0.0, 1.0)
    limb = 0.016 if sleeve == "short" else 0.012
    offset = torso * (1 - arm) + limb * arm
    piece.points = piece.points + piece.normals * offset[:, None]
    return people_mesh.close_hem(piece, offset * 0.85 + 0.004)


def dress_trousers(body, piece, kind):
    hip, knee = body.heads["thigh_l"][2], body.heads["calf_l"][2]
    height = piece.points[:, 2]
    down = numpy.clip((hip - height) / (hip - knee), 0.0, 2.0)
    offset = 0.007 + (0.013 if kind == "shorts" else 0.007) * down
    piece.points = piece.points + piece.normals * offset[:, None]
    return people_mesh.close_hem(piece, offset * 0.85 + 0.003)


def dress_shoes(body, piece):
    """Feet made a little larger, with a flat sole of another colour (slot 1)."""
    points = piece.points + piece.normals * 0.008
    sole = piece.points[:, 2] < 0.018
    points[:, 2] = numpy.where(sole, -0.016, numpy.maximum(points[:, 2], 0.012))
    piece.points = points
    piece = people_mesh.close_hem(piece, 0.012)
    piece.slots = [1 if all(piece.points[index, 2] < 0.014 for index in face) else 0 for face in piece.faces]
    return piece
