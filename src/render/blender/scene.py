"""Builds a scene: a checked configuration enters, a Clip leaves, which knows every item, the camera and the lights
over time.

A Clip is the small object that all modules share. Building starts from Blender's factory state, so that nothing of
the last scene is left, and ends with the defects, after all that a clean twin of the scene has in common with it is
settled.
"""

import math

import bpy
import numpy as np

import camera
import defects
import environment
import item
import light
import materials
import physics
import placement
import render
import shapes
from configuration import ConfigurationError


class Clip:
    """A scene in the making and all that is needed to show its frames."""

    def __init__(self, configuration, scratch):
        self.configuration = configuration
        self.scratch = scratch  # a temporary folder: caches of simulations, passes of the frame being rendered
        self.scene = bpy.context.scene
        self.collection = self.scene.collection
        self.items = []
        self.lights = []
        self.contacts = []  # (scene frame, name, name, point)
        self.world_shader = None
        self.world_strength = 1.0
        self.hdri = None
        self.has_invisible_floor = False
        self.exposure = 1.0
        self.is_probing = False
        self.is_layered = configuration["family"] == "layers"
        self.has_floor = not self.is_layered and configuration["environment"]["kind"] != "empty"
        self.needs_frame_set = False  # something is animated by Blender itself: an armature, a cache of smoke
        self.shifts, self.hidden, self.changes, self.filters, self.defect_frames = {}, {}, [], [], {}
        self.timeline = defects.timeline(configuration)
        # Scene frames that exist: those shown, and those that the hand of a following camera looks ahead to.
        self.span = max(max(scene_frame for scene_frame, _ in self.timeline) + 1, configuration["render"]["frames"])
        self.span += camera.look_ahead(configuration)

    def add(self, thing):
        """Number an item; the numbers are what instances.npy holds."""
        thing.number = len(self.items) + 1
        if thing.number > 255:
            raise ConfigurationError("instances.npy can number 255 things, and the scene has more")
        for index, part in enumerate(thing.parts):
            part.pass_index = thing.number
            part.name = f"item_{thing.number}_{index}"  # a name with a quote in it breaks the cryptomatte's manifest
        self.items.append(thing)
        return thing

    def shift(self, thing, source):
        """How far a defect moves an item in an output frame."""
        return self.shifts.get((thing.name, source), np.zeros(3))

    def is_visible(self, thing, source):
        """Whether an item is shown in an output frame."""
        return source not in self.hidden.get(thing.name, ())

    def framed_items(self):
        """What the camera holds: the person where there is one, else everything that is not a mere support."""
        people = [thing for thing in self.items if thing.person is not None]
        subjects = people or [thing for thing in self.items if not thing.is_support]
        return subjects or self.items

    def subject(self):
        """The middle and the radius of what the camera holds, at the start."""
        points = np.concatenate([thing.points(0) for thing in self.framed_items()])
        low, high = points.min(0), points.max(0)
        return (low + high) / 2, max(float(np.linalg.norm(high - low)) / 2, 1e-6)

    def way(self):
        """The middle of the way that a person's body goes while the clip lasts, and half of the way's length."""
        center, _ = self.subject()
        people = [thing for thing in self.items if thing.person is not None]
        if not people:
            return center, 0.0
        places = np.array([people[0].center(frame)[:2] for frame in range(self.configuration["render"]["frames"])])
        low, high = places.min(0), places.max(0)
        return center + np.append((low + high) / 2 - places[0], 0.0), float(np.linalg.norm(high - low)) / 2

    def heading(self):
        """Which way the subject goes or faces, as a camera's azimuth (0 is -y)."""
        thing = self.framed_items()[0]
        last = self.configuration["render"]["frames"] - 1
        way = thing.center(last)[:2] - thing.center(0)[:2]
        if np.linalg.norm(way) < 0.3 * self.subject()[1] and thing.person is not None:
            points = np.asarray(thing.person.keypoints_3d(0), float)
            left = points[5] - points[6]
            way = np.cross(left, (0, 0, 1.0))[:2]
        if np.linalg.norm(way) < 1e-6:
            return math.radians(self.configuration["camera"]["azimuth_deg"])
        return math.atan2(way[0], -way[1])


