"""memory.py [--counts 200,2000] [--limit 1GiB]: peak memory of runs of different sizes, beside memory_limit.

The same small clips over and over, then 4K clips. What counts is that the peak does not grow with the number of
clips and stays within the limit and the models. Exits with 1 where a peak passes the limit by more than --slack.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import common

UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def number_of_bytes(text):
    value, unit = re.fullmatch(r"(\d+)\s*(|KiB|MiB|GiB)", text).groups()
    return int(value) * UNITS[unit]


def measure(folder, name, clips, limit, sizes):
    """Runs over `clips`; returns the peak resident bytes and the seconds."""
    spec = common.pipeline(name, [clips], folder / f"out-{name}", memory_limit=limit)
    if sizes:
        spec["stages"][0]["decode"]["also"] = [{"column": "large", "width": 256, "height": 256}]
    config = common.write_pipeline(folder / f"{name}.yaml", spec)
    begin = time.monotonic()
    with open(folder / "log", "wb") as log:
        process = common.simdrop("run", config, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"the run ended with {process.returncode}\n{(folder / 'log').read_text(errors='replace')[-4000:]}")
    return usage.ru_maxrss << 10, time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="200,2000", help="numbers of clips")
    parser.add_argument("--large", type=int, default=8, help="number of 4K clips")
    parser.add_argument("--limit", default="1GiB", help="memory_limit of the runs")
    parser.add_argument("--slack", default="256MiB", help="what the program and the models may take on top")
    parser.add_argument("--also-256", action="store_true", help="decode to 256 x 256 as well")
    arguments = parser.parse_args()
    limit, slack = number_of_bytes(arguments.limit), number_of_bytes(arguments.slack)

    small = [clip for clip in common.CLIPS if clip.stem in ("carphone", "bikes")]
    peaks = {}
    # Beside the repository, so that clips can be hard links.
    with tempfile.TemporaryDirectory(prefix="memory-", dir=common.ROOT / "target") as temporary:
        temporary = pathlib.Path(temporary)
        inputs = []
        for count in map(int, arguments.counts.split(",")):
            inputs.append((f"{count}-clips", common.link_clips(temporary / f"clips-{count}", count, small)))
        if arguments.large:
            source = temporary / "4k.mp4"
            picture = "testsrc2=size=3840x2160:rate=30:duration=2"
            subprocess.run(
                ["ffmpeg", "-v", "error", "-nostdin", "-f", "lavfi", "-i", picture, "-pix_fmt", "yuv420p",
                 "-preset", "veryfast", str(source)],
                check=True,
            )
            name = f"{arguments.large}-clips-4k"
            inputs.append((name, common.link_clips(temporary / name, arguments.large, [source])))
        for name, clips in inputs:
            peaks[name], seconds = measure(temporary, name, clips, arguments.limit, arguments.also_256)
            print(f"{name:14} peak {peaks[name] >> 20:5} MiB of {limit >> 20} MiB, {seconds:6.1f} s", flush=True)
    over = [name for name, peak in peaks.items() if peak > limit + slack]
    if over:
        sys.exit(f"over the limit by more than {slack >> 20} MiB: {over}")


if __name__ == "__main__":
    main()
