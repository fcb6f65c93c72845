"""race.py [--repeat N] [--rounds R] [CLIP…]: simdrop and the script of baseline.py on the same clips, by turns.

The same work for both: 8 frames of 32 × 32, six (t, ε), two denoisers, shards with mp4, txt and json. Prints clips a
second of each round, and the ratio of the medians.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import common


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", default=common.CLIPS, metavar="CLIP")
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    clips = [pathlib.Path(clip).resolve() for clip in arguments.clips]
    rates = {"simdrop": [], "script": []}
    with tempfile.TemporaryDirectory(prefix="race-", dir=common.ROOT / "target") as temporary:
        temporary = pathlib.Path(temporary)
        count = len(clips) * arguments.repeat
        folder = common.link_clips(temporary / "clips", count, clips)
        for number in range(arguments.rounds):
            output = temporary / f"out-{number}"
            # The script has no units to resume, so the units are large enough not to matter, and enough for the cores.
            spec = common.pipeline("race", [folder], output, clips_per_unit=8)
            config = common.write_pipeline(temporary / "race.yaml", spec)
            begin = time.monotonic()
            common.run_simdrop("run", config)
            rates["simdrop"].append(count / (time.monotonic() - begin))
            counts = common.read_dataset(output)["counts"]
            if counts["kept"] != count:
                sys.exit(f"simdrop kept {counts} of {count} clips")
            script = [sys.executable, str(common.ROOT / "tests/python/baseline.py"), *sorted(map(str, folder.iterdir()))]
            begin = time.monotonic()
            subprocess.run(script, check=True, stdout=subprocess.PIPE)
            rates["script"].append(count / (time.monotonic() - begin))
            print(f"round {number + 1}: simdrop {rates['simdrop'][-1]:.2f}, script {rates['script'][-1]:.2f} clips/s", flush=True)
    median = {name: statistics.median(found) for name, found in rates.items()}
    print(
        json.dumps(
            {
                "clips": count,
                "cores": len(os.sched_getaffinity(0)),
                "simdrop_clips_per_s": round(median["simdrop"], 2),
                "script_clips_per_s": round(median["script"], 2),
                "ratio": round(median["simdrop"] / median["script"], 2),
            }
        )
    )


if __name__ == "__main__":
    main()
