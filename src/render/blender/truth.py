"""Ground truth: what each output frame shows enters, truth.json and the arrays beside it leave.

Everything describes the picture as it is shown, defects included, in the order of the output frames.
"""

import json
import os

import bpy
import numpy as np

import camera


class Truth:
    """Collects one clip's truth frame by frame."""

    def __init__(self, clip):
        self.clip = clip
        frames = len(clip.timeline)
        render = clip.configuration["render"]
        shape = (frames, render["height"], render["width"])
        wanted = clip.configuration["truth"]
        self.depth = np.empty(shape, np.float16) if "depth" in wanted else None
        self.instances = np.empty(shape, np.uint8) if "instances" in wanted else None
        self.matte = np.empty(shape, np.uint8) if "matte" in wanted else None
        self.cameras = {"intrinsics": [], "world_to_camera": []}
        self.objects = {
            thing.name: {"pose": [], "size": _rounded(thing.size), "visible": []}
            for thing in clip.items
            if thing.person is None
        }
        self.people = {
            thing.name: {"keypoints": [], "keypoints_3d": [], "bounding_box": []}
            for thing in clip.items
            if thing.person is not None
        }

    def add(self, index, source, passes):
        """Take in one output frame."""
        clip = self.clip
        scene_frame = clip.timeline[index][0]
        if self.depth is not None:
            self.depth[index] = passes["depth"]
        if self.instances is not None:
            self.instances[index] = passes["index"]
        if self.matte is not None:
            coverage = passes["color"][..., 3] if clip.scene.render.film_transparent else passes["coverage"]
            self.matte[index] = np.clip(coverage * 255.0 + 0.5, 0, 255).astype(np.uint8)
        matrix = camera.intrinsics(clip.scene, clip.camera.data)
        view = camera.world_to_camera(clip.camera_poses[scene_frame])
        self.cameras["intrinsics"].append(_rounded(matrix.ravel()))
        self.cameras["world_to_camera"].append(_rounded(view.ravel()))
        for thing in clip.items:
            shift = clip.shift(thing, source)
            if thing.person is not None:
                self._add_person(thing, scene_frame, shift, matrix, view, passes, clip.is_visible(thing, source))
                continue
            pose = thing.pose(scene_frame).copy()
            pose[:3, 3] += shift
            self.objects[thing.name]["pose"].append(_rounded(pose.ravel()))
            self.objects[thing.name]["visible"].append(bool(clip.is_visible(thing, source)))

    def _add_person(self, thing, scene_frame, shift, matrix, view, passes, visible):
        points = np.asarray(thing.person.keypoints_3d(scene_frame), float) + shift
        local = points @ view[:3, :3].T + view[:3, 3]
        pixels = local @ matrix.T
        record = self.people[thing.name]
        keypoints = []
        for place, depth, reach in zip(pixels, local[:, 2], KEYPOINT_DEPTH):
            x, y = (place[:2] / place[2]) if depth > 1e-6 else (-1.0, -1.0)
            keypoints += [
                round(float(x), 3),
                round(float(y), 3),
                _visibility(x, y, depth, reach, thing, passes, visible),
            ]
        for joint in getattr(thing.person, "missing_keypoints", ()):  # a limb that is gone has no joints to be found
            keypoints[joint * 3 + 2] = 0
        record["keypoints"].append(keypoints)
        record["keypoints_3d"].append(_rounded(points.ravel()))
        record["bounding_box"].append(_box(passes["index"] == thing.number))

    def write(self, folder):
        """Write truth.json and the arrays that are wanted."""
        clip = self.clip
        for name in ("depth", "instances", "matte"):
            values = getattr(self, name)
            if values is not None:
                np.save(os.path.join(folder, f"{name}.npy"), values)
        document = {
            "version": 1,
            "frame_of": [scene_frame for scene_frame, _ in clip.timeline],
            "camera": self.cameras,
            "instances": {str(thing.number): thing.name for thing in clip.items},
            "objects": self.objects,
            "people": self.people,
            "contacts": _contacts(clip),
            "defect_frames": clip.defect_frames,
            "blender": bpy.app.version_string.split(" ")[0],
        }
        with open(os.path.join(folder, "truth.json"), "w", encoding="utf-8") as file:
            json.dump(document, file, separators=(",", ":"))


# How far below the visible surface the middle of each of COCO's 17 joints may lie, in metres, along the line of sight.
KEYPOINT_DEPTH = [0.07, 0.06, 0.06, 0.09, 0.09, 0.16, 0.16, 0.12, 0.12, 0.1, 0.1, 0.22, 0.22, 0.15, 0.15, 0.13, 0.13]


def _visibility(x, y, depth, reach, thing, passes, visible):
    """2 seen, 1 hidden by something or by the body itself, 0 outside of the picture."""
    height, width = passes["index"].shape
    if depth <= 0 or not (0 <= x < width and 0 <= y < height):
        return 0
    if not visible:
        return 1
    row, column = int(y), int(x)
    # A pixel around: the passes hold one sample a pixel, which may miss a thin limb.
    rows, columns = slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
    mine = passes["index"][rows, columns] == thing.number
    surface = np.where(mine, passes["depth"][rows, columns], -np.inf)
    return 2 if bool((mine & (depth - surface <= reach)).any()) else 1


def _box(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        return [0, 0, 0, 0]
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]


def _contacts(clip):
    """Contacts at scene frames, as the output frames that first show them."""
    shown = {}
    for index, (scene_frame, source) in enumerate(clip.timeline):
        if source == index:
            shown.setdefault(scene_frame, index)
    frames = sorted(shown)
    result = []
    for scene_frame, first, second, point in sorted(clip.contacts, key=lambda contact: contact[:3]):
        later = [frame for frame in frames if frame >= scene_frame]
        if later:
            result.append({"frame": shown[later[0]], "a": first, "b": second, "point": _rounded(point)})
    return result


def _rounded(values):
    return [round(float(value), 6) for value in values]
