"""Blender objects of a person: the armature with its pose keyframes, and skinned mesh objects.

In:  a `Body`, bone matrices [T, B, 4, 4], pieces with weights, materials.
Out: linked objects. Uses the data API except for the edit bones, which Blender offers in edit mode only.
"""

import bmesh
import bpy
import numpy

import people_rig

WEIGHT_STEPS = 250  # weights are kept in steps, so that vertices of a group can be set together


def make_armature(scene, collection, name, body):
    """An armature object with the body's bones at rest."""
    data = bpy.data.armatures.new(name)
    armature = bpy.data.objects.new(name, data)
    collection.objects.link(armature)
    view_layer = scene.view_layers[0]
    view_layer.update()
    view_layer.objects.active = armature
    with bpy.context.temp_override(scene=scene, view_layer=view_layer, active_object=armature, object=armature):
        bpy.ops.object.mode_set(mode="EDIT")
        for bone in body.bones:
            edit = data.edit_bones.new(bone["name"])
            edit.head, edit.tail = body.heads[bone["name"]], body.tails[bone["name"]]
            if bone["parent"]:
                edit.parent = data.edit_bones[bone["parent"]]
        bpy.ops.object.mode_set(mode="OBJECT")
    armature.hide_render = True
    return armature


def keyframe(armature, body, matrices):
    """Writes the pose of every frame from 0 on. Bones that stay as their parent leaves them get no keyframes."""
    rest = numpy.array([armature.data.bones[name].matrix_local for name in body.bone_names])
    posed = matrices @ rest[None]
    order = {name: index for index, name in enumerate(body.bone_names)}
    for index, bone in enumerate(body.bones):
        pose_bone = armature.pose.bones[bone["name"]]
        pose_bone.rotation_mode = "QUATERNION"
        if bone["parent"] is None:
            basis = numpy.linalg.inv(rest[index])[None] @ posed[:, index]
        else:
            parent = order[bone["parent"]]
            local = numpy.linalg.inv(rest[parent]) @ rest[index]
            basis = numpy.linalg.inv(local)[None] @ numpy.linalg.inv(posed[:, parent]) @ posed[:, index]
        turns = continuous(people_rig.quaternions(basis[:, :3, :3]))
        if numpy.abs(turns - [1, 0, 0, 0]).max() > 1e-5:
            write_curve(armature, pose_bone, "rotation_quaternion", turns)
        if bone["parent"] is None:
            write_curve(armature, pose_bone, "location", basis[:, :3, 3])


def continuous(quaternions):
    signs = numpy.where(numpy.sum(quaternions[1:] * quaternions[:-1], axis=1) < 0, -1.0, 1.0)
    return quaternions * numpy.concatenate([[1.0], numpy.cumprod(signs)])[:, None]


def write_curve(armature, pose_bone, path, values):
    """A keyframe a frame, straight between them. The first is inserted by Blender, which makes action and slot."""
    pose_bone.keyframe_insert(path, frame=0)
    data_path = f'pose.bones["{pose_bone.name}"].{path}'
    curves = armature.animation_data.action.fcurves
    for column in range(values.shape[1]):
        curve = curves.find(data_path, index=column)
        points = curve.keyframe_points
        points.add(len(values) - len(points))
        frames = numpy.stack([numpy.arange(len(values)), values[:, column]], axis=1)
        points.foreach_set("co", frames.astype(numpy.float32).ravel())
        points.foreach_set("interpolation", numpy.full(len(values), 1))
        curve.update()


def make_part(collection, armature, name, piece, materials, bone_names):
    """A smooth-shaded mesh object that the armature deforms."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(piece.points, [], piece.faces)
    mesh.polygons.foreach_set("use_smooth", numpy.ones(len(mesh.polygons), dtype=bool))
    for material in materials:
        mesh.materials.append(material)
    if piece.slots is not None:
        mesh.polygons.foreach_set("material_index", numpy.array(piece.slots, dtype=numpy.int32))
    mesh.update()
    part = bpy.data.objects.new(name, mesh)
    collection.objects.link(part)
    part.parent = armature
    set_weights(part, piece.weights, bone_names)
    modifier = part.modifiers.new("armature", "ARMATURE")
    modifier.object = armature
    return part


def set_weights(part, weights, bone_names):
    steps = numpy.round(weights * WEIGHT_STEPS).astype(int)
    for column in numpy.nonzero(steps.any(axis=0))[0]:
        group = part.vertex_groups.new(name=bone_names[column])
        values = steps[:, column]
        for step in numpy.unique(values[values > 0]):
            group.add(numpy.nonzero(values == step)[0].tolist(), step / WEIGHT_STEPS, "REPLACE")


def paint(part, name, colors):
    """A colour attribute [N, 3] (linear) on the part's vertices."""
    attribute = part.data.color_attributes.new(name, "FLOAT_COLOR", "POINT")
    values = numpy.concatenate([colors, numpy.ones((len(colors), 1))], axis=1)
    attribute.data.foreach_set("color", values.astype(numpy.float32).ravel())


