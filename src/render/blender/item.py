"""What a scene shows: an Item is one numbered thing (an object, the person, a ramp, a cloth) with its place in every
scene frame.

The renderer asks each item to show itself frame by frame; the camera and the truth ask for its points and its pose.
"""

from dataclasses import dataclass, field

import bpy
import numpy as np
from mathutils import Matrix

import shapes

SAMPLED_POINTS = 400
BODY_MARGIN = 0.13  # metres of body around a person's joints


@dataclass
class Item:
    """One instance. `poses` are object-to-world matrices [frames, 4, 4]; the other fields override them where they
    are set.
    """

    name: str
    parts: list
    number: int = 0
    poses: np.ndarray = None
    local: np.ndarray = None  # sampled vertices in the object's own coordinates
    size: tuple = (0.0, 0.0, 0.0)
    configuration: dict = None
    vertices: np.ndarray = None  # world vertices [frames, n, 3] of a mesh that changes its form
    meshes: list = None  # a mesh for each frame, where even the faces change
    person: object = None
    anchor: object = None  # an empty that moves the person as a whole
    is_support: bool = False  # a ramp, a pole, a tank: shown and numbered, not framed by itself
    densities: list = None  # the smoke's values of each frame
    is_volume: bool = False  # smoke: no surface, so that no pass knows it
    swaps: dict = field(default_factory=dict)  # output frame -> mesh shown instead

    @property
    def object(self):
        """The item's only or main Blender object."""
        return self.parts[0]

    def points(self, frame):
        """World points that the item fills at a scene frame, for framing."""
        if self.person is not None:
            if frame == 0:
                return self.local
            joints = np.asarray(self.person.keypoints_3d(frame), float)
            # Joints lie inside the body, and the nose below the top of the head.
            return np.concatenate([joints + offset for offset in BODY_MARGIN * np.vstack((np.eye(3), -np.eye(3)))])
        if self.vertices is not None:
            return sample(self.vertices[min(frame, len(self.vertices) - 1)])
        if self.poses is None:
            return self.local
        pose = self.poses[min(frame, len(self.poses) - 1)]
        return self.local @ pose[:3, :3].T + pose[:3, 3]

    def center(self, frame):
        """The middle of the item at a scene frame."""
        if self.person is not None:
            roots = np.asarray(self.person.root_positions, float)
            return roots[min(frame, len(roots) - 1)]
        if self.vertices is None and self.poses is not None:
            return self.poses[min(frame, len(self.poses) - 1)][:3, 3]
        points = self.points(frame)
        return (points.min(0) + points.max(0)) / 2

    def pose(self, frame):
        """The object-to-world matrix at a scene frame; a cloth or a person has only a place."""
        if self.poses is not None and self.vertices is None and self.meshes is None:
            return self.poses[min(frame, len(self.poses) - 1)]
        pose = np.eye(4)
        pose[:3, 3] = self.center(frame)
        return pose

    def show(self, frame, shift, visible):
        """Bring the Blender objects to a scene frame, moved by `shift`."""
        for part in self.parts:
            if part.hide_render == visible:
                part.hide_render = not visible
        if self.anchor is not None:
            self.anchor.location = shift
            return
        if self.meshes is not None:
            self.object.data = self.meshes[min(frame, len(self.meshes) - 1)]
        if self.densities is not None:
            density = self.densities[min(frame, len(self.densities) - 1)]
            self.object.data.attributes["smoke"].data.foreach_set("value", density)
            self.object.data.update()
            self.object.location = shift
        elif self.meshes is not None:
            self.object.location = shift
        if self.vertices is not None:
            shapes.set_coordinates(self.object.data, self.vertices[min(frame, len(self.vertices) - 1)])
            self.object.location = shift
        elif self.poses is not None:
            pose = self.poses[min(frame, len(self.poses) - 1)].copy()
            pose[:3, 3] += shift
            place(self.object, pose)


def place(thing, pose):
    """Set an object's matrix, but only when it moves: an unchanged object costs the next render nothing."""
    if not np.allclose(np.asarray(thing.matrix_basis), pose, atol=1e-7):
        thing.matrix_basis = Matrix(pose.tolist())  # nested lists would be read column by column


def from_mesh(clip, name, mesh, configuration=None, **fields):
    """An item of one mesh object, linked to the scene and numbered."""
    thing = bpy.data.objects.new(name, mesh)
    clip.collection.objects.link(thing)
    vertices = shapes.coordinates(mesh)
    size = tuple(float(part) for part in vertices.max(0) - vertices.min(0)) if len(vertices) else (0.0, 0.0, 0.0)
    return clip.add(Item(name, [thing], local=sample(vertices), size=size, configuration=configuration, **fields))


def sample(vertices):
    """A few hundred of the vertices, those at the outer ends always among them."""
    if len(vertices) <= SAMPLED_POINTS:
        return vertices
    ends = np.concatenate((vertices.argmin(0), vertices.argmax(0)))
    steps = np.linspace(0, len(vertices) - 1, SAMPLED_POINTS).astype(int)
    return vertices[np.unique(np.concatenate((ends, steps)))]
