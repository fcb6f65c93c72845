"""Picture files without a library: multilayer EXR files enter as numpy arrays, 8-bit PNG files leave.

The reader knows exactly what Blender writes for us: one part, scan lines, 32-bit floats, not compressed. Reading the
passes from such a file is the only way to all of them in one render that works without a display and in every Blender
version.
"""

import json
import struct
import zlib

import numpy as np


def read_exr(path):
    """The channels {name: float32 [H, W]} (without the view layer's name) and the header's attributes."""
    with open(path, "rb") as file:
        content = file.read()
    if content[:4] != b"v/1\x01":
        raise ValueError(f"{path} is not an EXR file")
    attributes, position = _header(content)
    names = _channel_names(attributes["channels"])
    if attributes["compression"] != b"\x00":
        raise ValueError(f"{path} is compressed; the renderer writes plain EXR files")
    left, bottom, right, top = struct.unpack("<4i", attributes["dataWindow"])
    width, height = right - left + 1, top - bottom + 1
    position += 8 * height
    line_bytes = 8 + 4 * width * len(names)
    lines = np.frombuffer(content, np.uint8, line_bytes * height, position).reshape(height, line_bytes)
    values = np.ascontiguousarray(lines[:, 8:]).view("<f4").reshape(height, len(names), width)
    return {_short(name): values[:, index] for index, name in enumerate(names)}, attributes


def cryptomatte_ids(attributes):
    """The manifest of the object cryptomatte: {object name: id as the float that stands in the picture}."""
    for key, value in attributes.items():
        if key.startswith("cryptomatte/") and key.endswith("/manifest"):
            manifest = json.loads(value.decode())
            return {name: struct.unpack("<f", struct.pack("<I", int(text, 16)))[0] for name, text in manifest.items()}
    return {}


def to_srgb(linear):
    """Linear light to sRGB-encoded values, as the view transform "Standard" does."""
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.power(linear, 1 / 2.4) - 0.055)


def to_linear(encoded):
    """sRGB-encoded values to linear light."""
    encoded = np.clip(np.asarray(encoded, dtype=np.float64), 0.0, 1.0)
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def to_bytes(values):
    """Values in 0..1 to 0..255."""
    return np.clip(values * 255.0 + 0.5, 0, 255).astype(np.uint8)


def write_png(path, pixels):
    """Write uint8 [H, W, 3 or 4]."""
    height, width, channels = pixels.shape
    rows = pixels.reshape(height, width * channels)
    filtered = np.empty((height, 1 + width * channels), np.uint8)
    filtered[:, 0] = 2  # each line as its difference from the one above: smaller than plain, and one numpy subtraction
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]
    header = struct.pack(">IIBBBBB", width, height, 8, 6 if channels == 4 else 2, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 3)), (b"IEND", b"")):
            file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


def _header(content):
    attributes = {}
    position = 8
    while content[position] != 0:
        end = content.index(b"\x00", position)
        name = content[position:end].decode()
        position = content.index(b"\x00", end + 1) + 1
        (length,) = struct.unpack_from("<I", content, position)
        attributes[name] = content[position + 4 : position + 4 + length]
        position += 4 + length
    return attributes, position + 1


def _channel_names(content):
    names = []
    position = 0
    while content[position] != 0:
        end = content.index(b"\x00", position)
        names.append(content[position:end].decode())
        (kind,) = struct.unpack_from("<i", content, end + 1)
        if kind != 2:
            raise ValueError(f"the channel {names[-1]} does not hold 32-bit floats")
        position = end + 17
    return names


def _short(name):
    return name.split(".", 1)[1] if "." in name else name
