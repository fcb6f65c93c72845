"""The scene configuration: a JSON file enters, a checked dictionary with every default filled in leaves.

A configuration that cannot be rendered is refused here or raises ConfigurationError later; both name the object or
the file.
"""

import json
import os
import random

FAMILIES = ("objects", "human", "layers", "rigid", "cloth", "fluid")
SHAPES = (
    "cube",
    "sphere",
    "cylinder",
    "cone",
    "torus",
    "capsule",
    "pyramid",
    "icosahedron",
    "gear",
    "star",
    "spring",
    "vase",
    "bowl",
    "rock",
    "knot",
    "chair",
    "table",
    "lamp",
    "file",
)
MATERIALS = ("plastic", "metal", "glass", "wood", "fabric", "marble", "checker", "stripes", "car_paint", "clay")
MODIFIERS = ("none", "twist", "taper", "bend", "wave", "subdivide")
MOTIONS = ("still", "spin", "orbit", "bob")
MOVES = ("static", "truck", "dolly", "pedestal", "tilt", "pan", "spin", "following", "forward", "zoom")
PHYSICS = ("fall", "collision", "stack", "ramp", "cloth_drop", "flag", "curtain", "liquid", "smoke")
DEFECTS = (
    "noise",
    "flicker",
    "material_flicker",
    "popping",
    "detail_popping",
    "stutter",
    "dropped_frames",
    "teleport",
    "interpenetration",
    "missing_limb",
    "low_poly",
    "wrong_gravity",
)
FAMILY_PHYSICS = {
    "rigid": ("fall", "collision", "stack", "ramp"),
    "cloth": ("cloth_drop", "flag", "curtain"),
    "fluid": ("liquid", "smoke"),
}
# instances.npy holds a byte for each pixel: 0 is the background, and a scene adds a few numbers of its own (ramp,
# tank).
MAXIMUM_OBJECTS = 240
MAXIMUM_SIDE = 4096
MAXIMUM_FRAMES = 2000

DEFAULT_MATERIAL = {
    "kind": "plastic",
    "color": [0.6, 0.6, 0.6],
    "color2": [0.3, 0.3, 0.3],
    "roughness": 0.4,
    "scale": 1.0,
}


class ConfigurationError(Exception):
    """The configuration asks for something that cannot be rendered; trying again does not help."""


