"""The camera: the subject's points over time and the configuration enter, a matrix and a focal length for each frame
leave.

The subject fills `focal_share` of the picture's shorter side at the start; where it moves and the camera does not
follow, the camera stands far enough back to keep it in the picture. The camera stays above the floor and outside the
subject.
"""

import math

import bpy
import numpy as np
from mathutils import Matrix

SENSOR_WIDTH = 36.0
FOCUS_HEIGHT = {"lower": 0.27, "center": 0.5, "upper": 0.74}
FOLLOWING_MOVES = ("following", "forward")
LARGEST_DRIFT = (
    0.3  # of the picture's side: how far a truck, pan or tilt may carry the subject's middle from the picture's
)
KEPT_INSIDE = 0.94  # of the picture's side: what a moving subject may use
LARGEST_WIDENING = 2.3  # how much farther than for its start alone the camera stands for the way of a moving subject
MINIMUM_ZOOM = 0.35


def look_ahead(configuration):
    """Scene frames after the last one shown that smoothing the path of a following camera needs."""
    if configuration["camera"]["move"] not in FOLLOWING_MOVES:
        return 0
    return max(int(configuration["render"]["fps"] / 6), 1)


def add_camera(clip, path=None):
    """Set `clip.camera_poses` [span, 4, 4] (Blender's axes: looks along -z) and `clip.focals` [span], planned unless
    `path` is given.
    """
    camera = bpy.data.cameras.new("camera")
    camera.sensor_fit = "HORIZONTAL"
    camera.sensor_width = SENSOR_WIDTH
    camera.dof.use_dof = False
    thing = bpy.data.objects.new("camera", camera)
    clip.collection.objects.link(thing)
    clip.scene.camera = thing
    clip.camera = thing
    if path is None:
        plan = _Plan(clip)
        shots = [plan.shot(frame) for frame in range(clip.span)]
        poses = np.stack([_look(position, forward, up) for position, forward, up, _ in shots])
        path = poses, np.array([focal for *_, focal in shots])
    clip.camera_poses, clip.focals = path
    center, radius = clip.subject()
    distances = np.linalg.norm(clip.camera_poses[:, :3, 3] - center, axis=1)
    camera.clip_start = max(radius * 0.002, 1e-4)
    camera.clip_end = float(distances.max() + radius) * 100 + 200


def show(clip, frame):
    """Bring the camera to a scene frame."""
    clip.camera.matrix_basis = Matrix(clip.camera_poses[frame].tolist())
    clip.camera.data.lens = float(clip.focals[frame])


def intrinsics(scene, camera):
    """The 3x3 matrix in pixels, pixel centres at +0.5, from Blender's lens, sensor fit, shift and pixel aspect."""
    render = scene.render
    width, height = (
        render.resolution_x * render.resolution_percentage / 100,
        render.resolution_y * render.resolution_percentage / 100,
    )
    aspect_x, aspect_y = render.pixel_aspect_x, render.pixel_aspect_y
    fit = camera.sensor_fit
    if fit == "AUTO":
        fit = "HORIZONTAL" if width * aspect_x >= height * aspect_y else "VERTICAL"
        sensor = camera.sensor_width
    else:
        sensor = camera.sensor_width if fit == "HORIZONTAL" else camera.sensor_height
    # Pixels per millimetre of the sensor along the fitted side; the other side follows from the pixels' aspect.
    fitted = width * aspect_x if fit == "HORIZONTAL" else height * aspect_y
    scale = camera.lens / sensor * fitted
    shift = fitted
    center_x = width / 2 - camera.shift_x * shift / aspect_x
    center_y = height / 2 + camera.shift_y * shift / aspect_y
    return np.array([[scale / aspect_x, 0, center_x], [0, scale / aspect_y, center_y], [0, 0, 1.0]])


def world_to_camera(pose):
    """OpenCV's world-to-camera matrix (x right, y down, z forward) of a Blender camera's pose."""
    return np.diag([1.0, -1.0, -1.0, 1.0]) @ np.linalg.inv(pose)


