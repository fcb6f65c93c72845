"""Materials: a configuration's MATERIAL enters, a Blender material of procedural nodes leaves.

Patterns hang on the object's own coordinates, so that they move with it, or, on a mesh that changes its form, on an
attribute that each vertex keeps. A Tint changes the colour of any material,
ours or imported, for the defect material_flicker.
"""

import math

import bpy

from configuration import random_for
from pictures import to_linear


def linear(color, darkest=0.01, lightest=0.86):
    """An sRGB colour as a linear RGBA albedo that a real surface could have."""
    return tuple(min(max(float(part), darkest), lightest) for part in to_linear(color)) + (1.0,)


def make_material(configuration, value, name, size, attribute=None):
    """A material for something of the longest side `size`; `attribute` names the vertices' places in the pattern."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    material.diffuse_color = linear(value["color"])
    material.roughness = value["roughness"]
    material.metallic = 1.0 if value["kind"] == "metal" else 0.0
    tree = material.node_tree
    tree.nodes.clear()
    painter = _Painter(tree, value, random_for(configuration, f"material {name}"), size, attribute)
    getattr(painter, value["kind"])()
    return material


def plain(name, color, roughness=0.9):
    """A dull material of one colour, for floors and walls."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    material.diffuse_color = linear(color)
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = linear(color)
    shader.inputs["Roughness"].default_value = roughness
    shader.inputs["Specular IOR Level"].default_value = 0.2
    return material


class Tint:
    """Scales and turns the colour of a material, ours or imported; `found` is False where no surface has a colour."""

    def __init__(self, material):
        self.found = False
        self.tree = material.node_tree if material.use_nodes else None
        for node in list(self.tree.nodes) if self.tree else []:
            socket = node.inputs.get("Base Color") or node.inputs.get("Color")
            if node.type.startswith("BSDF") and socket is not None:
                self.found, self.socket = True, socket
                self.source = socket.links[0].from_socket if socket.is_linked else None
                self.node = self.tree.nodes.new("ShaderNodeHueSaturation")
                if self.source is not None:
                    self.tree.links.new(self.source, self.node.inputs["Color"])
                else:
                    self.node.inputs["Color"].default_value = socket.default_value
                return

    def set(self, hue, brightness):
        """A hue of 0.5 and a brightness of 1 leave the colour as it is."""
        if (hue, brightness) == (0.5, 1.0):
            # Out of the way, as the node's rounding alone would tell the frame from that of the clean twin.
            if self.source is not None:
                self.tree.links.new(self.source, self.socket)
            else:
                for link in list(self.socket.links):
                    self.tree.links.remove(link)
            return
        self.node.inputs["Hue"].default_value = hue
        self.node.inputs["Value"].default_value = brightness
        self.tree.links.new(self.node.outputs["Color"], self.socket)