def read(path):
    """Read and check the configuration at `path`."""
    try:
        with open(path, encoding="utf-8") as file:
            configuration = json.load(file)
    except OSError as error:
        raise ConfigurationError(f"cannot read the scene {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"the scene {path} is not JSON: {error}") from error
    try:
        return checked(configuration)
    except (AttributeError, TypeError, KeyError) as error:
        raise ConfigurationError(
            f"the scene {path} has a list, a text or an object where another belongs: {error}"
        ) from error


def checked(configuration):
    """Fill in the defaults and refuse what cannot be rendered."""
    if not isinstance(configuration, dict):
        raise ConfigurationError("the scene is not a JSON object")
    if configuration.get("version", 1) != 1:
        raise ConfigurationError(f"version {configuration['version']} of the scene is not known; this renderer reads 1")
    family = _choice(configuration.get("family"), FAMILIES, "family")
    checked_scene = {
        "version": 1,
        "id": str(configuration.get("id", "")),
        "family": family,
        "seed": int(_number(configuration.get("seed", 0), "seed")),
        "render": _render(configuration.get("render") or {}),
        "environment": _environment(configuration.get("environment") or {"kind": "room"}),
        "lights": [_light(light, f"light {index}") for index, light in enumerate(configuration.get("lights") or [])],
        "objects": _objects(configuration.get("objects") or []),
        "person": configuration.get("person"),
        "camera": _camera(configuration.get("camera") or {}),
        "physics": _physics(configuration.get("physics"), family),
        "defects": [_defect(defect) for defect in configuration.get("defects") or []],
        "assets": configuration.get("assets") or "",
        "truth": [_choice(name, ("depth", "instances", "matte"), "truth") for name in configuration.get("truth") or []],
    }
    # A motion clip was recorded in usual gravity: nothing in it falls that could fall otherwise.
    if checked_scene["person"] and any(defect["kind"] == "wrong_gravity" for defect in checked_scene["defects"]):
        raise ConfigurationError("a person cannot have the defect wrong_gravity; choose objects")
    if family == "human" and not checked_scene["person"]:
        raise ConfigurationError("a scene of the family human needs a person")
    if not checked_scene["objects"] and not checked_scene["person"] and not checked_scene["physics"]:
        raise ConfigurationError("the scene has neither an object nor a person to show")
    return checked_scene


def random_for(configuration, purpose):
    """A generator of random numbers that depends on nothing but the scene's seed and the fixed text `purpose`."""
    return random.Random(f"{configuration['seed']} {purpose}")


def _number(value, name, low=None, high=None):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or abs(value) > 1e12:
        raise ConfigurationError(f"{name} has to be a number, not {value!r}")
    if low is not None and value < low or high is not None and value > high:
        raise ConfigurationError(f"{name} is {value}, outside {low} to {high}")
    return value


def _choice(value, choices, name):
    if value not in choices:
        raise ConfigurationError(f"{name} is {value!r}; choose one of {', '.join(choices)}")
    return value


def _vector(value, name, limit=1e4):
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        raise ConfigurationError(f"{name} has to be three numbers, not {value!r}")
    return [float(_number(part, name, -limit, limit)) for part in value]


def color(value, name):
    """Three sRGB components in 0..1."""
    return [min(max(part, 0.0), 1.0) for part in _vector(value, name)]


def material(value, name):
    """A material with every field filled in."""
    value = {**DEFAULT_MATERIAL, **{key: field for key, field in (value or {}).items() if field is not None}}
    return {
        "kind": _choice(value["kind"], MATERIALS, f"{name}: the material's kind"),
        "color": color(value["color"], f"{name}: the material's color"),
        "color2": color(value["color2"], f"{name}: the material's color2"),
        "roughness": float(_number(value["roughness"], f"{name}: roughness", 0, 1)),
        "scale": float(_number(value["scale"], f"{name}: the material's scale", 1e-3, 1e3)),
    }


def _render(value):
    return {
        "width": int(_number(value.get("width", 160), "render.width", 8, MAXIMUM_SIDE)),
        "height": int(_number(value.get("height", 160), "render.height", 8, MAXIMUM_SIDE)),
        "frames": int(_number(value.get("frames", 32), "render.frames", 1, MAXIMUM_FRAMES)),
        "fps": float(_number(value.get("fps", 16), "render.fps", 1, 240)),
        "engine": _choice(value.get("engine", "cycles"), ("cycles", "workbench"), "render.engine"),
        "samples": int(_number(value.get("samples", 16), "render.samples", 1, 16384)),
        "denoise": bool(value.get("denoise", True)),
        "bounces": int(_number(value.get("bounces", 4), "render.bounces", 0, 64)),
        "threads": int(_number(value.get("threads", 1), "render.threads", 0, 1024)),
    }


def _environment(value):
    kind = _choice(value.get("kind"), ("hdri", "room", "empty"), "environment.kind")
    if kind == "hdri":
        path = value.get("file") or ""
        if not os.path.isfile(path):
            raise ConfigurationError(f"the environment's file {path!r} does not exist; run setup, or choose another")
        ground = value.get("ground")
        return {
            "kind": kind,
            "file": path,
            "rotation_deg": float(_number(value.get("rotation_deg", 0), "environment.rotation_deg")),
            "strength": float(_number(value.get("strength", 1), "environment.strength", 0, 100)),
            "ground": material(ground, "environment.ground") if ground else None,
        }
    if kind == "room":
        return {"kind": kind, "color": color(value.get("color", [0.7, 0.7, 0.7]), "environment.color")}
    return {"kind": kind}


def _light(value, name):
    return {
        "kind": _choice(value.get("kind", "area"), ("area", "point", "sun"), f"{name}: kind"),
        "position": _vector(value.get("position", [2, -2, 3]), f"{name}: position"),
        "temperature_k": float(_number(value.get("temperature_k", 5600), f"{name}: temperature_k", 800, 40000)),
        "intensity": float(_number(value.get("intensity", 1), f"{name}: intensity", 0, 1000)),
        "size": float(_number(value.get("size", 1), f"{name}: size", 0, 100)),
    }


def _objects(values):
    if len(values) > MAXIMUM_OBJECTS:
        raise ConfigurationError(
            f"{len(values)} objects are more than {MAXIMUM_OBJECTS}, the most that instances.npy can number"
        )
    objects = [_object(value, index) for index, value in enumerate(values)]
    names = [value["id"] for value in objects]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"two objects have the id {name!r}")
    return objects


