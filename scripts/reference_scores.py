"""Scores clips with plain numpy, ONNX Runtime and the `ffmpeg` command, to check the `score` stage against.

    python scripts/reference_scores.py --base clean.onnx --reference artefact.onnx CLIP… > scores.csv

Prints CSV: uri, score, base_loss, reference_loss; with --fps and --stride those of the window where the score is largest, as
the stage has them with `windows`. `schemas/denoiser.md` has the definitions. Needs the Python packages `numpy` and
`onnxruntime`, and ffmpeg. Every clip is decoded whole; frames are scaled by ffmpeg's area filter.
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


def on_show(path, fps):
    """Numbers of the frames that are on show at the clip's start, 1/fps seconds later, and so on."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "frame=pts_time", "-of", "csv=p=0", path]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    times = np.array([float(line.strip(",")) for line in lines])
    times = times - times[0]
    length = times[-1] + (times[-1] - times[-2] if len(times) > 1 else 0)
    wanted = np.arange(int(np.ceil(length * fps - 1e-3))) / fps  # ffprobe rounds to microseconds
    return np.searchsorted(times, wanted + 1e-6, side="right") - 1


def read_frames(path, count, height, width, fps=None):
    """Bytes [frames, height, width, 3]: at a rate, or `count` spread evenly over the clip, first and last included."""
    command = ["ffmpeg", "-v", "error", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough"]
    command += ["-vf", f"scale={width}:{height}:flags=area", "-pix_fmt", "rgb24", "-f", "rawvideo", "pipe:1"]
    raw = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)
    if len(frames) < count:
        raise ValueError(f"{path} has {len(frames)} frames, {count} are needed")
    return frames[on_show(path, fps) if fps else np.linspace(0, len(frames) - 1, count, dtype=int)]


def windows(frames, count, stride):
    """Parts of `count` frames; the first begins with the clip, the last ends with it."""
    last = len(frames) - count
    starts = [*range(0, last, stride), last] if stride else [0]
    return [frames[start : start + count] for start in starts]


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
    parser.add_argument("--frames", type=int, default=8, help="frames that the denoisers take")
    parser.add_argument("--fps", type=float, help="frames a second; default: --frames spread over the clip")
    parser.add_argument("--stride", type=int, help="frames between the beginnings of windows")
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
            frames = read_frames(clip, arguments.frames, height, width, arguments.fps)
            if len(frames) < arguments.frames:
                raise ValueError(f"{len(frames)} frames at that rate, {arguments.frames} are needed")
        except (subprocess.CalledProcessError, ValueError) as error:
            print(f"{clip}: {error}", file=sys.stderr)
            continue
        scores = []
        for window in windows(frames, arguments.frames, arguments.stride):
            x = normalized(window, arguments.normalize == "per_clip")
            base, reference = (loss(session, x, levels, arguments.seed) for session in sessions)
            scores.append((base - reference, base, reference))
        table.writerow([clip, *max(scores)])


if __name__ == "__main__":
    main()
