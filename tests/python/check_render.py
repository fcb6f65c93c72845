"""check_render.py [--any] [FOLDER…]: does the ground truth of rendered clips agree with their pictures?

Reads folders of `simdrop render` (default: data/clips/synthetic) with numpy, PyAV and pyarrow, without simdrop and without
Blender. schemas/truth.md says what the files hold. With --any, a folder need not be like the shipped one, where every
defect has a clean twin, nothing has failed, and something is there for every check.
"""

import argparse
import collections
import hashlib
import json
import pathlib
import sys

import av
import numpy as np
import pyarrow.parquet as pq

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARRAYS = {"depth": np.float16, "instances": np.uint8, "matte": np.uint8}
# Bodies whose shape changes: their pose says nothing about where their surface is.
SHAPELESS = {"cloth", "liquid", "smoke"}
# Faults after which a body is not where its clean twin would be, or is another body.
CHANGES_BODIES = {"low_poly", "missing_limb", "popping", "material_flicker"}


class Problems:
    """What is wrong, and how much was looked at."""

    def __init__(self):
        self.found = []
        self.counts = collections.Counter()

    def expect(self, condition, message):
        if not condition:
            self.found.append(message)


class Clip:
    """A clip and what lies beside it."""

    def __init__(self, folder, row):
        self.row = row
        self.path = folder / row["uri"]
        self.name = f"{row['scene_group']}/{self.path.stem[:8]}/{row['defect'] or 'clean'}"
        self.scene = self.read("scene.json")
        self.truth = self.read("truth.json")
        self.frames = self.scene["render"]["frames"]
        self.size = (self.scene["render"]["height"], self.scene["render"]["width"])
        self.defects = [defect["kind"] for defect in self.scene["defects"]]
        self.numbers = {name: int(number) for number, name in self.truth["instances"].items()}
        self.intrinsics = np.array(self.truth["camera"]["intrinsics"]).reshape(-1, 3, 3)
        self.views = np.array(self.truth["camera"]["world_to_camera"]).reshape(-1, 4, 4)

    def beside(self, suffix):
        return self.path.with_name(f"{self.path.stem}.{suffix}")

    def read(self, suffix):
        return json.loads(self.beside(suffix).read_text(encoding="utf-8"))

    def array(self, name):
        """An array of ground truth, or None where the scene did not ask for it."""
        return np.load(self.beside(f"{name}.npy"), allow_pickle=False) if name in self.scene["truth"] else None

    def pictures(self):
        with av.open(str(self.path)) as container:
            rate = container.streams.video[0].average_rate
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]), rate

    def project(self, points, frame):
        """World points to pixels and to metres along the camera's axis."""
        local = points @ self.views[frame, :3, :3].T + self.views[frame, :3, 3]
        pixels = local @ self.intrinsics[frame].T
        with np.errstate(divide="ignore", invalid="ignore"):
            return pixels[..., :2] / pixels[..., 2:], local[..., 2]

    def unproject(self, depth, frame):
        """World points of all pixels of a depth picture."""
        rows, columns = np.indices(depth.shape)
        rays = np.stack((columns + 0.5, rows + 0.5, np.ones(depth.shape)), -1) @ np.linalg.inv(self.intrinsics[frame]).T
        return (rays * depth[..., None] - self.views[frame, :3, 3]) @ self.views[frame, :3, :3]


