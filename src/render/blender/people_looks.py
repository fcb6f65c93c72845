"""What a person looks like apart from shape: the visible skin with eyes, a painted face, the materials.

In:  a `Body`, the faces that clothes leave, the person's configuration.
Out: the body's `Piece`, materials by part, linear colours per vertex of the skin.
"""

import numpy

import people_clothes
import people_material
import people_mesh

BROW_HEIGHT = 1.35  # radii of the eyeball above its centre


def skin_piece(body, faces):
    """What clothes leave of the body, with the eyeballs (slots 1 to 3: white, iris, pupil)."""
    eyes = [body.faces["left_eye"], body.faces["right_eye"]]
    weights = people_clothes.dense_weights(body)
    piece = people_mesh.extract(body.vertices, numpy.concatenate([faces, *eyes]), weights)
    slots = [0] * len(faces)
    for faces_of_eye in eyes:
        slots += eye_slots(body.vertices, faces_of_eye)
    piece.slots = slots
    return piece


def eye_slots(vertices, faces):
    """Iris and pupil are the faces nearest to the front of the ball."""
    points = vertices[numpy.unique(faces)]
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    middle = vertices[faces].mean(axis=1) - centre
    front = -middle[:, 1] / numpy.linalg.norm(middle, axis=1)
    return [3 if value > 0.985 else 2 if value > 0.87 else 1 for value in front]


def make_materials(name, config):
    eye_color = [0.25, 0.16, 0.1] if sum(config["hair"]["color"]) < 1.2 else [0.3, 0.42, 0.5]
    return {
        "body": [people_material.skin(f"{name}_skin", config["skin"]),
                 people_material.plain(f"{name}_eye_white", [0.9, 0.89, 0.87], 0.3),
                 people_material.plain(f"{name}_iris", eye_color, 0.3),
                 people_material.plain(f"{name}_pupil", [0.05, 0.05, 0.05], 0.2)],
        "shirt": [people_material.cloth(f"{name}_shirt", config["top"]["color"])],
        "trousers": [people_material.cloth(f"{name}_trousers", config["bottom"]["color"])],
        "shoes": [people_material.plain(f"{name}_shoes", config["shoes"]["color"], 0.6),
                  people_material.plain(f"{name}_soles", [0.85, 0.84, 0.8], 0.8)],
        "hair": [people_material.hair(f"{name}_hair", config["hair"]["color"])],
    }


def paint_skin(body, piece, config):
    """Linear colours for the skin's vertices: redder lips, lashes, brows in the hair's colour."""
    base = numpy.array(people_material.to_linear(config["skin"]))
    hair = numpy.array(people_material.to_linear(config["hair"]["color"]))
    if config["hair"]["kind"] == "none":
        hair = base * 0.5
    colors = numpy.tile(base, (len(body.vertices), 1))
    for mark, tint in (("upper_lip", [0.80, 0.50, 0.50]), ("lower_lip", [0.86, 0.53, 0.53])):
        colors[body.marks[mark]] = base * tint
    points = body.vertices
    for side in ("left", "right"):
        around = numpy.unique(body.faces[f"{side}_eye"])
        middle = (points[around].min(axis=0) + points[around].max(axis=0)) / 2
        radius = (points[around, 2].max() - points[around, 2].min()) / 2
        across = (points[:, 0] - middle[0]) / radius * (1 if side == "left" else -1)  # outward
        above = (points[:, 2] - middle[2]) / radius
        front = (points[:, 1] < middle[1]) & (numpy.abs(across) < 3) & (numpy.abs(above) < 3)
        distance = numpy.linalg.norm(points - middle, axis=1) / radius
        lash = front * numpy.clip((1.22 - distance) / 0.12, 0.0, 1.0) * (above > -0.1)
        arch = BROW_HEIGHT + 0.28 * (1 - ((across - 0.5) / 1.6) ** 2)
        along = numpy.clip((across + 1.15) / 0.3, 0, 1) * numpy.clip((2.1 - across) / 0.4, 0, 1)
        brow = front * along * numpy.exp(-((above - arch) / 0.22) ** 2)
        for share, color in ((lash * 0.6, base * 0.12), (brow * 0.8, hair * 0.8)):
            colors = colors * (1 - share[:, None]) + color * share[:, None]
    return colors[piece.origin]


def eye(body, side):
    """The front of the eyeball."""
    points = body.vertices[numpy.unique(body.faces[f"{side}_eye"])]
    return points[numpy.argsort(points[:, 1])[:5]].mean(axis=0)
