"""s3_rate.py [--clips N] [--repeats K]: a decode-bound run from and to an S3 server on loopback (moto), against the same on disk.

Both decode N clips to 256 × 256 and write shards; the runs alternate, and the best of each counts. Prints clips a second and the
ratio. The server is a Python program on the same cores, which a real store is not.
"""

import argparse
import os
import pathlib
import shutil
import tempfile
import time

import boto3

import check_s3
import common


def seconds(environment, path):
    begin = time.monotonic()
    check_s3.simdrop(environment, "run", path, "--overwrite", "--progress", "none")
    return time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=42)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        process, address = check_s3.server(folder)
        try:
            os.environ["AWS_ENDPOINT_URL"] = address
            environment = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
            client = boto3.client(
                "s3",
                endpoint_url=address,
                aws_access_key_id="key",
                aws_secret_access_key="secret",
                region_name="us-east-1",
            )
            client.create_bucket(Bucket="data")
            common.link_clips(folder / "clips", arguments.clips)
            for clip in sorted((folder / "clips").iterdir()):
                client.upload_file(str(clip), "data", f"clips/{clip.name}")
            best = {}
            for number in range(arguments.repeats):
                for where, source, output in (
                    ("disk", folder / "clips", folder / f"out{number}"),
                    ("s3", "s3://data/clips", f"s3://data/out{number}"),
                ):
                    took = seconds(environment, check_s3.pipeline(folder, source, output))
                    best[where] = min(best.get(where, took), took)
                shutil.rmtree(folder / f"out{number}")
            rates = {where: arguments.clips / took for where, took in best.items()}
            print(f"disk {rates['disk']:.2f}, s3 {rates['s3']:.2f} clips/s: ratio {rates['s3'] / rates['disk']:.2f}")
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
