"""Lights: the configuration's lights and the subject's place enter, Blender lights that aim at the subject leave.

A light's intensity is relative: at 1 it lights a white surface at the subject to the radiance KEY, whatever its
distance. Around somebody who walks, lights stand as they would around the middle of the way, and far enough for both
of its ends.
"""

import math

import bpy
import numpy as np
from mathutils import Vector

import materials

KEY = 0.5
FARTHER = 3.0  # times half of the way's length: the nearer end gets four times the light of the farther one at most


def add_lights(clip, subject, radius, way):
    """Add every light; returns how far from the subject, along the floor, the farthest one stands.

    `way` is the middle of the subject's way and half of its length.
    """
    values = clip.configuration["lights"]
    if not values and clip.configuration["environment"]["kind"] != "hdri":
        values = default_lights(radius)
    share = 1 / math.sqrt(max(sum(value["intensity"] for value in values), 1.0))
    reach = 0.0
    for index, value in enumerate(values):
        reach = max(reach, _add_light(clip, value, f"light_{index}", np.asarray(subject, float), radius, share, way))
    return reach


def default_lights(radius):
    """Two lights, as a room without any has to be lit somehow."""
    base = {"kind": "area", "temperature_k": 5600.0}
    return [
        {**base, "position": [-2.2 * radius, -2.4 * radius, 3.0 * radius], "intensity": 1.0, "size": 1.5 * radius},
        {**base, "position": [2.6 * radius, -1.2 * radius, 2.2 * radius], "intensity": 0.45, "size": 1.5 * radius},
    ]


def _add_light(clip, value, name, subject, radius, share, way):
    position = np.array(value["position"], float)
    offset = position - subject
    distance = float(np.linalg.norm(offset))
    direction = offset / distance if distance > 1e-6 else np.array([0.0, -0.6, 0.8])
    if clip.has_floor and direction[2] < 0.12:
        direction[2] = 0.12  # a lamp below the floor would light nothing
        direction /= np.linalg.norm(direction)
    # Inside the subject, or so near that only one side of it is lit and burnt out, a lamp is of no use.
    distance = max(distance, radius * 2.0)
    middle, half = way
    scale = max(FARTHER * half / distance, 1.0)
    distance *= scale
    position = middle + direction * distance
    irradiance = math.pi * KEY * value["intensity"] * share
    light = bpy.data.lights.new(name, {"area": "AREA", "point": "POINT", "sun": "SUN"}[value["kind"]])
    light.color = materials.kelvin(value["temperature_k"])
    size = max(value["size"], 0.01) * scale  # a shadow's edge stays as soft
    if value["kind"] == "area":
        light.shape = "DISK"
        light.size = min(size, distance * 0.9)
        light.energy = irradiance * math.pi * distance**2
    elif value["kind"] == "point":
        light.shadow_soft_size = min(size / 2, distance * 0.3)
        light.energy = irradiance * 4 * math.pi * distance**2
    else:
        light.angle = min(math.radians(1 + 4 * size / scale), 0.5)  # however far, a sun is as large
        light.energy = irradiance
    thing = bpy.data.objects.new(name, light)
    thing.location = position
    thing.rotation_euler = Vector(direction).to_track_quat("Z", "Y").to_euler()
    thing.visible_camera = False
    clip.collection.objects.link(thing)
    clip.lights.append((light, light.energy))
    return float(np.linalg.norm(position[:2] - subject[:2])) if value["kind"] != "sun" else 0.0