def check(folder, is_shipped):
    folder = pathlib.Path(folder)
    problems = Problems()
    rows = [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    problems.expect(rows, "no list of clips (*.parquet)")
    check_files(folder, rows, problems)
    if is_shipped:
        problems.expect(not (folder / "failed").exists(), "there is a folder failed/")
    if problems.found:
        return report(folder, rows, problems)
    clips = [Clip(folder, row) for row in rows]
    check_pairs(clips, problems, is_shipped)
    for clip in clips:
        check_lengths(clip, problems)
        check_labels(clip, problems)
        check_camera(clip, problems)
        check_people(clip, problems)
        check_objects(clip, problems)
        check_depth(clip, problems)
        check_matte(clip, problems)
    checks = ("keypoints on a mask", "keypoints in a box", "depth pixels", "clips with a matte", "object centres", "pairs")
    for what in checks if is_shipped else ():
        problems.expect(problems.counts[what], f"nothing was checked of: {what}")
    return report(folder, rows, problems)


def report(folder, rows, problems):
    if problems.found:
        print(f"{folder}: {len(problems.found)} problems", *problems.found[:30], sep="\n  ", file=sys.stderr)
        return False
    counts = ", ".join(f"{count} {what}" for what, count in sorted(problems.counts.items()))
    print(f"{folder}: {len(rows)} clips, {sum(row['defect'] is not None for row in rows)} with a defect; {counts}: truth and "
          "pictures agree")
    return True


def check_files(folder, rows, problems):
    """The lists name what is there, and nothing else is there; the sums are right."""
    for row in rows:
        scene = json.loads(row["scene"])
        suffixes = ["mp4", "scene.json", "truth.json", *(f"{name}.npy" for name in scene["truth"])]
        suffixes += ["keypoints.json"] if scene["person"] else []
        for suffix in suffixes:
            path = folder / f"{scene['id']}.{suffix}"
            problems.expect(path.is_file(), f"{path.name} is listed and not there")
    problems.expect(len({row["uri"] for row in rows}) == len(rows), "a clip is listed twice")
    unlisted = {path.name for path in folder.glob("*.mp4")} - {row["uri"] for row in rows}
    problems.expect(not unlisted, f"clips that no list names: {sorted(unlisted)[:3]}")
    sums = folder / "SHA256SUMS"
    if sums.is_file():
        listed = dict(reversed(line.split(maxsplit=1)) for line in sums.read_text(encoding="utf-8").splitlines())
        there = {path.name for path in folder.iterdir()} - {"SHA256SUMS", "README.md"}
        problems.expect(set(listed) == there, f"SHA256SUMS and the folder differ: {sorted(set(listed) ^ there)[:3]}")
        for name in sorted(set(listed) & there):
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            problems.expect(digest == listed[name], f"{name} is not the file whose hash stands in SHA256SUMS")


def check_pairs(clips, problems, need_clean):
    """Clips of one scene_id are the same scene but for the defect, and a clean one is among them."""
    scenes = collections.defaultdict(list)
    for clip in clips:
        scenes[clip.row["scene_id"]].append(clip)
    for group in scenes.values():
        clean = [clip for clip in group if not clip.defects]
        if need_clean or len(group) > 1:
            problems.expect(len(clean) == 1, f"{group[0].name}: {len(clean)} clean clips share its scene_id")
        kinds = [clip.row["defect"] for clip in group]
        problems.expect(len(set(kinds)) == len(kinds), f"{group[0].name}: a defect is there twice for one scene")
        for clip in group:
            own, other = ({**one.scene, "id": "", "defects": []} for one in (clip, group[0]))
            problems.expect(own == other, f"{clip.name}: differs from its clean clip in more than the defect")
            problems.expect(
                [clip.scene["id"], clip.scene["scene_id"]] == [clip.path.stem, clip.row["scene_id"]],
                f"{clip.name}: the list and the configuration name other scenes",
            )
        problems.counts["pairs"] += len(group) - 1


def check_lengths(clip, problems):
    """Everything that goes by frame has the clip's frames."""
    pictures, rate = clip.pictures()
    expected = (clip.frames, *clip.size, 3)
    problems.expect(pictures.shape == expected, f"{clip.name}: pictures are {pictures.shape}, not {expected}")
    problems.expect(rate == clip.scene["render"]["fps"], f"{clip.name}: {rate} frames a second")
    truth = clip.truth
    lengths = {"frame_of": truth["frame_of"], **truth["camera"]}
    for name, body in truth["objects"].items():
        lengths |= {f"{name}.pose": body["pose"], f"{name}.visible": body["visible"]}
    for name, body in truth["people"].items():
        lengths |= {f"{name}.{key}": body[key] for key in ("keypoints", "keypoints_3d", "bounding_box")}
    for key, values in lengths.items():
        problems.expect(len(values) == clip.frames, f"{clip.name}: {len(values)} of {key} for {clip.frames} frames")
    for name, kind in ARRAYS.items():
        array = clip.array(name)
        if array is not None:
            right = array.shape == (clip.frames, *clip.size) and array.dtype == kind
            problems.expect(right, f"{clip.name}: {name} is {array.dtype} {array.shape}")
    instances = clip.array("instances")
    if instances is not None:
        unknown = set(np.unique(instances).tolist()) - {0, *clip.numbers.values()}
        problems.expect(not unknown, f"{clip.name}: instances has numbers that truth.json does not name: {unknown}")
    for contact in truth["contacts"]:
        problems.expect(0 <= contact["frame"] < clip.frames, f"{clip.name}: a contact at frame {contact['frame']}")
        for body in (contact["a"], contact["b"]):
            known = body == "floor" or body.split(".")[0] in clip.numbers
            problems.expect(known, f"{clip.name}: a contact with {body}, which there is not")
    problems.counts["contacts"] += len(truth["contacts"])


def check_labels(clip, problems):
    """A defect is named in the list, in the configuration and, with its frames, in the ground truth; a clean clip has none."""
    label, frames = clip.row["defect"], clip.truth["defect_frames"]
    problems.expect(clip.defects == ([label] if label else []), f"{clip.name}: the configuration has {clip.defects}")
    problems.expect(set(frames) == set(clip.defects), f"{clip.name}: defect_frames has {sorted(frames)}")
    for kind, shown in frames.items():
        within = shown and all(0 <= frame < clip.frames for frame in shown)
        problems.expect(within, f"{clip.name}: {kind} shows in frames {shown}")
    in_order = clip.truth["frame_of"] == list(range(clip.frames))
    problems.expect(in_order != (label in ("stutter", "dropped_frames")), f"{clip.name}: frame_of does not fit the defect")


def check_camera(clip, problems):
    """Intrinsics are a camera's, extrinsics a rigid motion's; only a zoom changes the focal length."""
    focal = clip.intrinsics[:, 0, 0]
    usual = np.zeros_like(clip.intrinsics)
    usual[:, 0, 0] = usual[:, 1, 1] = focal
    usual[:, 0, 2], usual[:, 1, 2], usual[:, 2, 2] = clip.size[1] / 2, clip.size[0] / 2, 1
    problems.expect(np.allclose(clip.intrinsics, usual, atol=1e-3), f"{clip.name}: intrinsics are not those of a pinhole")
    turns = clip.views[:, :3, :3]
    rigid = np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3), atol=1e-4) and np.all(np.linalg.det(turns) > 0)
    problems.expect(rigid, f"{clip.name}: world_to_camera is no rigid motion")
    if clip.scene["camera"]["move"] != "zoom":
        problems.expect(np.ptp(focal) < 1e-3, f"{clip.name}: the focal length changes without a zoom")
    if clip.scene["camera"]["move"] == "static":
        problems.expect(np.ptp(clip.views, axis=0).max() < 1e-5, f"{clip.name}: a static camera moves")