def mask_bones(part, name, group_names, frames, frame_count):
    """Hides the vertices that belong to the given groups, always or in the given frames."""
    wanted = {part.vertex_groups[group].index for group in group_names if group in part.vertex_groups}
    gone = [vertex.index for vertex in part.data.vertices
            if sum(element.weight for element in vertex.groups if element.group in wanted) > 0.5]
    if not gone:
        return
    cap(part.data, set(gone))
    group = part.vertex_groups.new(name=f"gone_{name}")
    group.add(gone, 1.0, "REPLACE")
    mask = part.modifiers.new(group.name, "MASK")
    mask.vertex_group = group.name
    mask.invert_vertex_group = True
    part.modifiers.move(len(part.modifiers) - 1, 0)
    if frames is None:
        return
    hidden = set(frames)
    for frame in range(frame_count):
        if frame == 0 or (frame in hidden) != (frame - 1 in hidden):
            for path in ("show_render", "show_viewport"):
                setattr(mask, path, frame in hidden)
                mask.keyframe_insert(path, frame=frame)


def cap(mesh, gone):
    """Closes the holes that a mesh has without the vertices `gone`, so that nobody sees into the body.

    The lids hang on vertices of their own, at the same places and with the same weights as the hole's: as long as
    the limb is there, they are hidden inside and change neither its surface nor its shading.
    """
    work = bmesh.new()
    work.from_mesh(mesh)
    weights = work.verts.layers.deform.verify()
    work.verts.ensure_lookup_table()
    stays = {face: not any(vertex.index in gone for vertex in face.verts) for face in work.faces}
    rim = [edge for edge in work.edges if len({stays[face] for face in edge.link_faces}) == 2]
    corners = sorted({vertex for edge in rim for vertex in edge.verts}, key=lambda vertex: vertex.index)
    slots = {edge: next(face.material_index for face in edge.link_faces if stays[face]) for edge in rim}
    copies = {vertex: work.verts.new(vertex.co, vertex) for vertex in corners}
    for edges in rings(rim):
        inside = list(dict.fromkeys(vertex for edge in edges for vertex in edge.verts))
        middle = work.verts.new(sum((vertex.co for vertex in inside), inside[0].co * 0) / len(inside), inside[0])
        shares = {}
        for vertex in inside:
            for bone, share in vertex[weights].items():
                shares[bone] = shares.get(bone, 0.0) + share / len(inside)
        middle[weights].clear()
        for bone, share in shares.items():
            middle[weights][bone] = share
        for edge in edges:
            lid = work.faces.new([*(copies[vertex] for vertex in edge.verts), middle])
            lid.material_index = slots[edge]
    work.to_mesh(mesh)
    work.free()
    mesh.update()


def rings(edges):
    """The edges, grouped by what hangs together."""
    left, result = list(edges), []
    while left:
        ring, reached = [left.pop(0)], set()
        reached.update(ring[0].verts)
        while True:
            more = [edge for edge in left if reached.intersection(edge.verts)]
            if not more:
                break
            ring += more
            left = [edge for edge in left if edge not in more]
            reached.update(vertex for edge in more for vertex in edge.verts)
        result.append(ring)
    return result


def simplify(part, ratio):
    """Replaces the mesh by one with that share of its faces, shaded flat. Weights and colours are kept."""
    decimate = part.modifiers.new("decimate", "DECIMATE")
    decimate.ratio = ratio
    others = [modifier for modifier in part.modifiers if modifier != decimate and modifier.show_viewport]
    for modifier in others:
        modifier.show_viewport = False
    graph = bpy.context.evaluated_depsgraph_get()
    mesh = bpy.data.meshes.new_from_object(part.evaluated_get(graph), preserve_all_data_layers=True, depsgraph=graph)
    part.modifiers.remove(decimate)
    for modifier in others:
        modifier.show_viewport = True
    part.data = mesh
    mesh.polygons.foreach_set("use_smooth", numpy.zeros(len(mesh.polygons), dtype=bool))
    mesh.update()
