"""What surrounds the subject: an HDR picture, a solid-colour room, or nothing.

The environment and the reach of the camera and the lights enter; the world and the background objects leave.
Background objects keep the pass index 0, so that they are the background in instances.npy.
"""

import math

import bpy
import numpy as np

import materials
import shapes
from configuration import ConfigurationError

AMBIENT = 0.3  # radiance of the open sky above a room, which fills the shadows
HDRI_TARGET = 0.34  # radiance at which the middle of an HDR picture and of a grey floor below it are exposed


def add_environment(clip, center, reach):
    """Build the surroundings: a room reaches beyond `reach` metres around `center`, as the camera and the lights
    stand inside.
    """
    world = bpy.data.worlds.new("world")
    clip.scene.world = world
    world.use_nodes = True
    world.cycles.sampling_method = "MANUAL"
    world.cycles.sample_map_resolution = 256  # the automatic one takes a second and 400 MB for a small picture
    world.node_tree.nodes.clear()
    value = clip.configuration["environment"]
    kind = value["kind"]
    clip.scene.render.film_transparent = kind == "empty" or clip.is_layered
    if kind == "hdri":
        _add_hdri(clip, world, value)
        if not clip.is_layered:
            _add_ground(clip, value["ground"], center, reach)
    elif kind == "room":
        # The sky takes a part of the room's colour: shadows in a white light look pasted in.
        _background(clip, world, tuple(0.65 + 0.35 * part for part in materials.linear(value["color"])[:3]), AMBIENT)
        if not clip.is_layered:
            _add_room(clip, value["color"], center, reach)
    else:
        _background(clip, world, (0.9, 0.95, 1.0), AMBIENT * 1.2)


def _background(clip, world, color, strength):
    nodes = world.node_tree.nodes
    shader = nodes.new("ShaderNodeBackground")
    shader.inputs["Color"].default_value = (*color, 1.0)
    shader.inputs["Strength"].default_value = strength
    output = nodes.new("ShaderNodeOutputWorld")
    world.node_tree.links.new(shader.outputs[0], output.inputs[0])
    world.color = color
    clip.world_shader, clip.world_strength = shader, strength


def _add_hdri(clip, world, value):
    try:
        picture = bpy.data.images.load(value["file"])
        picture.colorspace_settings.name = "Linear Rec.709"
        pixels = np.empty(picture.size[0] * picture.size[1] * 4, np.float32)
        picture.pixels.foreach_get(pixels)
    except RuntimeError as error:
        raise ConfigurationError(f"cannot read the environment {value['file']}: {error}") from error
    if pixels.size == 0:
        raise ConfigurationError(f"cannot read the environment {value['file']}: it has no pixels")
    strength = value["strength"] * exposure_of(pixels.reshape(picture.size[1], picture.size[0], 4))
    tree = world.node_tree
    texture = tree.nodes.new("ShaderNodeTexEnvironment")
    texture.image = picture
    mapping = tree.nodes.new("ShaderNodeMapping")
    mapping.inputs["Rotation"].default_value[2] = math.radians(value["rotation_deg"])
    position = tree.nodes.new("ShaderNodeTexCoord")
    tree.links.new(position.outputs["Generated"], mapping.inputs["Vector"])
    tree.links.new(mapping.outputs["Vector"], texture.inputs["Vector"])
    _background(clip, world, (1, 1, 1), strength)
    tree.links.new(texture.outputs["Color"], clip.world_shader.inputs["Color"])
    clip.hdri = (pixels.reshape(picture.size[1], picture.size[0], 4)[..., :3], math.radians(value["rotation_deg"]))


def exposure_of(pixels):
    """The strength that shows both the picture's middle and what it lights well: pixels bottom-up, [H, W, 4]."""
    height = pixels.shape[0]
    luminance = np.nan_to_num(pixels[..., :3] @ np.array([0.2126, 0.7152, 0.0722], np.float32), posinf=1e4)
    latitude = (np.arange(height) + 0.5) / height * math.pi - math.pi / 2
    solid_angle = np.cos(latitude)[:, None] * (math.pi / height) * (2 * math.pi / pixels.shape[1])
    upward = np.clip(np.sin(latitude), 0, None)[:, None]
    floor = float((luminance * solid_angle * upward).sum()) / math.pi * 0.5
    middle = luminance[int(height * 0.38) : int(height * 0.62)]
    seen = float(np.quantile(middle, 0.7))
    return HDRI_TARGET / max(math.sqrt(max(floor, 1e-6) * max(seen, 1e-6)), 1e-4)


