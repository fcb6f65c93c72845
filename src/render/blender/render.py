"""Renders a Clip: one Cycles or Workbench render a frame, with the passes for the truth in the same render.

Frames leave as PNG files; what the truth needs of each frame (depth, numbers, coverage) is handed on as arrays.
"""

import os

import bpy
import numpy as np

import camera
import environment as surroundings
import pictures

PASSES_FILE = "passes.exr"
FAR = 1e9
PROBE_SIDE = 48
PROBE_SAMPLES = 4
MATTE_SAMPLES = 8
BRIGHTEST = 0.92  # the linear value that the brightest twentieth of the subject's frame may reach
DARKEST = 0.11  # the linear mean below which a picture counts as too dark


def prepare(clip):
    """Set the engine up; called once for a clip."""
    scene, value = clip.scene, clip.configuration["render"]
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = value["width"], value["height"], 100
    render.pixel_aspect_x = render.pixel_aspect_y = 1.0
    render.use_persistent_data = True
    render.use_compositing = False
    render.use_sequencer = False
    render.use_motion_blur = False
    render.threads_mode = "FIXED" if value["threads"] else "AUTO"
    render.threads = max(value["threads"], 1)
    render.image_settings.file_format = "OPEN_EXR_MULTILAYER"
    render.image_settings.color_depth = "32"
    render.image_settings.exr_codec = "NONE"
    render.filepath = os.path.join(clip.scratch, PASSES_FILE)
    scene.view_settings.view_transform = "Standard"
    scene.view_settings.look = "None"
    if value["engine"] == "workbench":
        _prepare_workbench(clip)
    else:
        _prepare_cycles(clip, value["samples"], value["denoise"])


def _prepare_cycles(clip, samples, denoise):
    scene, value = clip.scene, clip.configuration["render"]
    scene.render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.device = "CPU"
    cycles.samples = samples
    cycles.use_adaptive_sampling = False
    cycles.use_denoising = denoise
    cycles.denoiser = "OPENIMAGEDENOISE"
    cycles.denoising_input_passes = "RGB_ALBEDO_NORMAL"
    cycles.denoising_prefilter = "FAST"
    if hasattr(cycles, "denoising_quality"):
        cycles.denoising_quality = "FAST"  # the better ones take as long as the rendering of a small picture
    cycles.use_light_tree = False  # worth its while for many lights; here are three
    cycles.max_bounces = value["bounces"]
    cycles.diffuse_bounces = min(value["bounces"], 4)
    cycles.glossy_bounces = min(value["bounces"], 4)
    cycles.transmission_bounces = max(value["bounces"], 6)  # a glass has two walls of two sides each
    cycles.transparent_max_bounces = 8
    cycles.volume_bounces = min(value["bounces"], 1)
    cycles.volume_step_rate, cycles.volume_max_steps = 3.0, 96  # the grid of smoke is coarse: finer steps find nothing
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.sample_clamp_indirect = 6.0
    cycles.blur_glossy = 0.5
    layer = scene.view_layers[0]
    layer.use_pass_z = True
    layer.use_pass_object_index = True
    layer.use_pass_cryptomatte_object = "matte" in clip.configuration["truth"]
    layer.pass_cryptomatte_depth = 4


def _prepare_workbench(clip):
    scene = clip.scene
    scene.render.engine = "BLENDER_WORKBENCH"
    shading = scene.display.shading
    shading.light = "STUDIO"
    shading.color_type = "MATERIAL"
    shading.show_shadows = True
    shading.shadow_intensity = 0.35
    shading.show_cavity = False
    scene.display.render_aa = "8"
    if clip.world_shader is not None:
        scene.render.film_transparent = True


def probe_exposure(clip):
    """A factor for the picture's brightness, from a small picture of the clean first frame: neither black nor burnt
    out.

    It is measured before any defect is put in, so that a clip and its clean twin are exposed alike; a scene whose
    light is right keeps a factor of 1.
    """
    scene, value = clip.scene, clip.configuration["render"]
    show(clip, 0, 0)
    if value["engine"] == "workbench":
        if clip.hdri is not None:
            seen = surroundings.seen_by(clip, 0, camera.intrinsics(scene, clip.camera.data))
            clip.world_strength *= min(BRIGHTEST / max(float(np.quantile(seen, 0.95)), 1e-6), 1.0)
        return 1.0
    render = scene.render
    scale = PROBE_SIDE / max(value["width"], value["height"])
    render.resolution_x, render.resolution_y = max(int(value["width"] * scale), 8), max(int(value["height"] * scale), 8)
    scene.cycles.samples, scene.cycles.use_denoising = PROBE_SAMPLES, False
    clip.is_probing = True
    passes = render_once(clip, 0)
    clip.is_probing = False
    render.resolution_x, render.resolution_y = value["width"], value["height"]
    scene.cycles.samples, scene.cycles.use_denoising = value["samples"], value["denoise"]
    luminance = passes["color"][..., :3] @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    shown = luminance[passes["color"][..., 3] > 0.5]
    if shown.size == 0:
        return 1.0
    bright, mean = float(np.quantile(shown, 0.95)), float(shown.mean())
    if bright > BRIGHTEST:
        return max(BRIGHTEST / bright, 0.125)
    if mean < DARKEST:
        return min(DARKEST / max(mean, 1e-4), BRIGHTEST / max(bright, 1e-4), 8.0)
    return 1.0


