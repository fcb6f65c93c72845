"""The script that a user would write today; what simdrop is compared with.

Decodes every frame of every clip with PyAV, takes 8 frames spread over the clip at 32 × 32, scores them with two
denoisers at six (t, ε), and writes WebDataset shards: one process a core, one ONNX Runtime thread a process.

    baseline.py [--repeat N] [--processes N] [--convert wanted|every] [--output FOLDER] CLIP…

--convert says which frames become RGB: only the 8 that are wanted, straight at 32 × 32 (the script of somebody who knows
FFmpeg), or every one, as the arrays that numpy then picks from (the usual script). Prints clips a second.
"""

import argparse
import io
import json
import multiprocessing
import os
import pathlib
import tarfile
import tempfile
import time

import numpy as np

FRAMES, SIDE = 8, 32
LEVELS = np.repeat(np.float32([0.05, 0.12, 0.25]), 2)
CONDITION = 384  # numbers of a condition; zeros stand for none


def small(frame):
    """A frame at 32 × 32, scaled by area."""
    from av.video.reformatter import Interpolation

    return frame.reformat(SIDE, SIDE, format="rgb24", interpolation=Interpolation.AREA).to_ndarray()


def spread(total):
    """The numbers of 8 frames spread over `total`."""
    return np.linspace(0, total - 1, FRAMES, dtype=int)


def decode(data, threads, convert):
    """8 frames spread over the clip, 32 × 32 RGB; every frame is decoded."""
    import av

    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = threads
        decoded = container.decode(stream)
        if convert == "every":
            frames = [frame.to_ndarray(format="rgb24") for frame in decoded]
            wanted = [av.VideoFrame.from_ndarray(frames[number], "rgb24") for number in spread(len(frames))]
            return np.stack([small(frame) for frame in wanted])
        if stream.frames:
            wanted = spread(stream.frames)
            found = {number: small(frame) for number, frame in enumerate(decoded) if number in wanted}
            return np.stack([found[number] for number in wanted])
        frames = [small(frame) for frame in decoded]
        return np.stack([frames[number] for number in spread(len(frames))])


def losses(frames, sessions, epsilon):
    """Mean squared error of v for each model over the six (t, ε)."""
    x = frames.astype(np.float32) / 127.5 - 1
    x = (x - x.mean()) / max(x.std(), 0.06) * 0.5
    t = LEVELS[:, None, None, None, None]
    x_t, v = (1 - t) * x + t * epsilon, epsilon - x
    inputs = {"x_t": x_t, "t": LEVELS, "condition": np.zeros((len(LEVELS), CONDITION), np.float32)}
    return {name: float(np.mean((v - session.run(None, inputs)[0]) ** 2)) for name, session in sessions.items()}


def add(shard, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    shard.addfile(member, io.BytesIO(data))


def work(worker, clips, models, output, following, threads, convert, started):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = {
        name: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for name, path in models.items()
    }
    epsilon = np.random.default_rng(0).standard_normal((len(LEVELS), FRAMES, SIDE, SIDE, 3), dtype=np.float32)
    started.wait(timeout=300)
    with tarfile.open(pathlib.Path(output) / f"shard-{worker:06d}.tar", "w") as shard:
        while True:
            with following.get_lock():
                number = following.value
                following.value += 1
            if number >= len(clips):
                return
            path = pathlib.Path(clips[number])
            data = path.read_bytes()
            found = losses(decode(data, threads, convert), sessions, epsilon)
            sidecar = path.with_suffix(".txt")
            caption = sidecar.read_bytes().strip() if sidecar.exists() else b""
            metadata = {"uri": str(path), "simdrop_score": found["clean"] - found["artefact"], **found}
            key = f"{number:08d}"
            add(shard, f"{key}.mp4", data)
            add(shard, f"{key}.txt", caption)
            add(shard, f"{key}.json", json.dumps(metadata).encode())


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", metavar="CLIP")
    parser.add_argument("--repeat", type=int, default=1, help="go through the clips so many times")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="default: one a core")
    parser.add_argument("--decoder-threads", type=int, default=1, help="threads of each decoder; 0: one a core")
    parser.add_argument("--convert", choices=("wanted", "every"), default="wanted", help="the frames that become RGB")
    parser.add_argument("--models", default=str(root / "data/models/denoiser"), help="folder of the denoisers")
    parser.add_argument("--output", help="folder of the shards; default: a temporary one")
    arguments = parser.parse_args()

    models = {name: f"{arguments.models}/denoiser-{name}.onnx" for name in ("clean", "artefact")}
    clips = arguments.clips * arguments.repeat
    with tempfile.TemporaryDirectory() as temporary:
        output = arguments.output or temporary
        pathlib.Path(output).mkdir(parents=True, exist_ok=True)
        following = multiprocessing.Value("l", 0)
        started = multiprocessing.Barrier(arguments.processes + 1)
        begin = time.perf_counter()
        workers = [
            multiprocessing.Process(
                target=work,
                args=(worker, clips, models, output, following, arguments.decoder_threads, arguments.convert, started),
            )
            for worker in range(arguments.processes)
        ]
        for worker in workers:
            worker.start()
        started.wait(timeout=300)
        ready = time.perf_counter()
        for worker in workers:
            worker.join()
        end = time.perf_counter()
        if any(worker.exitcode for worker in workers):
            raise SystemExit("a worker failed")
    times = os.times()
    print(
        json.dumps(
            {
                "clips": len(clips),
                "processes": arguments.processes,
                "seconds": round(end - begin, 2),
                "clips_per_s": round(len(clips) / (end - begin), 3),
                "clips_per_s_without_start": round(len(clips) / (end - ready), 3),
                "cpu_s_per_clip": round((times.children_user + times.children_system) / len(clips), 4),
            }
        )
    )


if __name__ == "__main__":
    main()
