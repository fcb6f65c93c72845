"""Deliberate faults: the configuration's defects enter, changes to a built Clip leave, with the output frames that
show them.

Defects come last, on a scene that is otherwise the same as its clean twin: they draw from their own seeds, and
neither the camera nor the exposure sees them. Only the timeline (which scene frames are shown) and gravity are needed
before the scene is built. A "source" is an output frame whose picture is rendered; under stutter several output
frames show one source.
"""

import math
import random

import bpy
import bmesh
import numpy as np

import camera
import materials
import shapes

LARGE_ENOUGH = 0.6  # of the largest item's share of the picture: what may pop or jump
LIMBS = ("left_arm", "right_arm", "left_leg", "right_leg")


def timeline(configuration):
    """For each output frame (scene frame, source)."""
    frames = configuration["render"]["frames"]
    scene_frames = list(range(frames))
    for defect in _of_kind(configuration, "dropped_frames"):
        for place, lost in _dropped(defect, frames):
            scene_frames = scene_frames[:place] + [frame + lost for frame in scene_frames[place:]]
    scene_frames = [min(frame, 2 * frames - 1) for frame in scene_frames]
    sources = list(range(frames))
    for defect in _of_kind(configuration, "stutter"):
        for place, length in _windows(
            defect, frames, shortest=1, longest=max(2, frames // 8), most=max(2, frames // 6)
        ):
            for frame in range(max(place, 1), min(place + length, frames)):
                sources[frame] = sources[max(place, 1) - 1]
    return [(scene_frames[source], source) for source in sources]


def gravity(configuration):
    """The vector of gravity, which the defect wrong_gravity scales or tilts."""
    physics = configuration["physics"]
    vector = np.array([0.0, 0.0, -(physics["gravity"] if physics else 9.81)])
    for defect in _of_kind(configuration, "wrong_gravity"):
        chance, strength = _random(defect), defect["strength"]
        way = chance.choice(("weaker", "stronger", "tilted"))
        if way == "weaker":
            vector *= 1 - 0.92 * strength
        elif way == "stronger":
            vector *= 1 + 3 * strength
        else:
            angle, around = math.radians(60 * strength), chance.uniform(0, 2 * math.pi)
            length = abs(vector[2])
            side = length * math.sin(angle)
            vector = np.array([side * math.cos(around), side * math.sin(around), vector[2] * math.cos(angle)])
    return tuple(float(part) for part in vector)


def apply(clip):
    """Put the configured defects into a clip that is ready to render."""
    frames = len(clip.timeline)
    clip.shifts = {}
    clip.hidden = {}
    clip.changes = []
    clip.filters = []
    clip.defect_frames = {}
    for kind in ("stutter", "dropped_frames"):
        if _of_kind(clip.configuration, kind):
            _note(clip, kind, _timeline_frames(clip, kind))
    appliers = {
        "noise": _noise,
        "flicker": _flicker,
        "material_flicker": _material_flicker,
        "popping": _popping,
        "detail_popping": _detail_popping,
        "teleport": _teleport,
        "interpenetration": _interpenetration,
        "missing_limb": _missing_limb,
        "low_poly": _low_poly,
        "wrong_gravity": _wrong_gravity,
    }
    for defect in clip.configuration["defects"]:
        if defect["kind"] in appliers and defect["strength"] > 0:
            sources = appliers[defect["kind"]](clip, defect, frames)
            _note(
                clip,
                defect["kind"],
                [index for index, (_, source) in enumerate(clip.timeline) if source in set(sources)],
            )


def _noise(clip, defect, frames):
    value = clip.configuration["render"]
    if value["engine"] == "workbench":
        clip.filters.append(lambda linear, source: _speckled(linear, defect, source))
        return range(frames)
    usual = min(value["samples"], 16)
    clip.scene.cycles.samples = max(int(round(usual ** (1 - defect["strength"]))), 1)
    clip.scene.cycles.use_denoising = False
    return range(frames)


def _speckled(linear, defect, source):
    """A path tracer's noise for an engine that has none: light that arrives in few, bright portions."""
    portions = max(64 ** (1 - defect["strength"]) * 2, 2)
    generator = np.random.default_rng([defect["seed"] & 0xFFFFFFFF, source])
    return linear * generator.gamma(portions, 1 / portions, linear.shape[:2])[..., None]


def _flicker(clip, defect, frames):
    chance = _random(defect)
    share = chance.uniform(0.45, 0.9)
    factors = []
    for _ in range(frames):
        jump = chance.uniform(0.35, 1.0) * chance.choice((-1, 1)) * 0.65 * defect["strength"]
        factors.append(1 + jump if chance.random() < share else 1.0)

    def change(source):
        for light, energy in clip.lights:
            light.energy = energy * factors[source]
        clip.world_shader.inputs["Strength"].default_value = clip.world_strength * factors[source]

    if clip.configuration["render"]["engine"] == "workbench":
        clip.filters.append(lambda linear, source: linear * factors[source])
    else:
        clip.changes.append(change)
    return [frame for frame, factor in enumerate(factors) if factor != 1.0]


def _material_flicker(clip, defect, frames):
    chance, strength = _random(defect), defect["strength"]
    thing = _chosen(clip, chance)
    used = [slot.material for part in thing.parts for slot in part.material_slots if slot.material is not None]
    used = sorted(set(used), key=lambda material: material.name)
    if thing.person is not None and len(used) > 1:
        used = [chance.choice(used)]
    share = chance.uniform(0.4, 0.85)
    jumps = []
    for _ in range(frames):
        jump = (
            0.5 + chance.choice((-1, 1)) * chance.uniform(0.1, 0.5) * strength,
            1 + chance.uniform(-0.5, 0.5) * strength,
        )
        jumps.append(jump if chance.random() < share else (0.5, 1.0))
    tints = [tint for tint in (materials.Tint(material) for material in used) if tint.found]
    plain = [(material, tuple(material.diffuse_color)) for material in used]

    def change(source):
        hue, brightness = jumps[source]
        for tint in tints:
            tint.set(hue, brightness)
        for material, color in plain:
            turned = np.roll(color[:3], 1 if hue > 0.5 + 0.1 * strength else 0)
            mixed = np.array(color[:3]) * (1 - strength) + turned * strength
            material.diffuse_color = (*(mixed * brightness), 1.0) if (hue, brightness) != (0.5, 1.0) else color

    clip.changes.append(change)
    return [frame for frame, jump in enumerate(jumps) if jump != (0.5, 1.0)]


def _popping(clip, defect, frames):
    sources = _popping_sources(defect, frames)
    thing = _chosen(clip, _random(defect), sources)
    clip.hidden.setdefault(thing.name, set()).update(sources)
    return sources


def _detail_popping(clip, defect, frames):
    """A part of a person (a limb, hair, a piece of clothing) is gone, or an object's mesh is a coarse one."""
    chance = _random(defect)
    sources = _popping_sources(defect, frames)
    thing = _chosen(clip, chance, sources)
    if thing.person is not None:
        parts = [part for part in thing.parts if part is not thing.person.object]
        if not parts or chance.random() < 0.5:
            limb = chance.choice(("left_hand", "right_hand") if defect["strength"] < 0.4 else LIMBS)
            thing.person.hide_limb(limb, [clip.timeline[source][0] for source in sources])
            return sources
        part, hidden = chance.choice(parts), set(sources)

        def change(source):
            if source in hidden:
                part.hide_render = True

        clip.changes.append(change)
        return sources
    if thing.vertices is not None or thing.meshes is not None:
        return []
    coarse, fine = _coarse_mesh(thing.object, defect["strength"]), thing.object.data
    thing.swaps.update({source: coarse for source in sources})
    clip.changes.append(lambda source: setattr(thing.object, "data", thing.swaps.get(source, fine)))
    return sources


def _popping_sources(defect, frames):
    windows = _windows(defect, frames, shortest=1, longest=max(2, frames // 5), most=3)
    return sorted({frame for place, length in windows for frame in range(place, min(place + length, frames))})


def _teleport(clip, defect, frames):
    chance, strength = _random(defect), defect["strength"]
    start = chance.randrange(max(1, frames // 5), max(2, frames * 4 // 5)) if frames > 1 else 0
    end = frames if chance.random() < 0.5 else min(frames, start + max(1, frames // 5))
    thing = _chosen(clip, chance, range(start, end))
    size = max(max(thing.size), 1e-3)
    # Sideways in the picture: along the line of sight nobody would see it.
    right = clip.camera_poses[0][:3, 0] * chance.choice((-1, 1))
    jump = right * size * (0.1 + 0.5 * strength)
    if chance.random() < 0.4:
        jump = jump + np.array([0, 0, 0.3 * size * strength])
    for source in range(start, end):
        _shift(clip, thing, source, jump)
    return range(start, end)


def _interpenetration(clip, defect, frames):
    chance, strength = _random(defect), defect["strength"]
    thing = _chosen(clip, chance)
    others = [other for other in clip.items if other is not thing and not other.is_volume and other.person is None]
    start = chance.randrange(0, max(1, frames // 2))
    ramp = max(2, frames // 6)
    through = bool(others) and (not clip.has_floor or chance.random() < 0.4)
    if not through and not clip.has_floor:
        _add_holdout(clip)
    other = min(others, key=lambda item: np.linalg.norm(item.center(0) - thing.center(0))) if through else None
    for source in range(start, frames):
        scene_frame = clip.timeline[source][0]
        share = min((source - start + 1) / ramp, 1.0)
        if through:
            way = other.center(scene_frame) - thing.center(scene_frame)
            reach = (max(thing.size) + max(other.size)) / 2
            distance = max(float(np.linalg.norm(way)), 1e-6)
            # To the depth asked for: at 1 half of the smaller body is inside the other.
            wanted = max(distance - reach + strength * min(max(thing.size), max(other.size)) * 0.75, 0.0)
            jump = way / distance * min(wanted, distance)
        else:
            bottom = float(thing.points(scene_frame)[:, 2].min())
            height = max(float(np.ptp(thing.points(scene_frame)[:, 2])), 1e-3)
            jump = np.array([0, 0, -(max(bottom, 0.0) + strength * 0.5 * height)])
        _shift(clip, thing, source, jump * share)
    return range(start, frames)


def _add_holdout(clip):
    """An invisible floor that cuts off what is below it, for scenes that have none."""
    mesh = bpy.data.meshes.new("holdout")
    side = 500.0
    mesh.from_pydata([(-side, -side, 0), (side, -side, 0), (side, side, 0), (-side, side, 0)], [], [(0, 1, 2, 3)])
    thing = bpy.data.objects.new("holdout", mesh)
    thing.is_holdout = True
    for name in ("diffuse", "glossy", "transmission", "volume_scatter", "shadow"):
        setattr(thing, f"visible_{name}", False)
    clip.collection.objects.link(thing)


def _missing_limb(clip, defect, frames):
    chance = _random(defect)
    thing = _chosen(clip, chance)
    if thing.person is not None:
        limbs = ("left_hand", "right_hand") if defect["strength"] < 0.4 else LIMBS
        thing.person.hide_limb(chance.choice(limbs))
        return range(frames)
    # A part at the picture's side, a little towards the camera: what is cut off behind would not be missed.
    across, up, back = clip.camera_poses[0][:3, :3].T
    direction = across * chance.choice((-1, 1)) + up * chance.uniform(0.2, 1.0) + back * chance.uniform(0.1, 0.5)
    direction = thing.pose(0)[:3, :3].T @ direction
    direction /= np.linalg.norm(direction)
    share = 0.08 + 0.3 * defect["strength"]
    for mesh in _meshes(thing):
        _cut(mesh, direction, share)
    if thing.vertices is not None:
        _cut_moving(thing, direction, share)
    return range(frames)


def _cut(mesh, direction, share):
    """Remove the outermost `share` of a mesh along a direction, and close the cut."""
    vertices = shapes.coordinates(mesh)
    if len(vertices) == 0:
        return
    heights = vertices @ direction
    limit = heights.max() - share * float(np.ptp(heights))
    work = bmesh.new()
    work.from_mesh(mesh)
    result = bmesh.ops.bisect_plane(
        work,
        geom=list(work.verts) + list(work.edges) + list(work.faces),
        plane_co=tuple(direction * limit),
        plane_no=tuple(direction),
        clear_outer=True,
    )
    edges = [element for element in result["geom_cut"] if isinstance(element, bmesh.types.BMEdge)]
    if edges:
        bmesh.ops.holes_fill(work, edges=edges)
    work.to_mesh(mesh)
    work.free()
    mesh.update()


def _cut_moving(thing, direction, share):
    """Remove the faces at one end of a cloth, whose vertices are set anew for every frame."""
    vertices = thing.vertices[0]
    heights = vertices @ direction
    limit = heights.max() - share * float(np.ptp(heights))
    kept = np.flatnonzero(heights <= limit)
    work = bmesh.new()
    work.from_mesh(thing.object.data)
    work.verts.ensure_lookup_table()
    gone = [work.verts[index] for index in np.flatnonzero(heights > limit)]
    bmesh.ops.delete(work, geom=gone, context="VERTS")
    work.to_mesh(thing.object.data)
    work.free()
    thing.vertices = thing.vertices[:, kept]


def _low_poly(clip, defect, frames):
    things = [thing for thing in clip.framed_items() if not thing.is_volume]
    for thing in things:
        if thing.person is not None:
            thing.person.low_poly(defect["strength"])
        elif thing.vertices is not None:
            _flat(thing.object.data)
        else:
            for mesh in _meshes(thing):
                coarse = _coarse_mesh(thing.object, defect["strength"], mesh)
                _replace(mesh, coarse)
    return range(frames)


def _coarse_mesh(thing, strength, mesh=None):
    """A copy with few faces, shaded flat."""
    mesh = mesh or thing.data
    faces = max(len(mesh.polygons), 1)
    wanted = max(28, 700 * (1 - strength) ** 1.5)
    coarse = mesh.copy()
    holder = bpy.data.objects.new("coarse", coarse)
    bpy.context.scene.collection.objects.link(holder)
    modifier = holder.modifiers.new("decimate", "DECIMATE")
    modifier.ratio = min(wanted / (faces * 2), 1.0)
    modifier.use_collapse_triangulate = True
    graph = bpy.context.evaluated_depsgraph_get()
    result = bpy.data.meshes.new_from_object(holder.evaluated_get(graph))
    bpy.data.objects.remove(holder)
    bpy.data.meshes.remove(coarse)
    _flat(result)
    return result


def _flat(mesh):
    mesh.polygons.foreach_set("use_smooth", np.zeros(len(mesh.polygons), dtype=bool))
    mesh.update()


def _replace(mesh, other):
    work = bmesh.new()
    work.from_mesh(other)
    work.to_mesh(mesh)
    work.free()
    bpy.data.meshes.remove(other)


def _wrong_gravity(clip, defect, frames):
    if clip.configuration["physics"] is not None:
        return range(frames)  # the simulation ran with it
    # Nothing falls here: the resting objects begin to rise, one after the other.
    chance, strength = _random(defect), defect["strength"]
    for thing in clip.framed_items():
        start = chance.randrange(0, max(1, frames // 3))
        height = max(thing.size) * chance.uniform(0.5, 1.0) * strength
        for source in range(start, frames):
            share = (source - start) / max(frames - 1 - start, 1)
            _shift(clip, thing, source, np.array([0, 0, height * share**2]))
    return [source for source in range(1, frames) if any((thing.name, source) in clip.shifts for thing in clip.items)]


def _of_kind(configuration, kind):
    return [defect for defect in configuration["defects"] if defect["kind"] == kind and defect["strength"] > 0]


def _random(defect):
    return random.Random(f"{defect['kind']} {defect['seed']}")


def _chosen(clip, chance, sources=None):
    """The person, or one of the objects that the camera holds; among the larger ones in the picture at `sources`, where
    given, since nobody misses what is not seen.
    """
    things = [thing for thing in clip.framed_items() if not thing.is_volume] or clip.framed_items()
    if sources is not None:
        shares = [_share_of_picture(clip, thing, sources) for thing in things]
        things = [thing for thing, share in zip(things, shares) if share >= LARGE_ENOUGH * max(shares)]
    return chance.choice(things)


def _share_of_picture(clip, thing, sources):
    """The share of the picture that the box around an item takes, on average over output frames; what stands before it
    is not regarded.
    """
    width, height = clip.configuration["render"]["width"], clip.configuration["render"]["height"]
    shares = []
    for source in sources:
        scene_frame = clip.timeline[source][0]
        camera.show(clip, scene_frame)
        matrix = camera.intrinsics(clip.scene, clip.camera.data)
        view = camera.world_to_camera(clip.camera_poses[scene_frame])
        local = thing.points(scene_frame) @ view[:3, :3].T + view[:3, 3]
        local = local[local[:, 2] > 1e-6]
        if len(local) == 0:
            shares.append(0.0)
            continue
        pixels = local @ matrix.T
        places = np.clip(pixels[:, :2] / pixels[:, 2:], 0, (width, height))
        shares.append(float(np.prod(np.ptp(places, axis=0))) / (width * height))
    return float(np.mean(shares))


def _meshes(thing):
    if thing.meshes is not None:
        return list(dict.fromkeys(thing.meshes))
    return [] if thing.vertices is not None else [thing.object.data]


def _shift(clip, thing, source, jump):
    clip.shifts[thing.name, source] = clip.shifts.get((thing.name, source), 0) + np.asarray(jump, float)


def _note(clip, kind, frames):
    clip.defect_frames[kind] = sorted(set(clip.defect_frames.get(kind, [])) | {int(frame) for frame in frames})


def _windows(defect, frames, shortest, longest, most):
    """Stretches of frames (first, length) spread over the clip: more and longer ones the stronger the defect."""
    chance, strength = _random(defect), defect["strength"]
    count = max(1, int(round(most * strength)))
    result = []
    for index in range(count):
        low, high = frames * index // count, frames * (index + 1) // count
        length = int(round(shortest + (longest - shortest) * strength * chance.uniform(0.6, 1.0)))
        length = max(1, min(length, max(1, (high - low) * 2 // 3)))
        result.append(
            (chance.randrange(max(low, min(1, frames - 1)), max(high - length, low + 1) + (low == 0)), length)
        )
    return result


def _dropped(defect, frames):
    """(output frame, frames lost before it)."""
    longest = max(1, int(round(frames / 5 * defect["strength"])))
    return [(place, longest) for place, _ in _windows(defect, frames, shortest=1, longest=1, most=3)]


def _timeline_frames(clip, kind):
    """The repeated frames of a stutter; the frames right after a gap."""
    result = []
    for index in range(1, len(clip.timeline)):
        (before, _), (now, source) = clip.timeline[index - 1], clip.timeline[index]
        if kind == "stutter" and source != index or kind == "dropped_frames" and source == index and now - before > 1:
            result.append(index)
    return result
