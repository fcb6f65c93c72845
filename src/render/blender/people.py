"""A clothed person who plays a motion clip.

In:  the scene to link into, the person's part of the scene configuration, the assets folder, how many frames.
Out: `Person`: an armature with pose keyframes for frames 0 .. frames-1, the mesh objects it deforms, and the truth
     about them (keypoints, pelvis path, foot contacts), computed from the same bone matrices that are keyframed.

Where a person looks: heading 0 faces -Y, and positive headings turn counter-clockwise seen from above. `position` is
where the pelvis is at frame 0. The floor is z = 0.
"""

import math

import numpy

import motion
import people_armature
import people_body
import people_clothes
import people_ground
import people_hair
import people_looks
import people_rig


KEYPOINT_NAMES = ("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
                  "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
                  "right_knee", "left_ankle", "right_ankle")
JOINT_BONES = ("upperarm_l", "upperarm_r", "lowerarm_l", "lowerarm_r", "hand_l", "hand_r", "thigh_l", "thigh_r",
               "calf_l", "calf_r", "foot_l", "foot_r")

# Limbs that can be taken away: the bones whose flesh goes, and the keypoints that go with it.
LIMBS = {
    "left_hand": (("hand_l",), ("left_wrist",)),
    "right_hand": (("hand_r",), ("right_wrist",)),
    "left_forearm": (("lowerarm_l", "hand_l"), ("left_wrist",)),
    "right_forearm": (("lowerarm_r", "hand_r"), ("right_wrist",)),
    "left_arm": (("upperarm_l", "lowerarm_l", "hand_l"), ("left_elbow", "left_wrist")),
    "right_arm": (("upperarm_r", "lowerarm_r", "hand_r"), ("right_elbow", "right_wrist")),
    "left_shin": (("calf_l", "foot_l", "ball_l"), ("left_ankle",)),
    "right_shin": (("calf_r", "foot_r", "ball_r"), ("right_ankle",)),
    "left_leg": (("thigh_l", "calf_l", "foot_l", "ball_l"), ("left_knee", "left_ankle")),
    "right_leg": (("thigh_r", "calf_r", "foot_r", "ball_r"), ("right_knee", "right_ankle")),
    "head": (("head",), ("nose", "left_eye", "right_eye", "left_ear", "right_ear")),
}
FINGERS = ("thumb", "index", "middle", "ring", "pinky")


def add_person(scene_context, person_config, assets_folder, frames, fps):
    """Builds the person into `scene_context.collection` of `scene_context.scene`."""
    name = person_config.get("id", "person_0")
    body = people_body.build_body(assets_folder, person_config["body"])
    pieces, faces = people_clothes.garments(body, person_config["top"], person_config["bottom"])
    pieces = {"body": people_looks.skin_piece(body, faces), **pieces}
    hair = people_hair.grow(body, person_config["hair"]["kind"])
    if hair is not None:
        pieces["hair"] = hair

    matrices, root = animate(body, pieces, person_config, assets_folder, frames, fps)
    armature = people_armature.make_armature(scene_context.scene, scene_context.collection, name, body)
    people_armature.keyframe(armature, body, matrices)
    materials = people_looks.make_materials(name, person_config)
    parts = {part: people_armature.make_part(scene_context.collection, armature, f"{name}_{part}", piece,
                                             materials[part], body.bone_names) for part, piece in pieces.items()}
    people_armature.paint(parts["body"], "paint", people_looks.paint_skin(body, pieces["body"], person_config))
    return Person(name, body, armature, parts, pieces, matrices, root, fps)


