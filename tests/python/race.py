"""race.py [--repeat N] [--rounds R] [CLIP…]: simdrop and the scripts of baseline.py on the same clips, by turns.

The same work for all: 8 frames of 32 × 32, six (t, ε), two denoisers, shards with mp4, txt and json. Prints clips a
second of each round, and the ratios of the medians.
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

# Which frames the scripts convert to RGB.
SCRIPTS = ("wanted", "every")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", default=common.CLIPS, metavar="CLIP")
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    clips = [pathlib.Path(clip).resolve() for clip in arguments.clips]
    rates = {"simdrop": [], **{convert: [] for convert in SCRIPTS}}
    with tempfile.TemporaryDirectory(prefix="race-", dir=common.ROOT / "target") as temporary:
        temporary = pathlib.Path(temporary)
        count = len(clips) * arguments.repeat
        folder = common.link_clips(temporary / "clips", count, clips)

        def timed(name, run):
            begin = time.monotonic()
            run()
            rates[name].append(count / (time.monotonic() - begin))

        for number in range(arguments.rounds):
            output = temporary / f"out-{number}"
            # The scripts have no units to resume, so the units are large enough not to matter, and enough for the cores.
            spec = common.pipeline("race", [folder], output, clips_per_unit=8)
            config = common.write_pipeline(temporary / "race.yaml", spec)
            timed("simdrop", lambda: common.run_simdrop("run", config))
            counts = common.read_dataset(output)["counts"]
            if counts["kept"] != count:
                sys.exit(f"simdrop kept {counts} of {count} clips")
            script = [sys.executable, str(common.ROOT / "tests/python/baseline.py"), *sorted(map(str, folder.iterdir()))]
            for convert in SCRIPTS:
                command = [*script, "--convert", convert]
                timed(convert, lambda: subprocess.run(command, check=True, stdout=subprocess.PIPE))
            said = ", ".join(f"{name} {found[-1]:.2f}" for name, found in rates.items())
            print(f"round {number + 1}: {said} clips/s", flush=True)
    median = {name: statistics.median(found) for name, found in rates.items()}
    print(
        json.dumps(
            {
                "clips": count,
                "cores": len(os.sched_getaffinity(0)),
                "clips_per_s": {name: round(rate, 2) for name, rate in median.items()},
                "ratio": {convert: round(median["simdrop"] / median[convert], 2) for convert in SCRIPTS},
            }
        )
    )


if __name__ == "__main__":
    main()
