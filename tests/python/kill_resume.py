"""kill_resume.py [--clips N] [--kills K]: kills runs at random moments and compares what the last one leaves.

One run goes undisturbed. Another is ended with kill -9 at random moments, K times, and started again each time with
the same command. Both have to leave the same dataset: the same list of shards with the same bytes, the same rows.
"""

import argparse
import hashlib
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import common


def run(folder, seconds=None):
    """Runs the pipeline in `folder`; ends it after `seconds` if it is not done. Returns the exit code and the time."""
    begin = time.monotonic()
    with open(folder / "log", "wb") as log:
        process = common.simdrop("run", "pipeline.yaml", cwd=folder, stdout=log, stderr=log)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    return process.returncode, time.monotonic() - begin


def finished(folder):
    code, seconds = run(folder)
    if code:
        sys.exit(f"the run ended with {code}\n{(folder / 'log').read_text(errors='replace')[-4000:]}")
    return seconds


def content(folder):
    """What a reader of the dataset gets."""
    root = folder / "out"
    dataset = common.read_dataset(root)
    shards = {
        entry["path"]: hashlib.sha256((root / entry["path"]).read_bytes()).hexdigest() for entry in dataset["shards"]
    }
    return {
        "fingerprint": dataset["fingerprint"],
        "counts": dataset["counts"],
        "shards": list(shards.items()),
        "clips": common.read_clips(root),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    draw = random.Random(seed)

    with tempfile.TemporaryDirectory(prefix="simdrop-resume-") as temporary:
        temporary = pathlib.Path(temporary)
        clips = common.link_clips(temporary / "clips", arguments.clips, [common.CLIPS[4], common.CLIPS[5]])
        (clips / "broken.mp4").write_bytes(b"no video")
        # Both runs see the same relative output, so that nothing differs but the kills.
        spec = common.pipeline("resume", [clips], "out", clips_per_unit=4)
        calm, killed = temporary / "calm", temporary / "killed"
        for folder in (calm, killed):
            folder.mkdir()
            common.write_pipeline(folder / "pipeline.yaml", spec)
        seconds = finished(calm)
        expected = content(calm)

        moments, early = [], 0
        for _ in range(arguments.kills):
            moment = draw.uniform(0.05, 0.4) * seconds
            code, _ = run(killed, moment)
            if code != -signal.SIGKILL:
                if code:
                    sys.exit(f"seed {seed}: a resumed run ended with {code}\n{(killed / 'log').read_text(errors='replace')[-4000:]}")
                early += 1
            moments.append(round(moment, 2))
            if (killed / "out/dataset.json").exists() and content(killed) != expected:
                sys.exit(f"seed {seed}: a killed run left a dataset that is not whole, after {moments}")
        done = len(list((killed / "out").glob("_work/**/*"))) if (killed / "out").exists() else 0
        finished(killed)
        found = content(killed)
        if json.dumps(found, sort_keys=True, default=str) != json.dumps(expected, sort_keys=True, default=str):
            for part in expected:
                if found[part] != expected[part]:
                    print(f"{part} differ:\n  {str(expected[part])[:600]}\n  {str(found[part])[:600]}", file=sys.stderr)
            sys.exit(f"seed {seed}: the dataset after kills at {moments} s is another one")
        units = common.read_dataset(killed / "out")["runs"][-1]
        listed = {path for path, _ in found["shards"]}
        left = [str(path.relative_to(killed / "out")) for path in (killed / "out/shards").rglob("*") if path.is_file()]
        orphans = sorted(set(left) - listed)
    print(
        f"kill and resume: {arguments.clips + 1} clips, {arguments.kills} kills at {moments} s of {seconds:.1f} s "
        f"({early} runs were done before), {len(found['shards'])} shards: same bytes and rows; "
        f"the last run did {units['units']} units, {units['units_resumed']} were done before; "
        f"{done} work files before it, {len(orphans)} unlisted files in shards/ after it"
    )


if __name__ == "__main__":
    main()
