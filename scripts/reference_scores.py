"""Scores clips with plain numpy, ONNX Runtime and the `ffmpeg` command, to check the `score` stage against.

    python scripts/reference_scores.py --base clean.onnx --reference artefact.onnx CLIP… > scores.csv

Prints CSV: uri, score, base_loss, reference_loss. `schemas/denoiser.md` has the definitions. Needs the Python packages
`numpy` and `onnxruntime`. Every clip is decoded whole; frames are scaled by ffmpeg's area filter.
"""

import argparse
import csv
import subprocess
import sys

import numpy as np
import onnxruntime

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def epsilon(seed, k, shape):
    """Standard normal numbers that depend on the seed, the number of the pair and an element's place alone."""
    size = int(np.prod(shape))
    with np.errstate(over="ignore"):
        stream = mix(mix(np.uint64(seed) + GOLDEN) + np.uint64(k + 1) * GOLDEN)
        z = mix(stream + np.arange(1, size + size % 2 + 1, dtype=np.uint64) * GOLDEN) >> np.uint64(11)
    a, b = (z[0::2] + np.uint64(1)) * 2.0**-53, z[1::2] * 2.0**-53
    radius, angle = np.sqrt(-2 * np.log(a)), 2 * np.pi * b
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return pairs.reshape(-1)[:size].reshape(shape).astype(np.float32)


def read_frames(path, count, height, width):
    """Bytes [count, height, width, 3] of frames spread evenly over the clip, first and last included."""
    command = ["ffmpeg", "-v", "error", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough"]
    command += ["-vf", f"scale={width}:{height}:flags=area", "-pix_fmt", "rgb24", "-f", "rawvideo", "pipe:1"]
    raw = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)
    if len(frames) < count:
        raise ValueError(f"{path} has {len(frames)} frames, {count} are needed")
    return frames[np.linspace(0, len(frames) - 1, count, dtype=int)]


def normalized(frames, per_clip=True):
    x = frames / 127.5 - 1
    if per_clip:
        x = (x - x.mean()) / max(x.std(), 0.06) * 0.5
    return x.astype(np.float32)


def loss(session, x, levels, seed):
    noise = np.stack([epsilon(seed, k, x.shape) for k in range(len(levels))])
    t = levels.reshape(-1, 1, 1, 1, 1)
    x_t = (1 - t) * x + t * noise
    inputs = {"x_t": x_t, "t": levels}
    for tensor in session.get_inputs():
        if tensor.name == "condition":  # zeros stand for none
            inputs["condition"] = np.zeros((len(levels), tensor.shape[1]), np.float32)
    (output,) = session.run(["v"], inputs)
    return float(((noise - x - output).astype(np.float64) ** 2).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", metavar="CLIP")
    parser.add_argument("--base", required=True, metavar="ONNX")
    parser.add_argument("--reference", required=True, metavar="ONNX")
    parser.add_argument("--t", type=float, nargs="+", default=[0.05, 0.12, 0.25], help="noise levels")
    parser.add_argument("--draws", type=int, default=2, help="draws of epsilon at each level")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, nargs=2, default=[32, 32], metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--normalize", choices=["per_clip", "none"], default="per_clip")
    arguments = parser.parse_args()

    levels = np.repeat(np.asarray(arguments.t, np.float32), arguments.draws)
    paths = arguments.base, arguments.reference
    sessions = [onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in paths]
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["uri", "score", "base_loss", "reference_loss"])
    width, height = arguments.size
    for clip in arguments.clips:
        try:
            frames = read_frames(clip, arguments.frames, height, width)
        except (subprocess.CalledProcessError, ValueError) as error:
            print(f"{clip}: {error}", file=sys.stderr)
            continue
        x = normalized(frames, arguments.normalize == "per_clip")
        base, reference = (loss(session, x, levels, arguments.seed) for session in sessions)
        table.writerow([clip, base - reference, base, reference])


if __name__ == "__main__":
    main()