def seen_by(clip, scene_frame, matrix):
    """The HDR picture as the camera sees it, [H, W, 3], for an engine that does not draw it."""
    pixels, rotation = clip.hdri
    render = clip.configuration["render"]
    columns, rows = np.meshgrid(np.arange(render["width"]) + 0.5, np.arange(render["height"]) + 0.5)
    rays = np.stack(
        ((columns - matrix[0, 2]) / matrix[0, 0], -(rows - matrix[1, 2]) / matrix[1, 1], -np.ones_like(rows)), axis=-1
    )
    x, y, z = np.moveaxis(rays @ clip.camera_poses[scene_frame][:3, :3].T, -1, 0)
    x, y = x * math.cos(rotation) - y * math.sin(rotation), x * math.sin(rotation) + y * math.cos(rotation)
    u = (0.5 - np.arctan2(y, x) / (2 * math.pi)) % 1.0
    v = 0.5 + np.arctan2(z, np.hypot(x, y)) / math.pi
    height, width = pixels.shape[:2]
    found = pixels[np.minimum((v * height).astype(int), height - 1), np.minimum((u * width).astype(int), width - 1)]
    return found * clip.world_strength


def _add_ground(clip, material, center, reach):
    if material is None and clip.configuration["render"]["engine"] == "workbench":
        return
    radius = max(reach * 6, 40.0)
    mesh = bpy.data.meshes.new("floor")
    mesh.from_pydata(*_disc(radius, 64))
    floor = bpy.data.objects.new("floor", mesh)
    floor.location = (center[0], center[1], 0.0)
    clip.collection.objects.link(floor)
    if material is None:
        # Nothing but the shadow: the picture's own ground shows, and the subject still stands on it.
        floor.is_shadow_catcher = True
        mesh.materials.append(materials.plain("floor", (0.5, 0.5, 0.5)))
        clip.has_invisible_floor = True
    else:
        mesh.materials.append(materials.make_material(clip.configuration, material, "floor", 3.0))


def _disc(radius, segments):
    ring = [
        (radius * math.cos(2 * math.pi * s / segments), radius * math.sin(2 * math.pi * s / segments), 0)
        for s in range(segments)
    ]
    return ring, [], [tuple(range(segments))]


def _add_room(clip, color, center, reach):
    """A round cyclorama: floor, a curved joint, and a wall too high to look over. Spinning cameras always see it."""
    radius = reach * 1.25 + 0.3
    joint = radius * 0.3
    height = radius * 3.0
    profile = [(0.0, 0.0), (radius - joint, 0.0)]
    for step in range(1, 13):
        angle = math.pi / 2 * step / 12
        profile.append((radius - joint + joint * math.sin(angle), joint - joint * math.cos(angle)))
    profile.append((radius, height))
    segments = 96
    vertices = [(0.0, 0.0, 0.0)]
    for ring_radius, z in profile[1:]:
        for step in range(segments):
            angle = 2 * math.pi * step / segments
            vertices.append((ring_radius * math.cos(angle), ring_radius * math.sin(angle), z))
    faces = [(0, 1 + step, 1 + (step + 1) % segments) for step in range(segments)]
    for ring in range(len(profile) - 2):
        low, high = 1 + ring * segments, 1 + (ring + 1) * segments
        for step in range(segments):
            following = (step + 1) % segments
            faces.append((low + step, high + step, high + following, low + following))
    mesh = bpy.data.meshes.new("room")
    mesh.from_pydata(vertices, [], faces)
    shapes.shade_smooth(mesh)
    mesh.materials.append(materials.plain("room", color))
    room = bpy.data.objects.new("room", mesh)
    room.location = (center[0], center[1], 0.0)
    room.visible_shadow = False  # a low sun would stand behind the wall
    clip.collection.objects.link(room)