def build(configuration, scratch):
    """From the factory state to a Clip that is ready to render."""
    twin = None
    if any(defect["kind"] == "wrong_gravity" for defect in configuration["defects"]):
        # Things fall differently, and yet the camera, the light and the room have to be those of the clean twin: it
        # is built first.
        others = [defect for defect in configuration["defects"] if defect["kind"] != "wrong_gravity"]
        twin = _assemble({**configuration, "defects": others}, scratch, None)
        twin = (twin.camera_poses, twin.focals, twin.frame, twin.exposure)
    clip = _assemble(configuration, scratch, twin)
    defects.apply(clip)
    return clip


def _assemble(configuration, scratch, twin):
    """All but the defects; `twin` holds what a clean twin has settled: the camera's path, the subject's frame, the
    exposure.
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    clip = Clip(configuration, scratch)
    clip.scene.render.fps = max(int(round(configuration["render"]["fps"])), 1)
    objects = [_add_object(clip, value) for value in configuration["objects"]]
    if configuration["physics"] is not None:
        physics.add_physics(clip, objects, defects.gravity(configuration))
    else:
        poses = placement.moving_poses(objects, configuration["render"]["frames"], clip.span)
        for thing, path in zip(objects, poses):
            thing.poses = path
    if configuration["person"]:
        _add_person(clip)
    bpy.context.view_layer.update()
    if twin is None:
        camera.add_camera(clip)
        clip.frame = (*clip.subject(), _reach(clip), clip.way())
    else:
        camera_poses, focals, clip.frame, clip.exposure = twin
        camera.add_camera(clip, (camera_poses, focals))
    center, radius, reach, way = clip.frame
    light_reach = light.add_lights(clip, center, radius, way)
    environment.add_environment(clip, center, max(reach, light_reach))
    render.prepare(clip)
    if twin is None:
        clip.exposure = render.probe_exposure(clip)
    return clip


def _reach(clip):
    """How far from the subject, along the floor, the camera and the items come."""
    center, radius = clip.subject()
    frames = clip.configuration["render"]["frames"]
    reach = float(np.linalg.norm(clip.camera_poses[:frames, :2, 3] - center[:2], axis=1).max())
    for thing in clip.items:
        for frame in (0, frames // 2, frames - 1):
            reach = max(reach, float(np.linalg.norm(thing.points(frame)[:, :2] - center[:2], axis=1).max()))
    return max(reach, radius * 1.5)


def _add_object(clip, value):
    mesh = shapes.make_mesh(clip.configuration, value)
    if value["material"] is not None:
        mesh.materials.clear()
        mesh.materials.append(
            materials.make_material(clip.configuration, value["material"], value["id"], value["size"])
        )
    return item.from_mesh(clip, value["id"], mesh, value)


def _add_person(clip):
    import people

    value, settings = clip.configuration["person"], clip.configuration["render"]
    # Always as many frames as the longest timeline could show, so that a clip and its twin have the very same motion.
    frames = max(clip.span, 2 * settings["frames"])
    try:
        person = people.add_person(clip, value, clip.configuration["assets"], frames, settings["fps"])
    except KeyError as error:
        raise ConfigurationError(f"the person lacks the field {error}") from error
    except (
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:  # assets that are not there, a field of another kind
        raise ConfigurationError(f"the person cannot be built: {error}") from error
    clip.needs_frame_set = True
    anchor = bpy.data.objects.new("person", None)
    clip.collection.objects.link(anchor)
    for part in person.parts:
        top = part
        while top.parent is not None and top.parent is not anchor:
            top = top.parent
        if top.parent is None and top is not anchor:
            top.parent = anchor
    clip.scene.frame_set(0)
    graph = bpy.context.evaluated_depsgraph_get()
    points = []
    for part in person.parts:
        evaluated = part.evaluated_get(graph)
        vertices = shapes.coordinates(evaluated.data)[::7]
        matrix = np.array(evaluated.matrix_world)
        points.append(vertices @ matrix[:3, :3].T + matrix[:3, 3])
    points = np.concatenate(points)
    size = tuple(float(part) for part in points.max(0) - points.min(0))
    thing = item.Item(
        value.get("id", "person_0"), list(person.parts), local=points, size=size, person=person, anchor=anchor
    )
    clip.add(thing)
    for frame, name, point in person.foot_contacts:
        clip.contacts.append((int(frame), f"{thing.name}.{name}", "floor", [float(part) for part in point]))