class _Painter:
    """Builds the nodes of one material."""

    def __init__(self, tree, value, random, size, attribute):
        self.tree, self.value, self.random, self.size = tree, value, random, max(size, 1e-6)
        self.attribute = attribute
        self.output = tree.nodes.new("ShaderNodeOutputMaterial")
        self.shader = tree.nodes.new("ShaderNodeBsdfPrincipled")
        tree.links.new(self.shader.outputs[0], self.output.inputs["Surface"])
        self.first, self.second = linear(value["color"]), linear(value["color2"])
        self.set("Base Color", self.first)
        self.set("Roughness", max(value["roughness"], 0.03))

    def node(self, kind, **fields):
        node = self.tree.nodes.new(kind)
        for key, field in fields.items():
            setattr(node, key, field)
        return node

    def set(self, name, value):
        self.shader.inputs[name].default_value = value

    def link(self, source, target):
        self.tree.links.new(source, target)

    def place(self, repeats, stretch=(1.0, 1.0, 1.0)):
        """Coordinates in which the object's longest side is `repeats` long, times the material's scale."""
        if self.attribute is None:
            position = self.node("ShaderNodeTexCoord").outputs["Object"]
        else:
            position = self.node("ShaderNodeAttribute", attribute_name=self.attribute).outputs["Vector"]
        mapping = self.node("ShaderNodeMapping")
        factor = repeats * self.value["scale"] / self.size
        mapping.inputs["Scale"].default_value = tuple(factor * part for part in stretch)
        # Not on a whole number: a checker whose edge lies on the surface of a cube flickers between its colours.
        mapping.inputs["Location"].default_value = tuple(self.random.uniform(0.1, 9.9) for _ in range(3))
        self.link(position, mapping.inputs["Vector"])
        return mapping.outputs["Vector"]

    def noise(self, vector, scale, detail=4.0, distortion=0.0):
        node = self.node("ShaderNodeTexNoise")
        node.inputs["Scale"].default_value = scale
        node.inputs["Detail"].default_value = detail
        node.inputs["Distortion"].default_value = distortion
        self.link(vector, node.inputs["Vector"])
        return node.outputs[0]

    def ramp(self, factor, stops):
        node = self.node("ShaderNodeValToRGB")
        elements = node.color_ramp.elements
        while len(elements) < len(stops):
            elements.new(0.5)
        for element, (position, color) in zip(elements, stops):
            element.position, element.color = position, color
        self.link(factor, node.inputs["Fac"])
        return node.outputs["Color"]

    def bump(self, height, strength, distance):
        node = self.node("ShaderNodeBump")
        node.inputs["Strength"].default_value = strength
        node.inputs["Distance"].default_value = distance * self.size
        self.link(height, node.inputs["Height"])
        self.link(node.outputs["Normal"], self.shader.inputs["Normal"])

    def color_from(self, socket):
        self.link(socket, self.shader.inputs["Base Color"])

    def blend(self, share):
        return tuple(a * (1 - share) + b * share for a, b in zip(self.first, self.second))

    def plastic(self):
        self.set("Coat Weight", 0.15)

    def clay(self):
        self.set("Roughness", max(self.value["roughness"], 0.75))
        self.set("Specular IOR Level", 0.15)
        self.bump(self.noise(self.place(6.0), 2.0, 6.0), 0.35, 0.02)

    def metal(self):
        self.set("Metallic", 1.0)
        # A metal's colour is its reflection: a dark one shows nothing but black.
        self.set("Base Color", tuple(0.25 + 0.75 * part for part in self.first[:3]) + (1.0,))
        self.set("Roughness", max(self.value["roughness"] * 0.7, 0.06))

    def car_paint(self):
        self.set("Metallic", 0.45)
        self.set("Roughness", 0.35)
        self.set("Coat Weight", 1.0)
        self.set("Coat Roughness", 0.03)

    def glass(self):
        self.set("Transmission Weight", 1.0)
        self.set("Roughness", self.value["roughness"] * 0.25)
        self.set("IOR", 1.45)
        self.set("Base Color", tuple(0.6 + 0.4 * part for part in self.first[:3]) + (1.0,))
        # Without caustics glass would cast a black shadow: rays to the light pass it, tinted.
        path = self.node("ShaderNodeLightPath")
        through = self.node("ShaderNodeBsdfTransparent")
        through.inputs["Color"].default_value = tuple(0.45 + 0.4 * part for part in self.first[:3]) + (1.0,)
        mix = self.node("ShaderNodeMixShader")
        self.link(path.outputs["Is Shadow Ray"], mix.inputs[0])
        self.link(self.shader.outputs[0], mix.inputs[1])
        self.link(through.outputs[0], mix.inputs[2])
        self.link(mix.outputs[0], self.output.inputs["Surface"])

    def wood(self):
        vector = self.place(1.0, stretch=(3.0, 3.0, 0.35))
        grain = self.node("ShaderNodeTexWave", wave_type="RINGS", rings_direction="Z", wave_profile="SAW")
        grain.inputs["Scale"].default_value = 1.6
        grain.inputs["Distortion"].default_value = 3.5
        grain.inputs["Detail"].default_value = 3.0
        self.link(vector, grain.inputs["Vector"])
        self.color_from(
            self.ramp(grain.outputs[0], [(0.0, self.blend(0.75)), (0.55, self.first), (1.0, self.blend(0.25))])
        )
        self.set("Roughness", max(self.value["roughness"], 0.3))
        self.bump(grain.outputs[0], 0.15, 0.01)

    def fabric(self):
        weave = []
        for direction in ("X", "Y"):
            wave = self.node(
                "ShaderNodeTexWave", wave_type="BANDS", bands_direction="DIAGONAL" if direction == "X" else "Z"
            )
            wave.inputs["Scale"].default_value = 9.0
            self.link(self.place(1.0, (1, 1, 1) if direction == "X" else (-1, 1, 1)), wave.inputs["Vector"])
            weave.append(wave.outputs[0])
        product = self.node("ShaderNodeMath", operation="MULTIPLY")
        self.link(weave[0], product.inputs[0])
        self.link(weave[1], product.inputs[1])
        self.color_from(self.ramp(product.outputs[0], [(0.0, self.blend(0.8)), (0.7, self.first)]))
        self.set("Roughness", 0.95)
        self.set("Sheen Weight", 0.3)
        self.bump(product.outputs[0], 0.4, 0.01)

    def marble(self):
        cloud = self.noise(self.place(1.5), 1.3, 8.0, 2.2)
        veins = [(0.4, self.first), (0.49, self.blend(0.9)), (0.53, self.blend(0.6)), (0.62, self.first)]
        self.color_from(self.ramp(cloud, veins))
        self.set("Roughness", max(self.value["roughness"] * 0.5, 0.08))
        self.set("Coat Weight", 0.3)

    def checker(self):
        node = self.node("ShaderNodeTexChecker")
        node.inputs["Scale"].default_value = 5.0
        node.inputs["Color1"].default_value, node.inputs["Color2"].default_value = self.first, self.second
        self.link(self.place(1.0), node.inputs["Vector"])
        self.color_from(node.outputs["Color"])

    def stripes(self):
        wave = self.node(
            "ShaderNodeTexWave", wave_type="BANDS", bands_direction=self.random.choice(("X", "Z", "DIAGONAL"))
        )
        wave.inputs["Scale"].default_value = 1.4
        self.link(self.place(1.0), wave.inputs["Vector"])
        self.color_from(self.ramp(wave.outputs[0], [(0.47, self.first), (0.53, self.second)]))


def kelvin(temperature):
    """The linear colour of a black body, scaled to a luminance of 1 (Tanner Helland's fit, in sRGB)."""
    t = temperature / 100
    red = 255 if t <= 66 else 329.7 * (t - 60) ** -0.1332
    green = 99.47 * math.log(t) - 161.12 if t <= 66 else 288.12 * (t - 60) ** -0.0755
    blue = 255 if t >= 66 else (0 if t <= 19 else 138.52 * math.log(t - 10) - 305.04)
    color = [float(part) for part in to_linear([min(max(part, 0), 255) / 255 for part in (red, green, blue)])]
    # Cameras are balanced for daylight: half of the way back to white keeps a warm lamp from turning the picture
    # orange.
    color = [0.5 + 0.5 * part for part in color]
    luminance = 0.2126 * color[0] + 0.7152 * color[1] + 0.0722 * color[2]
    return [part / luminance for part in color]
