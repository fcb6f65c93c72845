"""isolation_rate.py [--repeats 3]: what `run.isolation: process` costs, in processor seconds and in clips a second.

Decodes the real clips and the synthetic ones, which are far smaller, over and over, with both settings in turn; of each the
best run counts.
"""

import argparse
import os
import pathlib
import shutil
import sys
import tempfile
import time

import common

SETS = {"real": 28, "synthetic": 664}


def measure(folder, clips, isolation):
    """Processor seconds, those of the workers included, and seconds of a run over `clips`."""
    output = folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    also = [{"column": "large", "width": 256, "height": 256}]
    spec = common.pipeline("isolation", [clips], output, isolation=isolation)
    spec["stages"] = [{"decode": {"frames": 8, "width": 32, "height": 32, "also": also}}]
    config = common.write_pipeline(folder / "pipeline.yaml", spec)
    begin = time.monotonic()
    with open(folder / "log", "wb") as log:
        process = common.simdrop("run", config, "--progress", "none", stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"the run ended with {process.returncode}\n{(folder / 'log').read_text(errors='replace')[-4000:]}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="simdrop-isolation-") as temporary:
        temporary = pathlib.Path(temporary).resolve()
        for name, count in SETS.items():
            sources = sorted((common.ROOT / "data/clips" / name).glob("*.mp4"))
            clips = common.link_clips(temporary / name, count, sources)
            best = {"none": [], "process": []}
            for _ in range(arguments.repeats):
                for isolation, runs in best.items():
                    runs.append(measure(temporary, clips, isolation))
            none, process = ([min(values) for values in zip(*runs)] for runs in best.values())
            print(
                f"{name}: none {none[0]:.2f} processor seconds, {count / none[1]:.1f} clips/s; process {process[0]:.2f}, "
                f"{count / process[1]:.1f}; ratio {none[0] / process[0]:.2f}, {none[1] / process[1]:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
