"""check_shards.py DATASET: reads a dataset with webdataset, PyAV, DuckDB and pyarrow and compares what they find.

Every shard that dataset.json lists is read back as a trainer does it; the metadata has to tell the same.
"""

import collections
import io
import json
import pathlib
import sys
import tarfile

import av
import duckdb
import numpy as np
import pyarrow.parquet as pq
import webdataset as wds

VIDEO = ("mp4", "avi", "flv", "m2ts", "mkv", "mpeg", "mpg", "mts", "ogv", "ts", "webm", "wmv")


def check(root):
    root = pathlib.Path(root)
    dataset = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    problems = []

    def expect(condition, message):
        if not condition:
            problems.append(message)

    # Metadata: two readers, the same rows, each clip once.
    files = [str(root / entry["path"]) for entry in dataset["clips"]]
    sql = "select clip_id, fate, shard, key, caption, \"offset\", size, source from read_parquet(?)"
    rows = duckdb.execute(sql, [files]).fetchall() if files else []
    by_pyarrow = [row for file in files for row in pq.read_table(file).to_pylist()]
    expect(
        sorted(row[0] for row in rows) == sorted(row["clip_id"] for row in by_pyarrow),
        "DuckDB and pyarrow see other clip ids",
    )
    for entry in dataset["clips"]:
        count = pq.read_metadata(root / entry["path"]).num_rows
        expect(count == entry["rows"], f"{entry['path']} has {count} rows, dataset.json says {entry['rows']}")
    twice = [key for key, count in collections.Counter(row[0] for row in rows).items() if count > 1]
    expect(not twice, f"clip ids more than once: {twice[:3]}")
    fates = collections.Counter(row[1] for row in rows)
    counts = dataset["counts"]
    for fate in ("kept", "dropped", "failed"):
        expect(fates[fate] == counts[fate], f"{fates[fate]} rows are {fate}, dataset.json says {counts[fate]}")
    expect(sum(fates.values()) == counts["clips"], f"{sum(fates.values())} rows, dataset.json says {counts['clips']}")
    kept = {row[3]: row for row in rows if row[1] == "kept"}
    expect(len(kept) == fates["kept"], "two kept clips have the same key")

    # Shards, as a trainer reads them.
    seen = {}
    for entry in dataset["shards"]:
        path = root / entry["path"]
        expect(path.stat().st_size == entry["bytes"], f"{entry['path']} has another size than dataset.json says")
        samples = list(wds.WebDataset(str(path), shardshuffle=False, empty_check=False))
        expect(
            len(samples) == entry["samples"],
            f"webdataset finds {len(samples)} samples in {entry['path']}, dataset.json says {entry['samples']}",
        )
        for sample in samples:
            key = sample["__key__"]
            expect(key not in seen, f"key {key} is there twice")
            expect("." not in key.rsplit("/", 1)[-1], f"key {key} has a dot")
            seen[key] = entry["path"]
            check_sample(sample, key, kept.get(key), entry["path"], expect)
    expect(set(seen) == set(kept), f"keys in shards and kept rows differ: {sorted(set(seen) ^ set(kept))[:3]}")
    check_places(root, kept, expect)

    if problems:
        print(f"{root}: {len(problems)} problems", *problems[:20], sep="\n  ", file=sys.stderr)
        return False
    print(f"{root}: {len(seen)} samples in {len(dataset['shards'])} shards, {len(rows)} clips: all readers agree")
    return True


def check_sample(sample, key, row, shard, expect):
    """One sample: its caption and metadata are the row's, its video plays."""
    if row is None:
        return
    expect(row[2] == shard, f"{key} is in {shard}, its row says {row[2]}")
    expect("txt" in sample and "json" in sample, f"{key} lacks .txt or .json: {sorted(sample)}")
    expect(sample.get("txt", b"").decode("utf-8") == (row[4] or ""), f"{key}: the caption is not the row's")
    metadata = json.loads(sample.get("json", b"{}"))
    expect(metadata.get("clip_id") == row[0], f"{key}: clip_id in .json is {metadata.get('clip_id')}, not {row[0]}")
    videos = [extension for extension in VIDEO if extension in sample]
    arrays = [extension for extension in sample if extension.endswith("npy")]
    expect(len(videos) == 1 or arrays, f"{key} has neither one video nor frames: {sorted(sample)}")
    for extension in videos:
        try:
            with av.open(io.BytesIO(sample[extension])) as container:
                frame = next(container.decode(video=0))
            expect(frame.width > 0, f"{key}.{extension} has an empty frame")
        except (av.FFmpegError, StopIteration) as error:
            expect(False, f"{key}.{extension} does not play: {error!r}")
    for extension in arrays:
        frames = np.load(io.BytesIO(sample[extension]), allow_pickle=False)
        expect(
            frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[3] == 3,
            f"{key}.{extension} is {frames.dtype} {frames.shape}",
        )


def check_places(root, kept, expect):
    """`offset` and `size` of a row point at the sample: a reader can fetch one clip out of a shard."""
    for key, row in kept.items():
        with open(root / row[2], "rb") as shard:
            shard.seek(row[5])
            piece = shard.read(row[6])
        try:
            with tarfile.open(fileobj=io.BytesIO(piece), mode="r:") as archive:
                names = archive.getnames()
        except tarfile.ReadError as error:
            names = [repr(error)]
        expect(
            names and all(name.split(".", 1)[0] == key for name in names),
            f"{key}: offset and size point at {names}",
        )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    results = [check(root) for root in sys.argv[1:]]
    sys.exit(not all(results))
