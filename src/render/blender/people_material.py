"""Materials of a person: skin with a painted face, eyes, cloth, shoes, hair.

In:  sRGB colours (0..1). Out: Blender materials; `diffuse_color` is set too, for the Workbench engine.
"""

import bpy


def to_linear(color):
    """sRGB-encoded to linear light."""
    return [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in color[:3]]


def plain(name, color, roughness, specular=0.5):
    """A principled material of one colour."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    linear = (*to_linear(color), 1.0)
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = linear
    shader.inputs["Roughness"].default_value = roughness
    shader.inputs["Specular IOR Level"].default_value = specular
    material.diffuse_color = linear
    material.roughness = roughness
    return material


def skin(name, color):
    """Skin whose colour is the painted attribute `paint` of the mesh."""
    material = plain(name, color, 0.55, 0.25)
    nodes, links = material.node_tree.nodes, material.node_tree.links
    painted = nodes.new("ShaderNodeAttribute")
    painted.attribute_name = "paint"
    links.new(painted.outputs["Color"], nodes["Principled BSDF"].inputs["Base Color"])
    return material


def cloth(name, color):
    """Rough cloth with soft wrinkles: noise in the resting body's coordinates, so that they move with the person."""
    material = plain(name, color, 0.9, 0.15)
    nodes, links = material.node_tree.nodes, material.node_tree.links
    place = nodes.new("ShaderNodeTexCoord")
    wrinkles = nodes.new("ShaderNodeTexNoise")
    wrinkles.inputs["Scale"].default_value = 9.0
    wrinkles.inputs["Detail"].default_value = 2.0
    bump = nodes.new("ShaderNodeBump")
    bump.inputs["Strength"].default_value = 0.35
    bump.inputs["Distance"].default_value = 0.02
    links.new(place.outputs["Generated"], wrinkles.inputs["Vector"])
    links.new(wrinkles.outputs["Fac"], bump.inputs["Height"])
    links.new(bump.outputs["Normal"], nodes["Principled BSDF"].inputs["Normal"])
    return material


def hair(name, color):
    """Hair as strands of light and dark along the head's height."""
    material = plain(name, color, 0.6, 0.3)
    nodes, links = material.node_tree.nodes, material.node_tree.links
    place = nodes.new("ShaderNodeTexCoord")
    stretch = nodes.new("ShaderNodeMapping")
    stretch.inputs["Scale"].default_value = (30.0, 30.0, 3.0)
    strands = nodes.new("ShaderNodeTexNoise")
    strands.inputs["Scale"].default_value = 2.0
    bump = nodes.new("ShaderNodeBump")
    bump.inputs["Strength"].default_value = 0.6
    bump.inputs["Distance"].default_value = 0.01
    links.new(place.outputs["Generated"], stretch.inputs["Vector"])
    links.new(stretch.outputs["Vector"], strands.inputs["Vector"])
    links.new(strands.outputs["Fac"], bump.inputs["Height"])
    links.new(bump.outputs["Normal"], nodes["Principled BSDF"].inputs["Normal"])
    return material