def render_frames(clip, folder, progress):
    """Write every frame's PNG and yield what the truth needs of it: (output frame, source, passes)."""
    os.makedirs(os.path.join(folder, "frames"), exist_ok=True)
    if clip.configuration["render"]["engine"] == "workbench":
        yield from _render_workbench(clip, folder, progress)
        return
    frames = len(clip.timeline)
    passes = None
    for index, (scene_frame, source) in enumerate(clip.timeline):
        if source == index or passes is None:
            show(clip, scene_frame, source)
            passes = render_once(clip, source)
            picture = _picture(clip, passes, source)
        pictures.write_png(os.path.join(folder, "frames", f"{index:06d}.png"), picture)
        progress(index + 1, frames)
        yield index, source, passes


def _render_workbench(clip, folder, progress):
    """Workbench has no passes: all pictures first, then the truth from a cheap Cycles render of the same frames.

    Changing the engine throws away what was prepared for the other, so it is changed once and not for every frame.
    """
    picture = passes = None
    alphas = {}
    for index, (scene_frame, source) in enumerate(clip.timeline):
        if source == index or picture is None:
            show(clip, scene_frame, source)
            passes = render_once(clip, source)
            picture = _picture(clip, passes, source)
            alphas[source] = passes["color"][..., 3]
        pictures.write_png(os.path.join(folder, "frames", f"{index:06d}.png"), picture)
        progress(index + 1, len(clip.timeline))
    passes = None
    needs_passes = bool(clip.configuration["truth"]) or any(thing.person is not None for thing in clip.items)
    if needs_passes:
        clip.scene.render.film_transparent = clip.configuration["environment"]["kind"] == "empty" or clip.is_layered
        _prepare_cycles(clip, MATTE_SAMPLES if "matte" in clip.configuration["truth"] else 1, False)
        clip.scene.cycles.max_bounces = 0
        clip.scene.cycles.transparent_max_bounces = 8
    for index, (scene_frame, source) in enumerate(clip.timeline):
        if needs_passes and (source == index or passes is None):
            show(clip, scene_frame, source)
            passes = render_once(clip, source)
            if clip.scene.render.film_transparent:
                passes["color"][..., 3] = alphas[source]  # the matte has to be the alpha of the picture
                for thing in clip.items:
                    if thing.is_volume:
                        passes["index"][(passes["index"] == thing.number) & (alphas[source] <= 0.5)] = 0
        yield index, source, passes or {}


def show(clip, scene_frame, source):
    """Bring everything to the state of one output frame."""
    if clip.needs_frame_set:
        clip.scene.frame_set(scene_frame)
    else:
        clip.scene.frame_current = scene_frame
    for thing in clip.items:
        thing.show(scene_frame, clip.shift(thing, source), clip.is_visible(thing, source))
    camera.show(clip, scene_frame)
    for change in clip.changes:
        change(source)


def render_once(clip, source):
    """Render the state shown and read its passes: {"color", "depth", "index", "ids"}."""
    # Noise differs from frame to frame, as in any real render, but the same frame always has the same noise.
    if clip.scene.render.engine == "CYCLES":
        clip.scene.cycles.seed = (clip.configuration["seed"] * 1009 + source * 7919) % 2147483647
    channels, attributes = _execute(clip.scene)
    if "Combined.A" not in channels:
        raise RuntimeError("Blender wrote no picture; it may lack memory, or a display driver for Workbench")
    passes = {"color": np.stack([channels[f"Combined.{name}"] for name in "RGBA"], axis=-1)}
    passes.update(_surfaces(clip, channels, attributes))
    if clip.scene.render.engine == "CYCLES" and any(thing.is_volume for thing in clip.items):
        _add_volume(clip, passes)
    return passes


