"""check_s3.py: clips from, and a dataset to, an S3 server that is not ours (moto), with what its protocol has of corners.

A bucket with more objects than one page of a listing, keys with blanks, signs and letters of other alphabets, an object that is
uploaded in parts, and two runs of which the second adds a clip. Compared with the same run on disk, and read with boto3.
"""

import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request

import boto3

import common

CLIP = common.ROOT / "data/clips/real/carphone.mp4"
KEYS = ["clips/a.mp4", "clips/with blank & sign #1+2%.mp4", "clips/ünïcode/ж.mp4", "clips/deep/er/b.mp4"]
OTHERS = 1100  # objects that are no videos: more than a page of a listing


def server(folder):
    """Starts moto; returns the process and its address."""
    port = common.free_port()
    log = open(folder / "moto.log", "wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            urllib.request.urlopen(f"{address}/moto-api/", timeout=1).close()
            return process, address
        except OSError:
            time.sleep(0.1)
    process.kill()
    sys.exit(f"moto did not start; see\n{(folder / 'moto.log').read_text(errors='replace')[-2000:]}")


def access(address):
    """Environment and client by which the server is reached, with a bucket `data` in it."""
    environment = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
        "AWS_REGION": "us-east-1",
    }
    client = boto3.client(
        "s3", endpoint_url=address, aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1"
    )
    client.create_bucket(Bucket="data")
    return environment, client


def simdrop(environment, *arguments):
    made = subprocess.run(
        [common.SIMDROP, *arguments], capture_output=True, text=True, env={**os.environ, **environment}
    )
    if made.returncode:
        sys.exit(f"simdrop {' '.join(arguments)} ended with {made.returncode}\n{made.stdout}{made.stderr}")
    return made.stdout


def pipeline(folder, source, output):
    path = folder / "pipeline.yaml"
    path.write_text(
        f"name: s3\nsources: [{{path: '{source}', kind: real}}]\n"
        "stages:\n  - decode: {frames: 8, width: 256, height: 256}\n"
        # Frames of more than a part's bytes in one shard, so that it goes up in parts.
        f"output: {{path: '{output}', payload: [source, frames]}}\nrun: {{clips_per_unit: 16}}\n"
    )
    return str(path)


def rows(environment, dataset):
    sql = "select split_part(uri, 'clips/', 2) as name, fate, frame_count, shard is not null as placed from clips order by 1"
    return json.loads(simdrop(environment, "sql", dataset, sql, "--format", "json"))


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        process, address = server(folder)
        try:
            check(folder, address)
        finally:
            process.kill()
            process.wait()


def check(folder, address):
    environment, client = access(address)
    for key in KEYS:
        client.upload_file(str(CLIP), "data", key)
        local = folder / key
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(CLIP.read_bytes())
    for number in range(12):
        client.upload_file(str(CLIP), "data", f"clips/many/{number:02}.mp4")
        (folder / "clips/many").mkdir(exist_ok=True)
        (folder / f"clips/many/{number:02}.mp4").write_bytes(CLIP.read_bytes())
    for number in range(OTHERS):
        client.put_object(Bucket="data", Key=f"clips/aa/{number:04}.txt", Body=b"no video")

    remote = pipeline(folder, "s3://data/clips", "s3://data/out")
    text = simdrop(environment, "run", remote, "--progress", "none")
    simdrop(environment, "verify", "s3://data/out")
    simdrop({}, "run", pipeline(folder, folder / "clips", folder / "out"), "--progress", "none")
    there, here = rows(environment, "s3://data/out"), rows({}, str(folder / "out"))
    assert there == here and len(there) == len(KEYS) + 12, (there, here)
    assert all(row["fate"] == "kept" for row in there), there

    dataset = json.loads(client.get_object(Bucket="data", Key="out/dataset.json")["Body"].read())
    assert "secret-of-the-test" not in json.dumps(dataset) + text
    parts = 0
    for shard in dataset["shards"]:
        answer = client.get_object(Bucket="data", Key=f"out/{shard['path']}")
        parts += "-" in answer["ETag"]  # the ETag of an object that came in parts has their number
        body = answer["Body"].read()
        assert len(body) == shard["bytes"], shard
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            assert len([member for member in archive if member.name.endswith(".mp4")]) == shard["samples"], shard
    assert parts, "no shard came in parts"
    assert not client.list_multipart_uploads(Bucket="data").get("Uploads"), "an upload was left open"

    client.upload_file(str(CLIP), "data", "clips/new.mp4")
    simdrop(environment, "run", pipeline(folder, "s3://data/clips", "s3://data/out"), "--progress", "none")
    simdrop(environment, "verify", "s3://data/out")
    dataset = json.loads(client.get_object(Bucket="data", Key="out/dataset.json")["Body"].read())
    assert dataset["version"] == 2 and dataset["counts"]["kept"] == len(KEYS) + 13, dataset["counts"]
    print(f"s3: {len(there) + 1} clips among {OTHERS} other objects, {parts} shards in parts, all as on disk")


if __name__ == "__main__":
    main()
