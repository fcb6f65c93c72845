"""Compares the rate of `simdrop train` with that of the bare graph in ONNX Runtime, on this machine.

    python tests/python/train_rate.py [--steps 200] [--rounds 3]

Trains the size `tiny` on frames of the shipped clips, and runs the same graph on ready-made batches with as many threads, one
after the other in rounds. Needs the Python packages `numpy` and `onnxruntime`, and `make build`.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

import numpy as np
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIMDROP = ROOT / "target/release/simdrop"

FRAMES = """
name: frames
sources: [{kind: synthetic, list: data/clips/synthetic/clean.parquet}]
stages: [{decode: {frames: 8, width: 32, height: 32}}]
output: {path: %s, payload: [frames]}
"""
TRAIN = """
name: rate
model: tiny
data: [{dataset: %s}]
steps: %d
optimizer: {warmup: 10}
validation: {share: 0, every: 100000}
checkpoints: {every: 100000}
output: {path: %s}
"""


def simdrop(*arguments):
    subprocess.run([SIMDROP, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def trained(folder, steps):
    """Steps a second and the share of the time in which the device waited for data."""
    output = folder / "trained"
    (folder / "train.yaml").write_text(TRAIN % (folder / "frames", steps, output))
    simdrop("train", folder / "train.yaml", "--overwrite", "--progress", "none")
    outcome = json.loads((output / "train.json").read_text())["outcome"]
    return outcome["steps_per_s"], outcome["wait_share"]


def bare(steps):
    """Steps a second of the graph alone."""
    folder = ROOT / "models/graphs/tiny"
    graph = json.loads((folder / "signature.json").read_text())["graphs"]["train_step"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(folder / "train_step.onnx", options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    fed = {tensor["name"]: random.random(tensor["shape"], np.float32) * 0.1 for tensor in graph["inputs"]}
    session.run(None, fed)
    begin = time.perf_counter()
    for _ in range(steps):
        session.run(None, fed)
    return steps / (time.perf_counter() - begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "frames.yaml").write_text(FRAMES % (folder / "frames"))
        simdrop("run", folder / "frames.yaml", "--progress", "none")
        ratios = []
        for _ in range(arguments.rounds):
            (rate, waited), alone = trained(folder, arguments.steps), bare(arguments.steps)
            ratios.append(rate / alone)
            print(f"simdrop {rate:.2f} steps/s, waited {100 * waited:.1f} %; bare graph {alone:.2f}; ratio {rate / alone:.3f}")
        print(f"median ratio {np.median(ratios):.3f}")


if __name__ == "__main__":
    main()