def _execute(scene):
    """Render, and read the file of passes: channels and attributes."""
    scene.update_tag()  # with persistent data, settings of the scene alone would be those of the render before
    bpy.ops.render.render(write_still=True)
    return pictures.read_exr(scene.render.filepath)


def _surfaces(clip, channels, attributes):
    """Depth, numbers and coverage, as far as the engine gave them."""
    passes = {}
    if "Depth.Z" in channels:
        depth = channels["Depth.Z"].copy()
        depth[depth > FAR] = np.inf
        passes["depth"] = depth
    if "IndexOB.X" in channels:
        passes["index"] = (channels["IndexOB.X"] + 0.5).astype(np.uint8)
    if "CryptoObject00.r" in channels:
        passes["coverage"] = _coverage(clip, channels, attributes)
    return passes


def _add_volume(clip, passes):
    """Smoke has no surface, and rays that it scatters bring home the depth of something else.

    So the passes of a scene with smoke come from a render without it, and its coverage from one of nothing but it.
    """
    if clip.is_probing or not clip.configuration["truth"]:
        return
    scene = clip.scene
    volumes = [thing for thing in clip.items if thing.is_volume]
    shown = {thing.object for thing in volumes}
    solids = [thing for thing in scene.objects if thing.type == "MESH" and thing not in shown]
    hidden = [thing.object.hide_render for thing in volumes]
    holdouts = [thing.is_holdout for thing in solids]
    cycles = scene.cycles
    usual = (cycles.samples, cycles.use_denoising, cycles.max_bounces)
    was_transparent = scene.render.film_transparent
    cycles.samples, cycles.use_denoising, cycles.max_bounces = MATTE_SAMPLES, False, 0
    for thing in volumes:
        thing.object.hide_render = True
    passes.update(_surfaces(clip, *_execute(scene)))
    for thing, was_hidden in zip(volumes, hidden):
        thing.object.hide_render = was_hidden
    if "matte" in clip.configuration["truth"] or "instances" in clip.configuration["truth"]:
        scene.render.film_transparent = True
        for thing in solids:
            thing.is_holdout = True
        alpha = np.clip(_execute(scene)[0]["Combined.A"], 0.0, 1.0)
        for thing, was_holdout in zip(solids, holdouts):
            thing.is_holdout = was_holdout
        if "coverage" in passes:
            passes["coverage"] = 1 - (1 - passes["coverage"]) * (1 - alpha)
        passes["index"][(passes["index"] == 0) & (alpha > 0.5)] = volumes[0].number
    scene.render.film_transparent = was_transparent
    cycles.samples, cycles.use_denoising, cycles.max_bounces = usual


def _coverage(clip, channels, attributes):
    """The share of each pixel that any item covers, from the cryptomatte."""
    ids = pictures.cryptomatte_ids(attributes)
    wanted = [ids[part.name] for thing in clip.items for part in thing.parts if part.name in ids]
    wanted = np.array(wanted, np.float32)
    total = 0.0
    for layer in ("00", "01"):
        for name, amount in (("r", "g"), ("b", "a")):
            rank, share = channels[f"CryptoObject{layer}.{name}"], channels[f"CryptoObject{layer}.{amount}"]
            total = total + np.where(np.isin(rank, wanted), share, 0.0)
    return np.clip(total, 0.0, 1.0)


def _picture(clip, passes, source):
    color = passes["color"].astype(np.float64)
    alpha = np.clip(color[..., 3:], 0.0, 1.0)
    linear = color[..., :3] * clip.exposure
    environment = clip.configuration["environment"]
    if clip.scene.render.engine != "CYCLES" and environment["kind"] == "hdri" and not clip.is_layered:
        matrix = camera.intrinsics(clip.scene, clip.camera.data)
        linear = linear + (1 - alpha) * surroundings.seen_by(clip, clip.timeline[source][0], matrix)
    for filter_color in clip.filters:
        linear = filter_color(linear, source)
    if environment["kind"] == "empty":
        straight = linear / np.maximum(alpha, 1e-6)
        encoded = np.where(alpha > 0, pictures.to_srgb(straight), 0.0)
        return pictures.to_bytes(np.concatenate((encoded, alpha), axis=-1))
    if clip.is_layered and environment["kind"] == "room":
        # A flat layer: composited as a video editor does, on encoded values, so that the background is exactly the
        # colour asked for.
        encoded = pictures.to_srgb(linear / np.maximum(alpha, 1e-6)) * alpha + np.array(environment["color"]) * (
            1 - alpha
        )
        return pictures.to_bytes(encoded)
    return pictures.to_bytes(pictures.to_srgb(linear))