def check_people(clip, problems):
    """Keypoints are the projected 3D points and lie on the person; COCO's file says the same."""
    for name, person in clip.truth["people"].items():
        instances = clip.array("instances")
        points = np.array(person["keypoints"]).reshape(-1, 17, 3)
        world = np.array(person["keypoints_3d"]).reshape(-1, 17, 3)
        for frame in range(clip.frames):
            pixels, depth = clip.project(world[frame], frame)
            ahead = depth > 1e-6
            error = np.abs(pixels - points[frame, :, :2])[ahead].max(initial=0)
            problems.expect(error < 1, f"{clip.name}: keypoints of frame {frame} are {error:.2f} pixels off their 3D points")
            problems.counts["projected keypoints"] += int(ahead.sum())
            seen = points[frame, points[frame, :, 2] == 2, :2]
            if instances is not None:
                mask = instances[frame] == clip.numbers[name]
                off = [place for place in seen if not around(mask, place).any()]
                problems.counts["keypoints on a mask"] += len(seen)
            else:
                x, y, width, height = person["bounding_box"][frame]
                inside = (seen >= (x - 1, y - 1)) & (seen <= (x + width + 1, y + height + 1))
                off = seen[~inside.all(1)]
                problems.counts["keypoints in a box"] += len(seen)
            problems.expect(len(off) == 0, f"{clip.name}: visible keypoints of frame {frame} off the person: {off[:2]}")
            if instances is not None and mask.any():
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                box = [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
                problems.expect(person["bounding_box"][frame] == box, f"{clip.name}: box and mask of frame {frame} differ")
        shown = [frame for frame in range(clip.frames) if (points[frame, :, 2] == 2).any()]
        problems.expect(len(shown) >= clip.frames // 2, f"{clip.name}: the person is seen in {len(shown)} frames only")
        coco = clip.read("keypoints.json")
        same = [annotation["keypoints"] for annotation in coco["annotations"]] == person["keypoints"]
        problems.expect(same and len(coco["images"]) == clip.frames, f"{clip.name}: COCO's keypoints are others")


def around(mask, place):
    """The pixel of a place and its eight neighbours: the index pass has one sample a pixel, which may miss a thin limb."""
    column, row = int(place[0]), int(place[1])
    return mask[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]


def check_objects(clip, problems):
    """The middle of an object that is seen whole is projected into its mask's box."""
    instances = clip.array("instances")
    if instances is None or CHANGES_BODIES & set(clip.defects):
        return
    for name, body in clip.truth["objects"].items():
        if name in SHAPELESS:
            continue
        for frame in range(clip.frames):
            mask = instances[frame] == clip.numbers[name]
            others = (instances[frame] != 0) & ~mask
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if mask.sum() < 30 or min(rows[0], columns[0]) == 0 or rows[-1] == mask.shape[0] - 1 \
                    or columns[-1] == mask.shape[1] - 1 or (grown(mask) & others).any():
                continue  # cut by the picture's border, or perhaps behind another body
            (x, y), _ = clip.project(np.array(body["pose"][frame]).reshape(4, 4)[:3, 3], frame)
            inside = columns[0] - 2 <= x <= columns[-1] + 3 and rows[0] - 2 <= y <= rows[-1] + 3
            problems.expect(inside, f"{clip.name}: the middle of {name} is outside of its mask in frame {frame}")
            problems.counts["object centres"] += 1


def grown(mask, pixels=1):
    """A mask and so many pixels around it."""
    for _ in range(pixels):
        padded = np.pad(mask, 1)
        mask = np.any([padded[1 + y : padded.shape[0] - 1 + y, 1 + x : padded.shape[1] - 1 + x]
                       for y in (-1, 0, 1) for x in (-1, 0, 1)], axis=0)
    return mask


def check_depth(clip, problems):
    """What does not move in the first frame, unprojected, is found at its depth in later ones, or is hidden there."""
    depth, instances = clip.array("depth"), clip.array("instances")
    if depth is None or instances is None or CHANGES_BODIES & set(clip.defects):
        return
    still = [0] if clip.scene["environment"]["kind"] != "empty" and clip.scene["family"] != "layers" else []
    for name, body in clip.truth["objects"].items():
        if name not in SHAPELESS and np.ptp(body["pose"], axis=0).max() < 1e-6 and all(body["visible"]):
            still.append(clip.numbers[name])
    depth = depth.astype(np.float64)
    problems.expect(np.isfinite(depth[instances > 0]).all() or "smoke" in clip.numbers,
                    f"{clip.name}: a body has no depth")
    known = np.isfinite(depth[0]) & np.isin(instances[0], still)
    points = clip.unproject(np.where(known, depth[0], 1.0), 0)
    height, width = clip.size
    for frame in {clip.frames // 2, clip.frames - 1}:
        pixels, distance = clip.project(points, frame)
        columns, rows = np.floor(pixels[..., 0]), np.floor(pixels[..., 1])
        inside = known & (distance > 0) & (columns >= 1) & (columns < width - 1) & (rows >= 1) & (rows < height - 1)
        if inside.sum() < 100:
            continue
        rows, columns, distance = rows[inside].astype(int), columns[inside].astype(int), distance[inside]
        # One pixel of error is allowed, and float16's: the surface lies between the depths of the nine pixels around.
        near, bodies = (np.stack([array[frame][rows + y, columns + x] for y in (-1, 0, 1) for x in (-1, 0, 1)])
                        for array in (depth, instances))
        slack = 0.004 * distance + 1e-3
        before = distance < near.min(0) - slack
        hidden = distance > near.max(0) + slack
        # A floor and walls hide nothing of each other: only a body does.
        wrong = before | hidden & (bodies == 0).all(0)
        agrees = 1 - float(wrong.mean())
        problems.expect(agrees > 0.985, f"{clip.name}: {agrees:.3f} of frame 0's depth agrees with frame {frame}'s")
        problems.counts["depth pixels"] += int((~hidden & ~before).sum())


def check_matte(clip, problems):
    """Where a subject stands on a plain colour, the picture leaves that colour where the matte begins."""
    matte = clip.array("matte")
    if matte is None:
        return
    problems.counts["clips with a matte"] += 1
    instances = clip.array("instances")
    if instances is not None:
        differ = float(((matte > 127) != (instances > 0)).mean())
        problems.expect(differ < 0.04, f"{clip.name}: matte and instances differ in {differ:.3f} of the pixels")
    if clip.scene["family"] != "layers":
        return
    pictures, _ = clip.pictures()
    # What is transparent is black in the clip.
    color = np.array(clip.scene["environment"].get("color") or [0, 0, 0]) * 255
    away = np.abs(pictures - color).max(-1)
    inside = np.concatenate([away[frame][~grown(matte[frame] < 250)] for frame in range(clip.frames)])
    # Two pixels from the edge: the clip has half of the resolution in its colours.
    outside = np.concatenate([away[frame][~grown(matte[frame] > 0, 2)] for frame in range(clip.frames)])
    problems.expect(len(outside) > 100, f"{clip.name}: nothing but the subject")
    if "popping" in clip.defects and len(inside) < 100:
        return  # it is gone in most frames
    problems.expect(len(inside) > 100, f"{clip.name}: no subject")
    problems.expect(np.quantile(outside, 0.999) < 10, f"{clip.name}: off the matte the picture is not the background's colour "
                    f"but differs by {np.quantile(outside, 0.999):.0f}")
    # The subject may have places of the background's colour.
    problems.expect((inside > 10).mean() > 0.8, f"{clip.name}: {(inside <= 10).mean():.2f} of the matte's inside is background")
    # The edge of the matte is that of the picture: moved by a pixel in any direction, it fits the picture less well.
    fits = {(y, x): fit(np.roll(matte, (y, x), (1, 2)), away) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    best = max(fits, key=fits.get)
    problems.expect(best == (0, 0), f"{clip.name}: the matte fits the picture better when moved by {best}: {fits}")
    problems.expect(fits[0, 0] > 0.6, f"{clip.name}: matte and picture have a correlation of {fits[0, 0]:.2f}")
    problems.counts["matte pixels"] += len(inside) + len(outside)


def fit(matte, away):
    """How well a matte explains where the picture leaves the background's colour: the correlation near the matte's edges."""
    edges = np.stack([grown(frame, 2) & grown(~frame, 2) for frame in matte > 127])
    return float(np.corrcoef(matte[edges], away[edges])[0, 1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", default=[ROOT / "data/clips/synthetic"])
    parser.add_argument("--any", action="store_true", help="the folder need not be like the shipped one")
    arguments = parser.parse_args()
    results = [check(folder, not arguments.any) for folder in arguments.folders]
    sys.exit(not all(results))
