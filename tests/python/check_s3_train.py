"""check_s3_train.py: a training wholly in a bucket (moto) gives the bytes of the same training on disk.

Two datasets, one of frames and one of videos, first weights and the output lie in s3://; the training is killed behind a checkpoint
and gone on with. The same on disk, on copies of the datasets, is not killed: its model and its checkpoints have the same bytes,
its metrics are the same but for times.
"""

import json
import pathlib
import signal
import subprocess
import tempfile
import time


import check_s3
import common

STEPS = 32
EVERY = 8
FILES = [f"checkpoints/step-{STEPS - EVERY:08}.safetensors", f"checkpoints/step-{STEPS:08}.safetensors", "model.onnx"]


def dataset(folder, name, clips, payload):
    """A pipeline from the bucket into the bucket: windows of clips as frames, or as videos."""
    sources = [{"path": f"s3://data/clips/{clip}.mp4", "kind": "real"} for clip in clips]
    stages = [
        {"split": {"length_s": 1, "minimum_s": 0.5}},
        {"decode": {"frames": 8, "width": 32, "height": 32}},
        {"caption": {"from": [{"template": "a clip of {{ duration_s | round(1) }} s"}]}},
    ]
    output = {"path": f"s3://data/{name}", "payload": [payload]}
    return common.write_pipeline(
        folder / f"{name}.yaml", {"name": name, "sources": sources, "stages": stages, "output": output}
    )


def training(folder, base, name, **changes):
    """A training with everything below `base`."""
    spec = {
        "name": "bucket",
        "model": "tiny",
        "data": [
            {"dataset": f"{base}/frames", "weight": 0.5},
            {"dataset": f"{base}/videos", "weight": 0.5, "where": "duration_s > 0.9"},
        ],
        "steps": STEPS,
        "optimizer": {"warmup": 2, "learning_rate": 0.002},
        "checkpoints": {"every": EVERY, "keep": 2},
        "validation": {"every": 16, "share": 0.3, "clips": 8},
        "output": {"path": f"{base}/{name}"},
        "run": {"log_every": EVERY},
        **changes,
    }
    return common.write_pipeline(folder / f"{name}.yaml", spec)


def tensors(checkpoint):
    """All of a safetensors file but what it says of itself, which the name of the graphs is a part of."""
    length = int.from_bytes(checkpoint[:8], "little")
    header = json.loads(checkpoint[8 : 8 + length])
    return {name: entry for name, entry in header.items() if name != "__metadata__"}, checkpoint[8 + length :]


def metrics(environment, base):
    sql = "select step, split, source, round(loss, 12) as loss, clips from metrics order by 1, 2, 3"
    return json.loads(check_s3.simdrop(environment, "sql", base, sql, "--format", "json"))


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        process, address = check_s3.server(folder)
        try:
            check(folder, address)
        finally:
            process.kill()
            process.wait()


def check(folder, address):
    here = common.environment()
    environment, client = check_s3.access(address)
    there = {**here, **environment}

    def keys(prefix):
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="data", Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def get(key):
        return client.get_object(Bucket="data", Key=key)["Body"].read()

    def train(environment, base, name, *more, **changes):
        path = training(folder, base, name, **changes)
        return check_s3.simdrop(environment, "train", path, "--progress", "none", *more)

    for clip in common.CLIPS:
        client.upload_file(str(clip), "data", f"clips/{clip.name}")
    check_s3.simdrop(there, "run", dataset(folder, "frames", ["carphone", "bikes"], "frames"), "--progress", "none")
    check_s3.simdrop(there, "run", dataset(folder, "videos", ["carphone", "athlete-cam01"], "source"), "--progress", "none")
    for key in keys("frames/") + keys("videos/"):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(get(key))

    for file in sorted((common.ROOT / "models/graphs/tiny").iterdir()):
        client.upload_file(str(file), "data", f"graphs/{file.name}")
    for file in sorted((common.ROOT / "data/models").glob("minilm*")):
        client.upload_file(str(file), "data", f"models/{file.name}")

    first = {"steps": 4, "checkpoints": {"every": 4, "keep": 1}, "seed": 7}
    encoder = "models/minilm-l6-v2-int8.onnx"
    # Graphs and encoder of one's own, which is what one names them for.
    train(there, "s3://data", "first", model="s3://data/graphs", condition={"encoder": f"s3://data/{encoder}"}, **first)
    train(here, folder, "first", condition={"encoder": str(common.ROOT / "data" / encoder)}, **first)
    weights = "first/checkpoints/step-00000004.safetensors"
    assert tensors(get(weights)) == tensors((folder / weights).read_bytes())
    (folder / weights).write_bytes(get(weights))

    whole = train(here, folder, "model", init=str(folder / weights))
    assert f"{STEPS} of them now" in whole, whole
    path = training(folder, "s3://data", "model", init=f"s3://data/{weights}")
    killed = subprocess.Popen(
        [common.SIMDROP, "train", path, "--progress", "none"], env=there, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    while not keys(f"model/checkpoints/step-{2 * EVERY:08}") and killed.poll() is None:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    said, _ = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, f"it was over before it could be killed: {said.decode()}"
    check_s3.simdrop(there, "validate", path)
    again = train(there, "s3://data", "model", "--resume", init=f"s3://data/{weights}")
    now = int(again.split(" of them now")[0].rpartition(" ")[2])
    assert 0 < now <= STEPS - 2 * EVERY, again
    for file in FILES:
        assert get(f"model/{file}") == (folder / "model" / file).read_bytes(), f"{file} is another one than on disk"
    assert [key.rpartition("/")[2] for key in keys("model/checkpoints/")] == [file.rpartition("/")[2] for file in FILES[:2]]
    losses = metrics(there, "s3://data/model")
    expected = metrics(here, str(folder / "model"))
    assert losses == expected and len(losses) > 2, [pair for pair in zip(losses, expected) if pair[0] != pair[1]]
    assert not client.list_multipart_uploads(Bucket="data").get("Uploads"), "an upload was left open"
    print(f"s3: a training of {STEPS} steps, killed and gone on with for {now}: {', '.join(FILES)} as on disk")


if __name__ == "__main__":
    main()
