"""The naked body: morph targets blended to a rest mesh, its joints, and linear blend skinning in numpy.

In:  the people folder of the assets and the person's body numbers (0..1 each).
Out: `Body`: every vertex of the base mesh at rest (metres, Z up, facing -Y, soles on z = 0), face lists by part, joints
     by bone, skin weights. `skin` deforms any set of vertices by bone matrices; what Blender's armature modifier shows
     is the same, so ground truth is computed without evaluating a depsgraph.
"""

import functools
import json
import os
import random
from dataclasses import dataclass

import numpy

# Where a number between 0 and 1 lies among the targets (macro.json of MakeHuman). Ages below a child of about ten are
# not offered: the motion clips are adults' and a toddler's proportions do not carry them.
AGE = ((0.1875, "child"), (0.5, "young"), (1.0, "old"))
MUSCLE = ((0.0, "minmuscle"), (0.5, "averagemuscle"), (1.0, "maxmuscle"))
WEIGHT = ((0.0, "minweight"), (0.5, "averageweight"), (1.0, "maxweight"))
GENDER = ((0.0, "female"), (1.0, "male"))


@dataclass
class Body:
    """A rest mesh with its rig. Arrays are indexed by the base mesh's vertices."""

    vertices: numpy.ndarray  # [V, 3]
    faces: dict  # part name -> [F, 4] vertex indices
    bone_indices: numpy.ndarray  # [V, 4]
    bone_weights: numpy.ndarray  # [V, 4], rows sum to one
    bones: list  # {"name", "parent"}, parents first
    heads: dict  # bone name -> [3]
    tails: dict  # bone name -> [3]
    marks: dict  # place name -> vertex indices

    @property
    def bone_names(self):
        return [bone["name"] for bone in self.bones]


@functools.lru_cache(maxsize=1)
def load_assets(folder):
    """The base mesh and the target archive; kept because a worker builds many people."""
    people = os.path.join(folder, "people")
    try:
        with open(os.path.join(people, "body.json"), encoding="utf-8") as file:
            description = json.load(file)
        with numpy.load(os.path.join(people, "body.npz")) as archive:
            arrays = {name: archive[name] for name in archive.files}
        targets = numpy.load(os.path.join(people, "targets.npz"))
    except (OSError, ValueError, KeyError) as error:
        raise RuntimeError(f"{people}: cannot be read ({error}); unpack the renderer's assets again") from error
    return description, arrays, targets


def build_body(folder, numbers):
    """The body of `numbers`: gender, age, muscle, weight, height, proportions."""
    description, arrays, targets = load_assets(folder)
    vertices = arrays["vertices"].astype(numpy.float64)
    step = description["target_step"]
    for name, share in target_shares(numbers).items():
        vertices += targets[name] * (share * step)
    shares = arrays["bone_weights"].astype(numpy.float64)
    first, last = description["parts"]["body"]
    vertices[:, 2] -= vertices[first:last + 1, 2].min()
    return Body(
        vertices=vertices,
        faces={name: arrays["faces_" + name].astype(numpy.int64) for name in description["parts"]},
        bone_indices=arrays["bone_indices"].astype(numpy.int64),
        bone_weights=shares / numpy.maximum(shares.sum(axis=1, keepdims=True), 1.0),
        bones=[{"name": bone["name"], "parent": bone["parent"]} for bone in description["bones"]],
        heads={bone["name"]: vertices[bone["head"]].mean(axis=0) for bone in description["bones"]},
        tails={bone["name"]: vertices[bone["tail"]].mean(axis=0) for bone in description["bones"]},
        marks={name: numpy.array(indices) for name, indices in description["marks"].items()},
    )


def target_shares(numbers):
    """Target name -> share, the products that MakeHuman's macro targets are made for."""
    values = {name: min(1.0, max(0.0, float(numbers.get(name, 0.5))))
              for name in ("gender", "age", "muscle", "weight", "height", "proportions")}
    shares = {}
    faces = face_shares(values)
    for age, age_share in between(AGE, values["age"]):
        for gender, gender_share in between(GENDER, values["gender"]):
            person = age_share * gender_share
            for race, race_share in faces.items():
                add_share(shares, f"{race}-{gender}-{age}", person * race_share)
            for muscle, muscle_share in between(MUSCLE, values["muscle"]):
                for weight, weight_share in between(WEIGHT, values["weight"]):
                    name = f"universal-{gender}-{age}-{muscle}-{weight}"
                    add_share(shares, name, person * muscle_share * weight_share)
            average = f"{gender}-{age}-averagemuscle-averageweight"
            add_extreme(shares, average, tame(values["height"]), ("minheight", "maxheight"), person)
            add_extreme(shares, average, values["proportions"], ("uncommonproportions", "idealproportions"), person)
    return shares


def between(stops, value):
    """The one or two stops around a value, with linear shares."""
    value = min(max(value, stops[0][0]), stops[-1][0])
    for (low, low_name), (high, high_name) in zip(stops, stops[1:]):
        if value <= high:
            share = (value - low) / (high - low)
            return [(name, part) for name, part in ((low_name, 1 - share), (high_name, share)) if part > 1e-6]
    return [(stops[-1][1], 1.0)]


def tame(height):
    """MakeHuman's height goes from 1.4 to 2.4 metres; 0 to 1 here is 1.55 to 2.0 for a grown man."""
    return 0.5 + (height - 0.5) * (0.5 if height < 0.5 else 0.4)


def add_extreme(shares, prefix, value, names, person):
    share = abs(value - 0.5) * 2
    add_share(shares, f"{prefix}-{names[0] if value < 0.5 else names[1]}", share * person)


def add_share(shares, name, share):
    if share > 1e-6:
        shares[name] = shares.get(name, 0.0) + share


def face_shares(values):
    """A blend of the three base faces, drawn from the body numbers so that faces differ from person to person."""
    draw = random.Random("face " + repr(sorted(values.items())))
    weights = [draw.random() ** 2 + 0.02 for _ in range(3)]
    return {race: weight / sum(weights) for race, weight in zip(("african", "asian", "caucasian"), weights)}


def skin(points, indices, weights, matrices):
    """Linear blend skinning. points [N, 3], indices and weights [N, 4], matrices [T, B, 4, 4] -> [T, N, 3]."""
    result = numpy.zeros((len(matrices), len(points), 3))
    for slot in range(indices.shape[1]):
        chosen = matrices[:, indices[:, slot]]
        moved = numpy.einsum("tnij,nj->tni", chosen[..., :3, :3], points) + chosen[..., :3, 3]
        result += moved * weights[None, :, slot, None]
    return result
