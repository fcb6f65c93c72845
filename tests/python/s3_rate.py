"""s3_rate.py [--clips N] [--repeats K]: a decode-bound run from and to an S3 server on loopback (moto), against the same on disk.

Both decode N clips to 256 × 256 and write shards; the runs alternate, and the best of each counts. Prints clips a second and the
ratio, and the processor seconds of simdrop and of the server. The server is a Python program on the same machine, which a real
store is not: it has the last core for itself, simdrop the others, with and without S3.
"""

import argparse
import os
import pathlib
import resource
import shutil
import tempfile
import time


import check_s3
import common


def processor():
    """User and system seconds of the children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def seconds(environment, path):
    """Wall and processor seconds of one run."""
    begin, used = time.monotonic(), processor()
    check_s3.simdrop(environment, "run", path, "--overwrite", "--progress", "none")
    return time.monotonic() - begin, processor() - used


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=42)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        process, address = check_s3.server(folder)
        try:
            environment, client = check_s3.access(address)
            *cores, last = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(process.pid, {last})
            os.sched_setaffinity(0, cores)  # simdrop inherits it
            common.link_clips(folder / "clips", arguments.clips)
            for clip in sorted((folder / "clips").iterdir()):
                client.upload_file(str(clip), "data", f"clips/{clip.name}")
            best = {}
            for number in range(arguments.repeats):
                for where, source, output in (
                    ("disk", folder / "clips", folder / f"out{number}"),
                    ("s3", "s3://data/clips", f"s3://data/out{number}"),
                ):
                    begin = common.processor_seconds(process.pid)
                    took = (*seconds(environment, check_s3.pipeline(folder, source, output)), common.processor_seconds(process.pid) - begin)
                    best[where] = min(best.get(where, took), took)
                shutil.rmtree(folder / f"out{number}")
            for where, (wall, own, server) in best.items():
                rate = arguments.clips / wall
                print(f"{where}: {rate:.2f} clips/s, simdrop {own:.2f} processor seconds, the server {server:.2f}")
            (disk, disk_own, _), (s3, s3_own, _) = best["disk"], best["s3"]
            print(f"s3/disk: {disk / s3:.2f} of the rate, {s3_own / disk_own:.2f} of the processor seconds")
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
