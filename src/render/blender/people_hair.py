"""Hair: a cap grown from the scalp, longer behind for long hair.

In:  a `Body` and a kind ("short", "long"). Out: a `Piece`, or None for "none".
"""

import numpy

import people_clothes
import people_mesh

# The hairline: metres in front of the ears (of an adult's head) -> metres above them.
HAIRLINE = ((-0.20, -0.045), (-0.05, -0.045), (-0.03, 0.03), (0.012, 0.03), (0.018, 0.005), (0.034, 0.005),
            (0.05, 0.045), (0.07, 0.072), (0.2, 0.085))
CROWN = 0.153  # metres from an adult's head joint to the crown, the size that the hairline is measured on
FALL_COLUMNS, FALL_ROWS = 37, 12


def grow(body, kind):
    if kind == "none":
        return None
    frame = head_frame(body)
    piece = people_mesh.cut(scalp(body), hairline_field(scalp(body).points, frame))
    depth = hairline_field(piece.points, frame) / frame["size"]
    crown = numpy.clip((piece.points[:, 2] - frame["middle"][2]) / frame["size"] / 0.1, 0.0, 1.0)
    thickness = (0.003 + (0.003 + 0.012 * crown) * numpy.clip(depth / 0.04, 0.0, 1.0)) * frame["size"]
    piece.points = piece.points + piece.normals * thickness[:, None]
    piece = people_mesh.close_hem(piece, thickness + 0.003)
    return people_mesh.join(piece, fall(body, frame)) if kind == "long" else piece


def fall(body, frame):
    """Hair that hangs from the crown over the ears and the nape to below the shoulders: a sheet around head and neck.

    Its columns go around the back from one temple to the other; each row keeps outside of what is under it.
    """
    size, middle = frame["size"], frame["middle"]
    top = middle[2] + 0.075 * size
    bottom = body.heads["neck_01"][2] - 0.10 * size
    angles = numpy.radians(numpy.linspace(-92, 92, FALL_COLUMNS))  # from straight back
    heights = numpy.linspace(top, bottom, FALL_ROWS)
    directions = numpy.stack([numpy.sin(angles), numpy.cos(angles)], axis=1)
    centre = numpy.array([middle[0], middle[1] + 0.01 * size])
    # At the sides the hair drops between neck and shoulder; behind it may lie on the back.
    reach = (0.095 + 0.06 * numpy.cos(angles / angles[-1] * numpy.pi / 2)) * size
    radii = numpy.array([sheet_radii(body, centre, directions, height, size) for height in heights])
    for row in range(1, FALL_ROWS):  # hair does not turn back in under the head, it hangs
        radii[row] = numpy.maximum(radii[row], radii[row - 1] - 0.012 * size)
    radii[:, 1:-1] = (radii[:, :-2] + radii[:, 1:-1] + radii[:, 2:]) / 3
    radii = numpy.minimum(radii, reach)
    tucked = numpy.clip(numpy.linspace(0, 4, FALL_ROWS), 0.0, 1.0)[:, None]  # the upper edge lies under the cap
    radii = radii - 0.012 * size * (1 - tucked)
    waves = 1 + 0.02 * numpy.sin(angles * 9)[None] * numpy.linspace(0, 1, FALL_ROWS)[:, None]
    radii = radii * waves
    lengths = bottom + (0.06 * size * numpy.abs(angles / angles[0]) ** 3 + 0.005 * numpy.sin(angles * 13))
    rows = numpy.linspace(0, 1, FALL_ROWS)[:, None]
    points = numpy.stack([centre[0] + radii * directions[:, 0], centre[1] + radii * directions[:, 1],
                          top + rows * (lengths - top)[None]], axis=-1).reshape(-1, 3)
    faces = [[row * FALL_COLUMNS + column, (row + 1) * FALL_COLUMNS + column, (row + 1) * FALL_COLUMNS + column + 1,
              row * FALL_COLUMNS + column + 1] for row in range(FALL_ROWS - 1) for column in range(FALL_COLUMNS - 1)]
    piece = people_mesh.extract(points, faces, fall_weights(body, points))
    return people_mesh.close_hem(piece, 0.012 * size)


def sheet_radii(body, centre, directions, height, size):
    """How far the sheet is from the head's axis at a height, per direction: outside of the body there."""
    near = body.faces["body"].ravel()
    points = body.vertices[numpy.unique(near)]
    level = points[(numpy.abs(points[:, 2] - height) < 0.02 * size) & (numpy.abs(points[:, 0]) < 0.15 * size)]
    flat = level[:, :2] - centre
    distance = numpy.linalg.norm(flat, axis=1)
    along = flat @ directions.T / numpy.maximum(distance[:, None], 1e-6)
    beside = numpy.where(along > 0.96, distance[:, None], 0.0)
    return numpy.clip(beside.max(axis=0, initial=0.0) + 0.014 * size, 0.07 * size, 0.15 * size)


def fall_weights(body, points):
    """The head carries the hair at the top; lower down it lies on the neck and the back."""
    weights = numpy.zeros((len(points), len(body.bones)))
    head, neck, chest = body.heads["head"][2], body.heads["neck_01"][2], body.heads["neck_01"][2] - 0.12
    at_head = numpy.clip((points[:, 2] - neck) / (head - neck), 0.0, 1.0)
    at_chest = numpy.clip((neck + 0.03 - points[:, 2]) / (neck + 0.03 - chest), 0.0, 1.0) * (1 - at_head)
    weights[:, body.bone_names.index("head")] = at_head
    weights[:, body.bone_names.index("spine_03")] = at_chest
    weights[:, body.bone_names.index("neck_01")] = 1 - at_head - at_chest
    return weights


def scalp(body):
    """The outer faces of the head."""
    weights = people_clothes.dense_weights(body)
    head = weights[:, body.bone_names.index("head")] + weights[:, body.bone_names.index("neck_01")]
    faces = body.faces["body"]
    return people_mesh.extract(body.vertices, faces[(head[faces] > 0.5).all(axis=1)], weights)


def head_frame(body):
    """Where the ears are, and the head's size relative to an adult's."""
    left, right = ear(body, "left"), ear(body, "right")
    first, last = 0, 13379
    crown = body.vertices[first:last + 1, 2].max()
    joint = body.heads["head"][2]
    return {"left": left, "right": right, "middle": (left + right) / 2, "size": (crown - joint) / CROWN}


def ear(body, side):
    return body.vertices[body.marks[f"{side}_ear"]].mean(axis=0)


def hairline_field(points, frame):
    forward = (frame["middle"][1] - points[:, 1]) / frame["size"]
    above = (points[:, 2] - frame["middle"][2]) / frame["size"]
    line = numpy.array(HAIRLINE)
    field = above - numpy.interp(forward, line[:, 0], line[:, 1])
    return field * frame["size"]