class _Plan:
    def __init__(self, clip):
        self.clip = clip
        self.value = clip.configuration["camera"]
        self.floor = 0.0 if clip.has_floor else None
        render = clip.configuration["render"]
        self.width, self.height, self.frames = render["width"], render["height"], render["frames"]
        self.direction = self.value["direction"]
        self.move = self.value["move"]
        self.focal = self.value["focal_mm"]
        items = clip.framed_items()
        self.start = np.concatenate([item.points(0) for item in items])
        low, high = self.start.min(0), self.start.max(0)
        self.size = float((high - low).max())
        self.radius = max(float(np.linalg.norm(high - low)) / 2, 1e-6)
        share = FOCUS_HEIGHT[self.value["focus"]]
        self.aim = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2] + share * (high[2] - low[2])])
        self.tracks = np.mean([[item.center(frame) for frame in range(clip.span)] for item in items], axis=0)
        self.azimuth = math.radians(self.value["azimuth_deg"])
        self.elevation = math.radians(min(max(self.value["elevation_deg"], -80 if self.floor is None else 1.0), 85))
        if self.move == "forward":
            self.azimuth = (
                clip.heading() + math.radians(min(max(self._signed(self.value["azimuth_deg"]), -35), 35)) * 0.5
            )
        steps = np.unique(np.linspace(0, self.frames - 1, 9).astype(int))
        following = self.move in FOLLOWING_MOVES
        self.follow = self._smooth(self.tracks - self.tracks[0]) if following else None
        sweep = [
            np.concatenate([item.points(frame) for item in items]) - (self.follow[frame] if following else 0)
            for frame in steps
        ]
        sweep = np.concatenate(sweep)
        grown = float((np.ptp(sweep, axis=0) - np.ptp(self.start, axis=0)).max())
        self.moves = grown > 0.12 * self.size
        if not following:
            if self.moves:
                self.aim[:2] = (sweep.min(0)[:2] + sweep.max(0)[:2]) / 2
                self.aim[2] = sweep[:, 2].min() + share * float(np.ptp(sweep[:, 2]))
        self.distance = self._distance(self.start, sweep)

    @staticmethod
    def _signed(angle):
        return (angle + 180) % 360 - 180

    def _smooth(self, track):
        """A camera operator's hand: the mean over a third of a second, up and down by half only."""
        reach = look_ahead(self.clip.configuration)
        padded = np.concatenate((np.repeat(track[:1], reach, 0), track, np.repeat(track[-1:], reach, 0)))
        smooth = np.stack([padded[frame : frame + 2 * reach + 1].mean(0) for frame in range(len(track))])
        smooth -= smooth[0]
        smooth[:, 2] *= 0.5
        return smooth

    def _direction(self, azimuth, elevation):
        """From the subject to the camera; an azimuth of 0 looks from -y, Blender's front."""
        return np.array(
            [
                math.sin(azimuth) * math.cos(elevation),
                -math.cos(azimuth) * math.cos(elevation),
                math.sin(elevation),
            ]
        )

    def _place(self, distance, azimuth=None, elevation=None):
        azimuth = self.azimuth if azimuth is None else azimuth
        elevation = self.elevation if elevation is None else elevation
        return self._above(self.aim + distance * self._direction(azimuth, elevation))

    def _above(self, position):
        if self.floor is None:
            return position
        return np.array([position[0], position[1], max(position[2], self.floor + 0.06 * self.radius)])

    def _extent(self, points, position):
        """The points' width and height as shares of the picture's shorter side, and how far they leave its middle."""
        axes = _look(position, self.aim - position, np.array([0, 0, 1.0]))[:3, :3]
        local = (points - position) @ axes
        if local[:, 2].max() > -0.02 * self.radius:
            return math.inf, math.inf
        scale = self.focal / SENSOR_WIDTH * self.width
        pixels = local[:, :2] / -local[:, 2:] * scale
        share = float(np.ptp(pixels, axis=0).max()) / min(self.width, self.height)
        reach = float((np.abs(pixels).max(0) / np.array([self.width / 2, self.height / 2])).max())
        return share, reach

    def _distance(self, start, sweep):
        """The nearest place at which the subject is no larger than asked, and its whole way is in the picture."""
        share = self.value["focal_share"]

        nearest = self._nearest(lambda position: self._extent(start, position)[0] <= share)
        if not self.moves:
            return max(nearest, self.radius * 1.1)
        kept = max(KEPT_INSIDE, share * 1.2)
        whole = self._nearest(lambda position: self._extent(sweep, position)[1] <= kept)
        # What flies far may leave the picture, as a subject that is a speck all along would be worse; but the start is
        # inside, and nothing comes as near as into the camera.
        inside = self._nearest(lambda position: self._extent(start, position)[1] <= kept)
        clear = self._nearest(lambda position: np.linalg.norm(sweep - position, axis=1).min() > 0.6 * self.radius)
        return max(nearest, inside, clear, min(whole, nearest * LARGEST_WIDENING), self.radius * 1.1)

    def _nearest(self, fits):
        """The smallest distance whose place fits, by bisection."""
        near = far = self.radius * 0.05
        while not fits(self._place(far)):
            near, far = far, far * 1.6
            if far > self.radius * 1e5:
                break
        for _ in range(30):
            middle = (near + far) / 2
            near, far = (near, middle) if fits(self._place(middle)) else (middle, far)
        return far

    def shot(self, frame):
        """Position, view direction, up and focal length at a scene frame."""
        share = frame / max(self.frames - 1, 1)
        middle = share - 0.5
        signed = self.direction * self.value["extent"]
        up = np.array([0, 0, 1.0])
        position = self._place(self.distance)
        forward = self.aim - position
        away = float(np.linalg.norm(forward))
        right = np.cross(forward / away, up)
        right /= max(np.linalg.norm(right), 1e-9)
        focal = self.focal
        width_at_subject = away * SENSOR_WIDTH / focal
        height_at_subject = width_at_subject * self.height / self.width
        if self.move == "truck":
            step = _limited(signed * self.size, 2 * LARGEST_DRIFT * width_at_subject)
            position = position + right * step * middle
        elif self.move == "pedestal":
            step = _limited(signed * self.size, 2 * LARGEST_DRIFT * height_at_subject)
            position = self._above(position + up * step * middle)
        elif self.move == "dolly":
            nearest = max(self.radius * 1.15, away * 0.3)
            target = max(away - signed * self.size * share, min(nearest, away))
            position = self._above(self.aim - forward / away * target)
        elif self.move in ("tilt", "pan"):
            side = SENSOR_WIDTH * (self.height / self.width if self.move == "tilt" else 1)
            field = 2 * math.degrees(math.atan(side / 2 / focal))
            angle = math.radians(_limited(signed * 30, 2 * LARGEST_DRIFT * field)) * middle
            forward = _turn(forward, right if self.move == "tilt" else up, angle)
        elif self.move == "spin":
            position = self._place(self.distance, azimuth=self.azimuth + signed * 2 * math.pi * share)
            forward = self.aim - position
        elif self.move in FOLLOWING_MOVES:
            position = self._above(position + self.follow[frame])
            forward = self.aim + self.follow[frame] - position
        elif self.move == "zoom":
            focal *= max(1 + signed * share, MINIMUM_ZOOM)
        return position, forward, up, focal


def _limited(value, limit):
    return math.copysign(min(abs(value), limit), value)


def _turn(vector, axis, angle):
    return (
        vector * math.cos(angle)
        + np.cross(axis, vector) * math.sin(angle)
        + axis * np.dot(axis, vector) * (1 - math.cos(angle))
    )


def _look(position, forward, up):
    """A Blender camera's pose: x right, y up, looks along -z."""
    back = -forward / np.linalg.norm(forward)
    right = np.cross(up, back)
    if np.linalg.norm(right) < 1e-6:
        right = np.array([1.0, 0, 0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(back, right), back, position
    return pose