def _object(value, index):
    name = str(value.get("id", f"object_{index}"))
    shape = _choice(value.get("shape"), SHAPES, f"{name}: shape")
    path = value.get("file")
    if shape == "file" and not os.path.isfile(path or ""):
        raise ConfigurationError(f"{name}: the model {path!r} does not exist")
    motion = value.get("motion") or {}
    has_own_material = shape == "file" and not value.get("material")
    return {
        "id": name,
        "shape": shape,
        "file": path,
        "size": float(_number(value.get("size", 1), f"{name}: size", 1e-3, 1e3)),
        "bevel": float(_number(value.get("bevel", 0), f"{name}: bevel", 0, 1)),
        "modifier": _choice(value.get("modifier") or "none", MODIFIERS, f"{name}: modifier"),
        "modifier_strength": float(_number(value.get("modifier_strength", 0), f"{name}: modifier_strength", 0, 1)),
        "position": _vector(value.get("position", [0, 0, 0]), f"{name}: position"),
        "rotation_deg": _vector(value.get("rotation_deg", [0, 0, 0]), f"{name}: rotation_deg", 1e6),
        "material": None if has_own_material else material(value.get("material"), name),
        "motion": {
            "kind": _choice(motion.get("kind", "still"), MOTIONS, f"{name}: motion"),
            "turns": float(_number(motion.get("turns", 1), f"{name}: motion.turns", -1000, 1000)),
            "axis": _choice(motion.get("axis", "z"), ("x", "y", "z"), f"{name}: motion.axis"),
        },
    }


def _camera(value):
    return {
        "move": _choice(value.get("move", "static"), MOVES, "camera.move"),
        "direction": -1 if _number(value.get("direction", 1), "camera.direction") < 0 else 1,
        "extent": float(_number(value.get("extent", 0.5), "camera.extent", 0, 4)),
        "focus": _choice(value.get("focus", "center"), ("lower", "center", "upper"), "camera.focus"),
        "azimuth_deg": float(_number(value.get("azimuth_deg", 30), "camera.azimuth_deg")),
        "elevation_deg": float(_number(value.get("elevation_deg", 12), "camera.elevation_deg", -90, 90)),
        "focal_mm": float(_number(value.get("focal_mm", 50), "camera.focal_mm", 5, 2000)),
        "focal_share": float(_number(value.get("focal_share", 0.6), "camera.focal_share", 0.01, 3)),
    }


def _physics(value, family):
    allowed = FAMILY_PHYSICS.get(family)
    if not allowed:
        return None
    value = value or {}
    return {
        "kind": _choice(value.get("kind", allowed[0]), allowed, f"physics.kind of a {family} scene"),
        "gravity": float(_number(value.get("gravity", 9.81), "physics.gravity", -1000, 1000)),
        "friction": float(_number(value.get("friction", 0.5), "physics.friction", 0, 100)),
        "bounce": float(_number(value.get("bounce", 0.3), "physics.bounce", 0, 1)),
        "speed": float(_number(value.get("speed", 2), "physics.speed", 0, 100)),
        "stiffness": float(_number(value.get("stiffness", 0.5), "physics.stiffness", 0, 1)),
    }


def _defect(value):
    kind = _choice(value.get("kind"), DEFECTS, "a defect's kind")
    return {
        "kind": kind,
        "strength": float(_number(value.get("strength", 1), f"{kind}: strength", 0, 1)),
        "seed": int(_number(value.get("seed", 0), f"{kind}: seed")),
    }