class Person:
    """What was built. Truth is in world metres, for an armature object that has not been moved."""

    def __init__(self, name, body, armature, parts, pieces, matrices, root, fps):
        self.name = name
        self.armature = armature
        self.object = parts["body"]
        self.parts = list(parts.values())
        self.named_parts = parts
        self.root_positions = root
        self.height = float(max(piece.points[:, 2].max() for piece in pieces.values()))
        self.head_height = float(body.heads["head"][2] + 0.4 * (self.height - body.heads["head"][2]))
        self.missing_keypoints = set()
        self.foot_contacts = people_ground.foot_contacts(body, pieces["shoes"], matrices, fps)
        self._keypoints = keypoints(body, matrices)

    @property
    def frames(self):
        return len(self.root_positions)

    def keypoints_3d(self, frame):
        """[17, 3] world positions in COCO's order, as built: whoever moves the armature object adds that."""
        return self._keypoints[frame]

    def hide_limb(self, name, frames=None):
        """Takes a limb of `LIMBS` away, or only in the given frames (a list); its clothing goes with it."""
        if name not in LIMBS:
            raise ValueError(f"{self.name}: no limb {name!r} to take away; there are {', '.join(LIMBS)}")
        bones, gone = LIMBS[name]
        for part in self.parts:
            people_armature.mask_bones(part, name, limb_groups(part, bones), frames, self.frames)
        if frames is None:
            self.missing_keypoints.update(KEYPOINT_NAMES.index(keypoint) for keypoint in gone)

    def low_poly(self, strength):
        """Fewer faces, flat shading: at strength 1 one face in twenty-five is left."""
        for part in self.parts:
            people_armature.simplify(part, 0.16 * (1 - strength) + 0.04 * strength)


def limb_groups(part, bones):
    """The bones' vertex groups, fingers with their hand."""
    groups = list(bones)
    for bone in bones:
        if bone.startswith("hand_"):
            groups += [group.name for group in part.vertex_groups
                       if group.name.endswith(bone[-2:]) and group.name.split("_")[0] in FINGERS]
    return groups


# Motion


def animate(body, pieces, config, assets_folder, frames, fps):
    """Bone matrices [T, B, 4, 4] and the pelvis's path [T, 3], standing on the floor at the configured place."""
    settings = config["motion"]
    grip = motion.GRIPS.get(settings["clip"], motion.RELAXED)
    times = settings.get("start_s", 0.0) + numpy.arange(frames) / fps * settings.get("speed", 1.0)
    options = {"heading": math.radians(settings.get("heading_deg", 0.0)), "mirror": bool(settings.get("mirror", False))}
    track = motion.sample(assets_folder, settings["clip"], times, **options)

    scale = leg_length(body) / track.leg_length
    root = track.root * scale
    root[:, :2] += numpy.asarray(config.get("position", [0.0, 0.0])) - root[0, :2]
    matrices = people_rig.bone_matrices(body, track, root, grip)
    people_ground.ground(body, pieces, matrices, root, track, fps)
    return matrices, root


def leg_length(body):
    return float(sum(numpy.linalg.norm(body.heads[end] - body.heads[start])
                     for start, end in (("thigh_l", "calf_l"), ("calf_l", "foot_l"))) + body.heads["foot_l"][2])


# Truth


def keypoints(body, matrices):
    """[T, 17, 3] in the armature object's space."""
    face = numpy.stack([nose(body), people_looks.eye(body, "left"), people_looks.eye(body, "right"),
                        people_hair.ear(body, "left"), people_hair.ear(body, "right")])
    head = matrices[:, body.bone_names.index("head")]
    moved = numpy.einsum("tij,nj->tni", head[:, :3, :3], face) + head[:, None, :3, 3]
    joints = [matrices[:, body.bone_names.index(name), :3, :3] @ body.heads[name]
              + matrices[:, body.bone_names.index(name), :3, 3] for name in JOINT_BONES]
    return numpy.concatenate([moved, numpy.stack(joints, axis=1)], axis=1)


def nose(body):
    """Half a centimetre inside the tip, so that it lies on the face in profile too."""
    return body.vertices[body.marks["nose_tip"]].mean(axis=0) + [0.0, 0.005, 0.0]
